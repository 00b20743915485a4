"""Input files → documents of sentences, with the columns that go through to the output."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any, Literal

from policy_tagger.inference.encoding import normalise
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sources import Source, read_text
from policy_tagger.inference.tables import Row, column_types, read_rows, require_column

Unit = Literal["document", "sentence"]
PIECE_ROWS = 4096  # rows of one document held at a time; a file with one id throughout need not fit into memory


@dataclass(frozen=True)
class Item:
    """One future output row: a sentence to tag, or a row of the input that could not be used."""

    sentence_id: str
    text: str
    kept: dict[str, Any]
    """Columns of the input that are neither text nor ids."""
    problem: str | None = None
    """Why there is no sentence to tag."""


@dataclass(frozen=True)
class Document:
    """Items that share a document; its sentences give each other context."""

    document_id: str
    items: list[Item]

    @property
    def sentences(self) -> list[str]:
        """The sentences to tag."""
        return [item.text for item in self.items if item.problem is None]


def read_documents(
    sources: Sequence[Source], unit: Unit, text_column: str, split: Callable[[str], list[str]], skip: int = 0
) -> Iterator[Document]:
    """Stream the documents of all sources, in order.

    A text file is one document. A table's row is a document to be split, or (`unit="sentence"`) one sentence, and
    neighbouring rows with the same `document_id` are one document; a very long one comes in pieces.

    Args:
        skip: Documents (or pieces) to leave out at the start; they are read but not split.
    """
    makers = (maker for source in sources for maker in _document_makers(source, unit, text_column, split))
    for maker in islice(makers, skip, None):
        yield maker()


def _document_makers(
    source: Source, unit: Unit, text_column: str, split: Callable[[str], list[str]]
) -> Iterator[Callable[[], Document]]:
    """What makes each document of a source, once it is called; splitting is the costly part."""
    if source.format == "text":
        yield lambda: _split_document(source.name, read_text(source), {}, split)
    elif unit == "document":
        for row in read_rows(source):
            yield partial(_document_of_row, row, text_column, split)
    else:
        for document_id, rows in groupby(read_rows(source), key=_document_id):
            yield from _pieces(document_id, rows, text_column)


def _pieces(document_id: str, rows: Iterator[Row], text_column: str) -> Iterator[Callable[[], Document]]:
    start = 1
    while piece := list(islice(rows, PIECE_ROWS)):
        yield partial(_document_of_rows, document_id, piece, start, text_column)
        start += len(piece)


def _document_of_rows(document_id: str, rows: Sequence[Row], start: int, text_column: str) -> Document:
    return Document(document_id, [_item_of_row(row, n, text_column) for n, row in enumerate(rows, start)])


def check_sources(sources: Sequence[Source], unit: Unit, text_column: str) -> dict[str, Any]:
    """The columns that go through to the output, over all tables, each with the Arrow type that holds it.

    Raises:
        InputError: listing every file that cannot be read or has no text column.
    """
    problems: list[str] = []
    kept: dict[str, Any] = {}
    for source in sources:
        try:
            if source.format == "text":
                read_text(source)  # raises where it cannot be decoded
                continue
            types = column_types(source)
            require_column(types, text_column, source, "Name the right one with --text-column.")
        except InputError as error:
            problems += error.problems
            continue
        for name, found in types.items():
            if name not in _consumed(unit, text_column):
                kept[name] = _common_type(kept.get(name, found), found)
    if problems:
        raise InputError(problems)
    return kept


def _common_type(one: Any, other: Any) -> Any:
    import pyarrow as pa

    if one == other:
        return one
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other))
    return pa.float64() if numbers else pa.string()


def _consumed(unit: Unit, text_column: str) -> set[str]:
    return {text_column, "document_id"} | ({"sentence_id"} if unit == "sentence" else set())


def _document_id(row: Row) -> str:
    given = row.fields.get("document_id")
    return f"{row.source}:{row.number}" if given is None or given == "" else str(given)


def _kept(row: Row, unit: Unit, text_column: str) -> dict[str, Any]:
    consumed = _consumed(unit, text_column)
    return {name: value for name, value in row.fields.items() if name not in consumed}


def _problem(row: Row, text_column: str) -> str | None:
    if row.problem:
        return f"row {row.number}: {row.problem}"
    text = row.fields.get(text_column)
    if not isinstance(text, str):
        return (
            f"row {row.number}: `{text_column}` must be text, found {'null' if text is None else type(text).__name__}"
        )
    return None if normalise(text) else f"row {row.number}: `{text_column}` must not be empty"


def _document_of_row(row: Row, text_column: str, split: Callable[[str], list[str]]) -> Document:
    kept = _kept(row, "document", text_column)
    problem = _problem(row, text_column)
    if problem:
        return Document(_document_id(row), [Item("", "", kept, problem)])
    return _split_document(_document_id(row), row.fields[text_column], kept, split)


def _split_document(document_id: str, text: str, kept: dict[str, Any], split: Callable[[str], list[str]]) -> Document:
    sentences = split(text)
    if not sentences:
        return Document(document_id, [Item("", "", kept, "the text must not be empty")])
    return Document(document_id, [Item(str(number), sentence, kept) for number, sentence in enumerate(sentences, 1)])


def _item_of_row(row: Row, number: int, text_column: str) -> Item:
    kept = _kept(row, "sentence", text_column)
    given = row.fields.get("sentence_id")
    sentence_id = str(number if given is None or given == "" else given)
    problem = _problem(row, text_column)
    return Item(sentence_id, "" if problem else normalise(row.fields[text_column]), kept, problem)
