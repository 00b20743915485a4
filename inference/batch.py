"""Files → tagged rows → files, in constant memory."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from policy_tagger.inference.ahead import ahead
from policy_tagger.inference.documents import Document, Item, Unit, check_sources, read_documents
from policy_tagger.inference.encoding import EncodedWindow
from policy_tagger.inference.error_rows import ErrorRows
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import file_hash
from policy_tagger.inference.part_files import PART_ROWS, PartFiles, Summary, explained
from policy_tagger.inference.sources import FORMATS, STREAM, Source, find_sources
from policy_tagger.inference.tagger import PolicyTagger, TaggedSentence
from policy_tagger.inference.writers import open_writer

GROUP_SENTENCES = 2048  # sentences computed together; memory grows with it, speed hardly
GROUPS_AHEAD = 2  # groups that wait between reading, network and writing
OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FOLDER_FORMAT = "parquet"
FRONT_COLUMNS = ("document_id", "sentence_id", "text")


@dataclass(frozen=True)
class PredictOptions:
    """What to read and write."""

    inputs: Sequence[str]
    """Files, folders, `-` for standard input."""
    output: str = STREAM
    """A file, a folder of part files, `-` for standard output."""
    unit: Unit = "document"
    """A row's text is a document to be split, or one sentence."""
    text_column: str = "text"
    """Column with the text."""
    input_format: str | None = None
    """Format of standard input."""
    output_format: str | None = None
    """Format of standard output (JSON lines where None) or of part files (Parquet where None); a file's ending decides otherwise."""
    resume: bool = False
    """Go on with a run that broke off."""
    errors: str | None = None
    """JSON lines file for copies of the rows with an `error`."""
    max_errors: int | None = None
    """Stop after more rows with an `error` than this."""


@dataclass(frozen=True)
class Job:
    """Checked options: what to read, and the columns to write."""

    options: PredictOptions
    output_format: str
    sources: list[Source]
    columns: "OutputColumns"


def prepare(tagger: PolicyTagger, options: PredictOptions, stack: ExitStack) -> Job:
    """Check everything that can be checked before anything is written.

    Args:
        stack: Removes the temporary copy of standard input when it closes.

    Raises:
        InputError: inputs or output cannot be used; all problems of the inputs are listed.
    """
    output_format = _output_format(options)
    sources = find_sources(options.inputs, options.input_format, stack)
    _refuse_output_among_inputs(options, sources)
    columns = OutputColumns(tagger, check_sources(sources, options.unit, options.text_column))
    return Job(options, output_format, sources, columns)


def predict_files(
    tagger: PolicyTagger, options: PredictOptions, on_progress: Callable[[Summary], None] | None = None
) -> Summary:
    """Tag every sentence of the inputs and write one row a sentence, in input order.

    Reading and splitting, the network, and writing go on side by side. A file appears under its name only when complete; until then
    its rows are part files in `NAME.parts`, from which a run that broke off goes on. A folder keeps its part files.

    Raises:
        InputError: inputs or output cannot be used (found out before anything is written wherever possible), too many rows with an
            error, or an output that belongs to another run.
    """
    with ExitStack() as stack:
        job = prepare(tagger, options, stack)
        output = stack.enter_context(_open_output(job))
        if not output.is_complete:
            errors = stack.enter_context(
                ErrorRows(options.errors, options.max_errors, output.summary.errors, output.error_bytes, options.resume)
            )
            part = Summary()
            for group in tag_sources(job.sources, options, tagger, job.columns, output.summary.documents):
                output.write(group.rows)
                errors.add(group.rows)
                part += group.summary
                if on_progress:
                    on_progress(output.summary + part)
                if group.ends_part:
                    output.commit(part, errors.bytes_written)
                    part = Summary()
        output.complete()
    return output.summary


@dataclass(frozen=True)
class TaggedGroup:
    """Rows that are written together."""

    rows: list[dict[str, Any]]
    summary: Summary
    ends_part: bool


