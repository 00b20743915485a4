"""Files → tagged rows → a file, in constant memory."""

import errno
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from policy_tagger.inference.documents import Document, Item, Unit, check_sources, read_documents
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import write_json
from policy_tagger.inference.tables import FORMATS, STREAM, Source, find_sources
from policy_tagger.inference.tagger import PolicyTagger, TaggedSentence
from policy_tagger.inference.writers import RowWriter, open_writer

WINDOW_SENTENCES = 2048  # sentences tagged and written together; memory grows with it, speed hardly
OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FRONT_COLUMNS = ("document_id", "sentence_id", "text")


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
    output_format: str | None = None
    """Format of standard output, JSON lines where None; a file's ending decides otherwise."""


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
        _refuse_output_among_inputs(options, sources)
        columns = OutputColumns(tagger, check_sources(sources, options.unit, options.text_column))
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
        self.provenance = {
            "model": checkpoint.model_id,
            "codebook": checkpoint.codebook.identity,
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
        self._partial = self._path.with_name(self._path.name + ".partial")
        self._format = output_format
        self._completed = False
        self._rows = 0

    def __enter__(self) -> "_Output":
        self._stream = self._open()
        self._writer: RowWriter = open_writer(self._stream, self._format, self._columns.types)
        return self

    def _open(self) -> IO[bytes]:
        if self._to_stream:
            if sys.stdout is None:
                raise InputError("Standard output must be open. Found it closed; name a file with -o.")
            return sys.stdout.buffer
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise InputError(f"{self._path} must be a file in an existing folder. Create the folder, or name a file.")
        try:
            return self._partial.open("xb")
        except FileExistsError:
            raise InputError(
                f"{self._partial} holds the rows of a run that broke off (or is still running). Move or remove it first."
            ) from None

    def write(self, rows: list[dict[str, Any]]) -> None:
        with self._explained():
            self._writer.write(rows)
        self._rows += len(rows)

    def complete(self, record: dict[str, Any]) -> None:
        """Finish the file, write the manifest with `record`, and put the file in place."""
        with self._explained():
            self._writer.close()
            if not self._to_stream:
                self._stream.close()
                manifest = {**self._columns.provenance, "columns": self._columns.names, **record}
                write_json(self._path.with_name(self._path.name + ".manifest.json"), manifest)
                self._partial.replace(self._path)
        self._completed = True

    def __exit__(self, *_: object) -> None:
        if self._completed or self._to_stream:
            return
        with suppress(OSError, ValueError):  # closing again after a failed write; what is on the disk stays
            self._writer.close()
        with suppress(OSError, ValueError):
            self._stream.close()
        if self._rows == 0:
            self._partial.unlink()
        else:
            print(f"The {self._rows:,} rows tagged so far are in {self._partial}.", file=sys.stderr)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            place = "standard output" if self._to_stream else self._partial
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            step = "Make room" if full else "Close it in other programs, or name another place with -o"
            raise InputError(f"{place} could not be written: {error.strerror or error}. {step}.") from None


def _refuse_output_among_inputs(options: PredictOptions, sources: Sequence[Source]) -> None:
    if options.output == STREAM:
        return
    output = Path(options.output).resolve()
    folders = [Path(name).resolve() for name in options.inputs if name != STREAM and Path(name).is_dir()]
    if any(source.path.resolve() == output for source in sources) or any(f in output.parents for f in folders):
        raise InputError(
            f"-o {options.output} must not be among the inputs: it would be read as one. Name another place."
        )


def _output_format(options: PredictOptions) -> str:
    if options.output == STREAM:
        return options.output_format or "jsonl"
    if options.output_format:
        raise InputError(
            f"--output-format is for standard output ({STREAM}); the ending of {options.output} says what it is."
        )
    suffix = Path(options.output).suffix.lower()
    if FORMATS.get(suffix) not in OUTPUT_FORMATS:
        known = ", ".join(ending for ending, name in FORMATS.items() if name in OUTPUT_FORMATS)
        raise InputError(f"-o must name a file that ends in one of {known}. Got '{options.output}'.")
    return FORMATS[suffix]


def _windows(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in groups of about WINDOW_SENTENCES; what was read before a reader failed still comes through."""
    window: list[Document] = []
    count = 0
    failure: InputError | None = None
    while True:
        try:
            document = next(documents, None)
        except InputError as error:
            document, failure = None, error
        if document:
            window.append(document)
            count += len(document.items)
        if window and (count >= WINDOW_SENTENCES or not document):
            yield window
            window, count = [], 0
        if failure:
            raise failure
        if not document:
            return
