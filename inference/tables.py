"""Files in: text, JSON lines, CSV, TSV and Parquet, row by row."""

import codecs
import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from policy_tagger.inference.errors import InputError

FORMATS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
STREAM = "-"  # standard input, and in writers.py output
FIRST_ROWS = 1000  # the columns of a JSON lines file are those of its first rows


@dataclass(frozen=True)
class Source:
    """One input file."""

    path: Path
    format: str
    name: str
    """As the user gave it; in messages and document ids."""


@dataclass(frozen=True)
class Row:
    """One row of a table, or what was wrong with it."""

    source: str
    number: int
    """Row in the file, from 1; in a CSV file the header is not counted."""
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def find_sources(inputs: Sequence[str], input_format: str | None, stack: ExitStack) -> list[Source]:
    """The files behind paths, folders and `-`.

    Args:
        input_format: For standard input; text where None.
        stack: Removes the temporary copy of standard input when it closes.

    Raises:
        InputError: listing every missing path, unknown extension, and folder without readable files.
    """
    sources: list[Source] = []
    problems = []
    if input_format and STREAM not in inputs:
        problems.append(f"--input-format is for standard input ({STREAM}); a file's ending says what it is.")
    if inputs.count(STREAM) > 1:
        raise InputError("Standard input (-) can be named once.")
    for name in inputs:
        path = Path(name)
        if name == STREAM:
            sources.append(_standard_input(input_format or "text", stack, guessed=input_format is None))
        elif path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in FORMATS and p.is_file()]
            sources += [Source(p, FORMATS[p.suffix.lower()], _printable(p.as_posix())) for p in found]
            if not found:
                problems.append(f"{name} must hold files ending in {', '.join(FORMATS)}. Found none.")
        elif not path.exists():
            problems.append(f"{name} must be an existing file or folder. Found nothing there.")
        elif path.suffix.lower() not in FORMATS:
            problems.append(f"{name} must end in one of {', '.join(FORMATS)}. Found '{path.suffix or 'no ending'}'.")
        elif path.stat().st_size == 0:
            problems.append(f"{name} must have content. Found an empty file.")
        else:
            sources.append(Source(path, FORMATS[path.suffix.lower()], _printable(path.as_posix())))
    if problems:
        raise InputError(problems)
    return sources


def read_text(source: Source) -> str:
    """A text file's content.

    Raises:
        InputError: not UTF-8 or CP949.
    """
    return source.path.read_text(encoding=detect_encoding(source.path, source.name))


def read_rows(source: Source) -> Iterator[Row]:
    """The rows of a table, streamed; a row that cannot be read carries its problem.

    Raises:
        InputError: the file as a whole cannot be read.
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


def detect_encoding(path: Path, name: str) -> str:
    """`utf-8-sig` (with or without a byte order mark) or `cp949`, found by decoding the whole file.

    Raises:
        InputError: neither; the first line that is not UTF-8 is named.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(0) > len(head) // 5:
        raise InputError(f"{name} must be UTF-8 or CP949 text. Found UTF-16. Save the file again as UTF-8.")
    line_of_failure = _first_undecodable_line(path, "utf-8")
    if line_of_failure is None:
        return "utf-8-sig"
    if _first_undecodable_line(path, "cp949") is None:
        return "cp949"
    raise InputError(
        f"{name} must be UTF-8 or CP949 text. Line {line_of_failure} is neither. Save the file again as UTF-8."
    )


def _first_undecodable_line(path: Path, encoding: str) -> int | None:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return line + block[: error.start].count(b"\n")
            line += block.count(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return line
    return None


def _printable(name: str) -> str:
    """A file name without the stand-ins for bytes that are not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _standard_input(input_format: str, stack: ExitStack, guessed: bool) -> Source:
    if sys.stdin is None:
        raise InputError("Standard input must be open. Found it closed.")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policy-tagger-")))
    path = folder / "stdin"
    with path.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    if path.stat().st_size == 0:
        raise InputError("Standard input must have content. Found nothing.")
    with path.open("rb") as file:
        if guessed and re.match(rb"(\xef\xbb\xbf)?\s*\{\s*\"", file.read(256)):
            raise InputError("Standard input looks like JSON lines. Say so with --input-format jsonl.")
    return Source(path, input_format, "stdin")


def _read_jsonl(source: Source) -> Iterator[Row]:
    with source.path.open(encoding=detect_encoding(source.path, source.name)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(source.name, number, problem=f"expected a JSON object, found text that is not JSON ({error})")
                continue
            if isinstance(value, dict):
                yield Row(source.name, number, _without_surrogates(value) if "\\u" in line else value)
            else:
                kind = {"NoneType": "null", "list": "a list", "str": "text"}.get(type(value).__name__, "a number")
                yield Row(source.name, number, problem=f"expected a JSON object, found {kind}")


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
    with source.path.open(encoding=detect_encoding(source.path, source.name), newline="") as file:
        try:
            header: list[str] = next((cells for cells in _csv_reader(file, source) if cells), [])
        except csv.Error as error:
            raise InputError(f"{source.name}, line 1 must be a header: {error}. Mend the quotation marks.") from None
    _require_distinct(header, source)
    return header


def _require_distinct(columns: Sequence[str], source: Source) -> None:
    twice = sorted({name or "(no name)" for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{source.name} must have distinct column names. Found twice: {', '.join(twice)}.")


def _read_csv(source: Source) -> Iterator[Row]:
    with source.path.open(encoding=detect_encoding(source.path, source.name), newline="") as file:
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
                if len(cells) == len(header):
                    yield Row(source.name, number, dict(zip(header, cells, strict=True)))
                else:
                    problem = f"expected {len(header)} cells as in the header, found {len(cells)}"
                    yield Row(source.name, number, problem=problem)
        except csv.Error as error:
            raise InputError(
                f"{source.name}, row {number + 1} (from line {line + 1}) must be well-formed: {error}. "
                "Close the quotation mark that is open there, or double those inside a cell."
            ) from None


def _read_parquet(source: Source) -> Iterator[Row]:
    number = 0
    try:
        for batch in _parquet_file(source).iter_batches(batch_size=2048):
            for fields in batch.to_pylist():
                number += 1
                yield Row(source.name, number, fields)
    except (OSError, ValueError, OverflowError) as error:  # Arrow's errors are among these
        raise InputError(
            f"{source.name} must be readable Parquet. Broken behind row {number}: {error}. Write it again."
        ) from None


def _parquet_file(source: Source) -> Any:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(source.path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.name} must be a Parquet file: {error}. Write it again.") from None
