"""Tables in: JSON lines, CSV, TSV and Parquet, row by row."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TextIO

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sources import BROKEN, UNDECODED, Source

FIRST_ROWS = 1000  # the columns of a JSON lines file are those of its first rows
NOT_DECODED = "expected text in the file's encoding, found bytes that are not; save the file again as UTF-8"


@dataclass(frozen=True)
class Row:
    """One row of a table, or what was wrong with it."""

    source: str
    number: int
    """Row in the file, from 1; in a CSV file the header is not counted."""
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def read_rows(source: Source) -> Iterator[Row]:
    """The rows of a table, streamed; a row that cannot be read carries its problem.

    Where the file breaks off (a damaged archive, a quotation mark that is never closed), the last row says so.

    Raises:
        InputError: the file cannot be read from its start.
    """
    readers = {"jsonl": _read_jsonl, "csv": _read_csv, "tsv": _read_csv, "parquet": _read_parquet}
    return readers[source.format](source)


def require_column(columns: Iterable[str], column: str, source: Source, next_step: str) -> None:
    """Raise an InputError that says which columns there are, unless `column` is one of them."""
    if column not in columns:
        found = ", ".join(columns) or "none"
        raise InputError(f"{source.name} must have a column `{column}`. Found {found}. {next_step}")


def column_types(source: Source) -> dict[str, Any]:
    """Column name → the Arrow type that holds it: the Parquet schema's; text for CSV; of JSON lines what the first rows show.

    Raises:
        InputError: the file cannot be read, or its first rows are all unusable.
    """
    import pyarrow as pa

    if source.format == "parquet":
        schema = _parquet_file(source).schema_arrow
        _require_distinct(schema.names, source)
        return {field.name: _holding_type(field.type) for field in schema}
    if source.format in ("csv", "tsv"):
        return {name: pa.string() for name in _csv_header(source)}
    rows = list(islice(_read_jsonl(source), FIRST_ROWS))
    if rows and not any(row.fields for row in rows):
        raise InputError(
            f"{source.name}, row {rows[0].number}: {rows[0].problem or 'expected fields, found none'}. No row is usable."
        )
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.fields.items():
            values.setdefault(name, []).append(value)
    return {name: _scalar_type(found) for name, found in values.items()}


def _holding_type(found: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(found):
        return found.value_type
    return pa.string() if pa.types.is_null(found) else found


def _scalar_type(values: list[Any]) -> Any:
    """int64, float64 or bool where all values are of that kind; else text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _breaks_off(source: Source, number: int, what: str) -> Row:
    return Row(source.name, number, problem=f"the file breaks off here, and what follows is not read: {what}")


def _read_jsonl(source: Source) -> Iterator[Row]:
    number = 0
    with source.open_text() as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _json_row(source, number, line)
        except BROKEN as error:
            yield _breaks_off(source, number + 1, str(error))


def _json_row(source: Source, number: int, line: str) -> Row:
    if UNDECODED.search(line):
        return Row(source.name, number, problem=NOT_DECODED)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(source.name, number, problem=f"expected a JSON object, found text that is not JSON ({error})")
    if isinstance(value, dict):
        return Row(source.name, number, _without_surrogates(value) if "\\u" in line else value)
    kind = {"NoneType": "null", "list": "a list", "str": "text"}.get(type(value).__name__, "a number")
    return Row(source.name, number, problem=f"expected a JSON object, found {kind}")


def _without_surrogates(value: Any) -> Any:
    """JSON can spell lone surrogates, which no encoding can write; each becomes U+FFFD."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(part) for name, part in value.items()}
    return value


def _csv_reader(file: TextIO, source: Source) -> Any:
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole document
    return csv.reader(file, delimiter="\t" if source.format == "tsv" else ",", strict=True)


def _csv_header(source: Source) -> list[str]:
    with source.open_text(newline="") as file:
        try:
            header: list[str] = next((cells for cells in _csv_reader(file, source) if cells), [])
        except csv.Error as error:
            raise InputError(f"{source.name}, line 1 must be a header: {error}. Mend the quotation marks.") from None
        except BROKEN as error:
            raise InputError(f"{source.name}, line 1 must be a header: {error}. Pack the file again.") from None
    _require_distinct(header, source)
    return header


def _require_distinct(columns: Sequence[str], source: Source) -> None:
    twice = sorted({name or "(no name)" for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{source.name} must have distinct column names. Found twice: {', '.join(twice)}.")


def _read_csv(source: Source) -> Iterator[Row]:
    with source.open_text(newline="") as file:
        reader = _csv_reader(file, source)
        header: list[str] = []
        number = line = 0
        try:
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                if not header:
                    header = cells
                    continue
                number += 1
                yield _csv_row(source, number, header, cells)
        except csv.Error as error:
            what = f"{error}, from line {line + 1}; close the quotation mark that is open there, or double those inside a cell"
            yield _breaks_off(source, number + 1, what)
        except BROKEN as error:
            yield _breaks_off(source, number + 1, str(error))


def _csv_row(source: Source, number: int, header: list[str], cells: list[str]) -> Row:
    if any(UNDECODED.search(cell) for cell in cells):
        return Row(source.name, number, problem=NOT_DECODED)
    if len(cells) == len(header):
        return Row(source.name, number, dict(zip(header, cells, strict=True)))
    return Row(source.name, number, problem=f"expected {len(header)} cells as in the header, found {len(cells)}")


def _read_parquet(source: Source) -> Iterator[Row]:
    number = 0
    try:
        for batch in _parquet_file(source).iter_batches(batch_size=2048):
            for fields in batch.to_pylist():
                number += 1
                yield Row(source.name, number, fields)
    except (OSError, ValueError, OverflowError) as error:  # Arrow's errors are among these
        yield _breaks_off(source, number + 1, str(error))


def _parquet_file(source: Source) -> Any:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(source.path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.name} must be a Parquet file: {error}. Write it again.") from None