def tag_sources(
    sources: Sequence[Source], options: PredictOptions, tagger: PolicyTagger, columns: "OutputColumns", skip: int = 0
) -> Iterator[TaggedGroup]:
    """The output rows of sources in order; reading and splitting, and the network, each in a thread of its own.

    Args:
        skip: Documents (or pieces of long ones) to leave out at the start.
    """
    documents = read_documents(sources, options.unit, options.text_column, tagger.split, skip)
    groups = ahead(_groups(documents, tagger), GROUPS_AHEAD)
    for group, sentences in ahead(((group, _tag(group, tagger)) for group in groups), GROUPS_AHEAD):
        rows = list(columns.rows(group.documents, iter(sentences)))
        summary = Summary(
            documents=len(group.documents),
            sentences=len(sentences),
            errors=sum(row["error"] is not None for row in rows),
            truncated=sum(sentence.truncated for sentence in sentences),
        )
        yield TaggedGroup(rows, summary, group.ends_part)


@dataclass(frozen=True)
class _Group:
    """Documents that are computed together."""

    documents: list[Document]
    windows: list[EncodedWindow]
    """With all their sentences, in order."""
    ends_part: bool


def _groups(documents: Iterator[Document], tagger: PolicyTagger) -> Iterator[_Group]:
    """Documents in groups of about GROUP_SENTENCES, encoded; what was read before a reader failed still comes through.

    A part begins with a new group, so that groups are the same whether or not the run began before it.
    """
    group: list[Document] = []
    in_group = in_part = 0
    failure: InputError | None = None
    while True:
        try:
            document = next(documents, None)
        except InputError as error:
            document, failure = None, error
        if document:
            group.append(document)
            in_group += len(document.items)
            in_part += len(document.items)
        ends_part = in_part >= PART_ROWS or (not document and not failure)
        if group and (in_group >= GROUP_SENTENCES or ends_part or not document):
            yield _Group(group, tagger.encoding.encode_documents([d.sentences for d in group]), ends_part)
            group, in_group = [], 0
            in_part = 0 if ends_part else in_part
        if failure:
            raise failure
        if not document:
            return


def _tag(group: _Group, tagger: PolicyTagger) -> list[TaggedSentence]:
    sentences = [sentence for document in group.documents for sentence in document.sentences]
    return tagger.label(sentences, group.windows, tagger.probabilities(group.windows))


class OutputColumns:
    """The one schema of predictions: ids and text, two columns a task, `truncated`, `error`, then the input's columns.

    An input column with the name of one of ours becomes `input_NAME`.

    Args:
        kept: The input's columns with the Arrow types that hold them.
    """

    def __init__(self, tagger: PolicyTagger, kept: Mapping[str, Any]):
        import pyarrow as pa

        checkpoint = tagger.checkpoint
        self._tasks = list(checkpoint.codebook.tasks)
        self.types: dict[str, Any] = dict.fromkeys(FRONT_COLUMNS, pa.string())
        for name, task in checkpoint.codebook.tasks.items():
            self.types[name] = pa.list_(pa.string()) if task.kind == "multi_label" else pa.string()
            self.types[f"{name}_probabilities"] = pa.struct([(label, pa.float64()) for label in task.label_ids])
        self.types |= {"truncated": pa.bool_(), "error": pa.string()}
        self._kept: dict[str, str] = {}
        for name, kind in kept.items():
            column = name
            while column in self.types or (column != name and column in kept):
                column = f"input_{column}"
            self._kept[name] = column
            self.types[column] = kind
        self.names = list(self.types)
        self.provenance = {"model": checkpoint.model_id, "codebook": checkpoint.codebook.identity, **tagger.provenance}

    def rows(self, documents: Sequence[Document], tagged: Iterator[TaggedSentence]) -> Iterator[dict[str, Any]]:
        """The documents' rows; takes one of `tagged` for each sentence."""
        for document in documents:
            for item in document.items:
                row = self._row(document.document_id, item)
                if item.problem is None:
                    found = next(tagged)
                    row["truncated"] = found.truncated
                    for task in self._tasks:
                        row[task], row[f"{task}_probabilities"] = found.labels[task], found.probabilities[task]
                yield row

    def _row(self, document_id: str, item: Item) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(self.names)
        row.update(document_id=document_id, sentence_id=item.sentence_id, text=item.text)
        row.update((column, item.kept.get(name)) for name, column in self._kept.items())
        late = [name for name in item.kept if name not in self._kept]
        notes = [f"column `{name}` is not among those of the first rows and is left out" for name in late]
        row["error"] = "; ".join(filter(None, [item.problem, *notes])) or None
        return row


