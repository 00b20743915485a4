"""Labelled sentences: read, check, split by document."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from policy_tagger.inference.codebook import MAY, NO_LABEL, Codebook
from policy_tagger.inference.encoding import normalise
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import file_hash
from policy_tagger.inference.schema import nearest
from policy_tagger.inference.sources import STREAM, Source, find_sources
from policy_tagger.inference.tables import Row, column_types, read_rows, require_column
from policy_tagger.train.similarity import near_duplicates

SPLITS = ("train", "validation", "test")
FEW_POSITIVES = 10


@dataclass(frozen=True)
class LabelledSentence:
    """One row of a labelled file."""

    document_id: str
    sentence_id: str
    text: str
    labels: dict[str, list[str] | None]
    """Task id → label ids; None where the task was not annotated."""
    may: dict[str, list[str]]
    """Task id → labels on which a second reading differs: given or not, `evaluate` also counts without minding them."""
    split: str | None
    place: str
    """File and row, for messages."""


@dataclass(frozen=True)
class Finding:
    """Something that `check` has to say."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(frozen=True)
class LabelledData:
    """Sentences of all files, in order, and what is wrong with them."""

    sentences: list[LabelledSentence]
    findings: list[Finding]
    hashes: dict[str, str]
    """File → sha256 of its bytes."""

    @property
    def errors(self) -> list[str]:
        """The messages that forbid training."""
        return [finding.message for finding in self.findings if finding.severity == "error"]

    def select(self, split: str) -> list[LabelledSentence]:
        """The sentences of one split, in order."""
        return [sentence for sentence in self.sentences if sentence.split == split]


def read_labelled(files: Sequence[str], codebook: Codebook) -> LabelledData:
    """Read labelled files; problems of single rows are collected, not raised.

    Raises:
        InputError: a file cannot be read, or has no `text` column or no column of any task.
    """
    sentences: list[LabelledSentence] = []
    findings: list[Finding] = []
    hashes = {}
    if STREAM in files:
        raise InputError("Labelled data must be files. Found - (standard input); save it as a file.")
    with ExitStack() as stack:
        sources = find_sources(files, None, stack)
        for source in sources:
            _require_columns(source, codebook, findings)
        for source in sources:
            hashes[source.name] = file_hash(source.path)
            for row in read_rows(source):
                sentence = _labelled_sentence(row, codebook, findings)
                if sentence:
                    sentences.append(sentence)
    if not sentences and not findings:
        findings.append(Finding("error", f"{', '.join(files)} must have rows. Found none."))
    return LabelledData(sentences, findings, hashes)


def check(data: LabelledData, codebook: Codebook) -> list[Finding]:
    """Everything worth knowing before training: problems of rows, splits, duplicates, rare labels."""
    findings = list(data.findings)
    findings += _documents_in_two_splits(data.sentences)
    findings += _repeated_ids(data.sentences)
    findings += _duplicates(data.sentences)
    findings += _rare_labels(data.sentences, codebook)
    return findings


def split_by_document(data: LabelledData, validation_fraction: float, test_fraction: float, seed: int) -> LabelledData:
    """Give every sentence a split: the file's where it has one, else drawn by document from the seed alone.

    Raises:
        InputError: problems that forbid training, or a split for training or validation without sentences.
    """
    found = [*_documents_in_two_splits(data.sentences), *_repeated_ids(data.sentences)]
    errors = data.errors + [finding.message for finding in found]
    given = {sentence.split is not None for sentence in data.sentences}
    if given == {True, False}:
        first = next(sentence for sentence in data.sentences if sentence.split is None)
        errors.append(
            f"{first.place}, field split: expected a split as in other rows, found none. Fill or drop the column."
        )
    if errors:
        raise InputError(errors)
    if given == {False}:
        chosen = _draw_splits(data.sentences, validation_fraction, test_fraction, seed)
        data = replace(data, sentences=[replace(s, split=chosen[s.document_id]) for s in data.sentences])
    for split in SPLITS[:2]:
        if not data.select(split):
            raise InputError(
                f"The data must have sentences for {split}. Found none: label more documents, or change data.validation_fraction."
            )
    return data


def texts_by_document(sentences: Iterable[LabelledSentence]) -> list[list[str]]:
    """The texts of neighbouring sentences of one document, as lists."""
    return [[s.text for s in run] for _, run in groupby(sentences, key=lambda sentence: sentence.document_id)]


def _require_columns(source: Source, codebook: Codebook, findings: list[Finding]) -> None:
    if source.format == "text":
        raise InputError(
            f"{source.name} must be a table (JSONL, CSV, TSV, Parquet) of labelled sentences. Found plain text."
        )
    columns = column_types(source)
    require_column(columns, "text", source, "Rename the column with the sentences.")
    if not any(task in columns for task in codebook.tasks):
        raise InputError(
            f"{source.name} must have a column for a task of the codebook ({', '.join(codebook.tasks)}). "
            f"Found {', '.join(columns)}. Rename the column, or name the codebook that fits with --codebook."
        )
    known = {*codebook.tasks, *(task + MAY for task in codebook.tasks), "document_id", "sentence_id", "text", "split"}
    for column in columns:
        guess = nearest(column, known) if column not in known else None
        if guess and guess not in columns:
            findings.append(Finding("warning", f"{source.name}: column `{column}` is ignored. Did you mean `{guess}`?"))


