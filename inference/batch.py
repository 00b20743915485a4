"""Files → tagged rows → a file, in constant memory."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_tagger.inference.checkpoint import write_json
from policy_tagger.inference.documents import Document, Item, Unit, check_columns, read_documents
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.tables import FORMATS, STREAM, find_sources
from policy_tagger.inference.tagger import PolicyTagger, TaggedSentence
from policy_tagger.inference.writers import RowWriter, open_writer

WINDOW_SENTENCES = 2048  # sentences tagged and written together; memory grows with it, speed hardly
OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FRONT_COLUMNS = ("document_id", "sentence_id", "text")
BACK_COLUMNS = ("truncated", "error")


@dataclass(frozen=True)
class PredictOptions:
    """What to read and write."""

    inputs: Sequence[str]
    """Files, folders, `-` for standard input."""
    output: str = STREAM
    """A file, `-` for standard output."""
    unit: Unit = "document"
    """A row's text is a document to be split, or one sentence."""
    text_column: str = "text"
    """Column with the text."""
    input_format: str | None = None
    """Format of standard input."""
    output_format: str = "jsonl"
    """Format of standard output; a file's ending decides otherwise."""


@dataclass
class Summary:
    """What a run did so far."""

    documents: int = 0
    sentences: int = 0
    errors: int = 0
    truncated: int = 0


def predict_files(
    tagger: PolicyTagger, options: PredictOptions, on_progress: Callable[[Summary], None] | None = None
) -> Summary:
    """Tag every sentence of the inputs and write one row a sentence, in input order.

    A file appears under its name only when complete; until then its rows are in `NAME.partial`, where they stay if the
    run breaks off. `NAME.manifest.json` says which model and codebook made it.

    Raises:
        InputError: inputs or output cannot be used; found out before anything is written wherever possible.
    """
    with ExitStack() as stack:
        output_format = _output_format(options)
        sources = find_sources(options.inputs, options.input_format, stack)
        columns = OutputColumns(tagger, check_columns(sources, options.unit, options.text_column))
        output = stack.enter_context(_Output(options.output, output_format, columns))
        summary = Summary()
        documents = read_documents(sources, options.unit, options.text_column, tagger.split)
        for window in _windows(documents):
            tagged = iter(tagger.predict_documents([document.sentences for document in window]))
            rows = [row for document in window for row in columns.rows(document, tagged)]
            output.write(rows)
            summary.documents += len(window)
            summary.sentences += sum(len(document.sentences) for document in window)
            summary.errors += sum(row["error"] is not None for row in rows)
            summary.truncated += sum(bool(row["truncated"]) for row in rows)
            if on_progress:
                on_progress(summary)
        output.complete({"inputs": [source.name for source in sources], "unit": options.unit, **vars(summary)})
    return summary


class OutputColumns:
    """The one schema of predictions: ids and text, two columns a task, `truncated`, `error`, then the input's columns.

    An input column with the name of one of ours becomes `input_NAME`.
    """

    def __init__(self, tagger: PolicyTagger, kept: Sequence[str]):
        checkpoint = tagger.checkpoint
        self._tasks = list(checkpoint.codebook.tasks)
        predicted = [column for task in self._tasks for column in (task, f"{task}_probabilities")]
        own = [*FRONT_COLUMNS, *predicted, *BACK_COLUMNS]
        self._kept = {name: f"input_{name}" if name in own else name for name in kept}
        self.names = [*own, *self._kept.values()]
        self.provenance = {
            "model": checkpoint.model_id,
            "codebook": {
                "name": checkpoint.codebook.name,
                "version": checkpoint.codebook.version,
                "content_hash": checkpoint.codebook.content_hash,
            },
        }

    def rows(self, document: Document, tagged: Iterator[TaggedSentence]) -> Iterator[dict[str, Any]]:
        """A document's rows; takes one of `tagged` for each of its sentences."""
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


class _Output:
    """The output under its temporary name; put in place when complete."""

    def __init__(self, output: str, output_format: str, columns: OutputColumns):
        self._columns = columns
        self._to_stream = output == STREAM
        self._path = Path(output)
        self._partial = self._path.with_name(self._path.name + ".partial") if not self._to_stream else self._path
        self._format = output_format
        self._completed = False
        self._rows = 0

    def __enter__(self) -> "_Output":
        if not self._to_stream and (self._path.is_dir() or not self._path.parent.is_dir()):
            raise InputError(f"{self._path} must be a file in an existing folder. Create the folder, or name a file.")
        self._stream = sys.stdout.buffer if self._to_stream else self._partial.open("wb")
        text_columns = (*FRONT_COLUMNS, "error")
        self._writer: RowWriter = open_writer(self._stream, self._format, self._columns.names, text_columns)
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.write(rows)
        self._rows += len(rows)

    def complete(self, record: dict[str, Any]) -> None:
        """All rows are written; `record` goes into the manifest."""
        self._completed = True
        if not self._to_stream:
            manifest = {**self._columns.provenance, "columns": self._columns.names, **record}
            write_json(self._path.with_name(self._path.name + ".manifest.json"), manifest)

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        if self._to_stream:
            return
        self._stream.close()
        if self._completed:
            self._partial.replace(self._path)
        elif self._rows == 0:
            self._partial.unlink()
        else:
            print(f"The {self._rows:,} rows tagged so far are in {self._partial}.", file=sys.stderr)


def _output_format(options: PredictOptions) -> str:
    if options.output == STREAM:
        return options.output_format
    suffix = Path(options.output).suffix.lower()
    if FORMATS.get(suffix) not in OUTPUT_FORMATS:
        known = ", ".join(ending for ending, name in FORMATS.items() if name in OUTPUT_FORMATS)
        raise InputError(f"{options.output} must end in one of {known}. Found '{suffix or 'no ending'}'.")
    return FORMATS[suffix]


def _windows(documents: Iterator[Document]) -> Iterator[list[Document]]:
    window: list[Document] = []
    count = 0
    for document in documents:
        window.append(document)
        count += len(document.items)
        if count >= WINDOW_SENTENCES:
            yield window
            window, count = [], 0
    if window:
        yield window