class _Output(Protocol):
    """Where rows go."""

    summary: Summary
    """What earlier runs into this output did."""
    error_bytes: int
    """Length of the error file that goes with it."""
    is_complete: bool

    def write(self, rows: list[dict[str, Any]]) -> None: ...
    def commit(self, summary: Summary, error_bytes: int) -> None: ...
    def complete(self) -> None: ...
    def __enter__(self) -> "_Output": ...
    def __exit__(self, *_: object) -> None: ...


class _StandardOutput:
    """Rows to the next program; nothing can be gone on with."""

    def __init__(self, output_format: str, columns: "OutputColumns"):
        if sys.stdout is None:
            raise InputError("Standard output must be open. Found it closed; name a file with -o.")
        self.summary, self.error_bytes, self.is_complete = Summary(), 0, False
        self._writer = open_writer(sys.stdout.buffer, output_format, columns.types)

    def write(self, rows: list[dict[str, Any]]) -> None:
        with explained("standard output"):
            self._writer.write(rows)

    def commit(self, summary: Summary, error_bytes: int) -> None:
        """What is written is written."""
        self.summary += summary

    def complete(self) -> None:
        with explained("standard output"):
            self._writer.close()

    def __enter__(self) -> "_StandardOutput":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _open_output(job: Job) -> _Output:
    options = job.options
    if options.output != STREAM:
        return open_parts(job)
    if options.resume:
        raise InputError("--resume needs an output that can be gone on with. Name a file or folder with -o.")
    return _StandardOutput(job.output_format, job.columns)


def open_parts(job: Job, **more: Any) -> PartFiles:
    """The part files of a job that writes to a file or folder.

    Args:
        more: What else decides the output, besides model, options and inputs.
    """
    options, path = job.options, Path(job.options.output)
    is_file = bool(path.suffix)
    if is_file and path.is_dir():
        raise InputError(
            f"-o {path} must be a file, as its ending says. Found a folder; name a folder without an ending."
        )
    run = {
        **job.columns.provenance,
        "unit": options.unit,
        "text_column": options.text_column,
        "format": job.output_format,
        "errors": options.errors,
        "columns": job.columns.names,
        "inputs": [{"name": source.name, "sha256": file_hash(source.path)} for source in job.sources],
        **more,
    }
    folder = path.with_name(path.name + ".parts") if is_file else path
    return PartFiles(folder, run, job.output_format, job.columns.types, options.resume, path if is_file else None)


def _refuse_output_among_inputs(options: PredictOptions, sources: Sequence[Source]) -> None:
    if options.output == STREAM:
        return
    output = Path(options.output).resolve()
    folders = [Path(name).resolve() for name in options.inputs if name != STREAM and Path(name).is_dir()]
    read = [source.path.resolve() for source in sources]
    if any(output == path or output in path.parents for path in read) or any(
        folder == output or folder in output.parents for folder in folders
    ):
        raise InputError(
            f"-o {options.output} must not be among the inputs: it would be read as one. Name another place."
        )


def _output_format(options: PredictOptions) -> str:
    if options.output == STREAM:
        return options.output_format or "jsonl"
    suffix = Path(options.output).suffix.lower()
    if not suffix:
        return options.output_format or FOLDER_FORMAT
    if options.output_format:
        raise InputError(
            f"--output-format is for standard output ({STREAM}) and folders; the ending of {options.output} says what it is."
        )
    if FORMATS.get(suffix) not in OUTPUT_FORMATS:
        known = ", ".join(ending for ending, name in FORMATS.items() if name in OUTPUT_FORMATS)
        raise InputError(f"-o must name a file that ends in one of {known}, or a folder. Got '{options.output}'.")
    return FORMATS[suffix]