def _labelled_sentence(row: Row, codebook: Codebook, findings: list[Finding]) -> LabelledSentence | None:
    place = f"{row.source}, row {row.number}"
    if row.problem:
        findings.append(Finding("error", f"{place}: {row.problem}."))
        return None
    fields = row.fields
    problems = []
    text = fields.get("text")
    if not isinstance(text, str):
        problems.append(f"text: expected text, found {'null' if text is None else type(text).__name__}")
    elif not normalise(text):
        problems.append("text: expected a sentence, found nothing")
    split = None if fields.get("split") == "" else fields.get("split")
    if split is not None and split not in SPLITS:
        problems.append(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    labels: dict[str, list[str] | None] = {}
    may: dict[str, list[str]] = {}
    for name, task in codebook.tasks.items():
        try:
            labels[name] = task.parse(fields[name]) if _filled(fields.get(name)) else None
        except InputError as error:
            problems.append(f"{name}: {error}")
        try:
            may[name] = task.parse_list(fields[name + MAY]) if _filled(fields.get(name + MAY)) else []
        except InputError as error:
            problems.append(f"{name + MAY}: {error}")
    findings += [Finding("error", f"{place}, field {problem}.") for problem in problems]
    if problems:
        return None
    document_id, sentence_id = fields.get("document_id"), fields.get("sentence_id")
    has_document = document_id is not None and document_id != ""
    return LabelledSentence(
        document_id=str(document_id) if has_document else f"{row.source}:{row.number}",
        sentence_id="" if sentence_id is None else str(sentence_id),
        text=normalise(str(text)),
        labels=labels,
        may=may,
        split=split,
        place=place,
    )


def _filled(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _documents_in_two_splits(sentences: Sequence[LabelledSentence]) -> list[Finding]:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for sentence in sentences:
        if sentence.split:
            places[sentence.document_id].setdefault(sentence.split, sentence.place)
    return [
        Finding(
            "error",
            f"document {document_id} must be in one split. Found "
            + " and ".join(f"{split} ({place})" for split, place in found.items())
            + ". Move its sentences together.",
        )
        for document_id, found in places.items()
        if len(found) > 1
    ]


def _repeated_ids(sentences: Sequence[LabelledSentence]) -> list[Finding]:
    first: dict[tuple[str, str], str] = {}
    findings = []
    for sentence in sentences:
        key = (sentence.document_id, sentence.sentence_id)
        if sentence.sentence_id and key in first:
            findings.append(
                Finding(
                    "error",
                    f"{sentence.place}, field sentence_id: expected a new id in document {sentence.document_id}, "
                    f"found '{sentence.sentence_id}' again (first in {first[key]}).",
                )
            )
        first.setdefault(key, sentence.place)
    return findings


def _duplicates(sentences: Sequence[LabelledSentence]) -> list[Finding]:
    """One finding for each sentence that occurs again, and one for each pair of different sentences that are nearly equal."""
    groups: dict[str, list[LabelledSentence]] = defaultdict(list)
    for sentence in sentences:
        groups[sentence.text].append(sentence)
    findings = []
    for first, *others in groups.values():
        if others:
            more = f" and {len(others) - 1:,} other rows" if len(others) > 1 else ""
            message = f"{others[0].place}, field text: the same sentence as {first.place}{more}"
            findings.append(Finding("warning", message + _leak([first, *others]) + "."))
    representatives = [group[0] for group in groups.values()]
    for earlier, later, similarity in near_duplicates([sentence.text for sentence in representatives]):
        one, other = representatives[earlier], representatives[later]
        message = f"{other.place}, field text: nearly the same sentence ({similarity:.2f}) as {one.place}"
        findings.append(Finding("warning", message + _leak([*groups[one.text], *groups[other.text]]) + "."))
    return findings


def _leak(sentences: Sequence[LabelledSentence]) -> str:
    splits = list(dict.fromkeys(sentence.split for sentence in sentences if sentence.split))
    return f", and in more than one split ({', '.join(splits)})" if len(splits) > 1 else ""


def _rare_labels(sentences: Sequence[LabelledSentence], codebook: Codebook) -> list[Finding]:
    findings = []
    for name, task in codebook.tasks.items():
        counts = Counter(label for sentence in sentences for label in sentence.labels.get(name) or [])
        annotated = sum(sentence.labels.get(name) is not None for sentence in sentences)
        if annotated < len(sentences):
            message = f"{name}: {len(sentences) - annotated} of {len(sentences)} sentences are not annotated and teach nothing about it"
            hint = f" (for 'none of the labels' write {NO_LABEL} in a CSV cell, or [] in JSONL)"
            findings.append(Finding("warning", message + (hint if task.kind == "multi_label" else "") + "."))
        for label in task.label_ids:
            if counts[label] < FEW_POSITIVES:
                message = f"{name}: label {label} has {counts[label]} sentences. Expected at least {FEW_POSITIVES} to learn from."
                findings.append(Finding("warning", message))
    return findings


def _draw_splits(
    sentences: Sequence[LabelledSentence], validation_fraction: float, test_fraction: float, seed: int
) -> dict[str, str]:
    """Each document's split depends on its id and the seed alone, so that added documents do not move the others."""

    def draw(document_id: str) -> float:
        digest = hashlib.sha256(f"{seed}:{document_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    chosen = {}
    for document_id in {sentence.document_id for sentence in sentences}:
        place = draw(document_id)
        if place < test_fraction:
            chosen[document_id] = "test"
        else:
            chosen[document_id] = "validation" if place < test_fraction + validation_fraction else "train"
    return chosen
