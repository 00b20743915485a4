"""Files in: text, JSON lines, CSV, TSV and Parquet, row by row."""

import codecs
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
csv.field_size_limit(2**31 - 1)


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
    for name in inputs:
        path = Path(name)
        if name == STREAM:
            sources.append(_standard_input(input_format or "text", stack, guessed=input_format is None))
        elif path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in FORMATS and p.is_file()]
            sources += [Source(p, FORMATS[p.suffix.lower()], p.as_posix()) for p in found]
            if not found:
                problems.append(f"{name} must hold files ending in {', '.join(FORMATS)}. Found none.")
        elif not path.exists():
            problems.append(f"{name} must be an existing file or folder. Found nothing there.")
        elif path.suffix.lower() not in FORMATS:
            problems.append(f"{name} must end in one of {', '.join(FORMATS)}. Found '{path.suffix or 'no ending'}'.")
        elif path.stat().st_size == 0:
            problems.append(f"{name} must have content. Found an empty file.")
        else:
            sources.append(Source(path, FORMATS[path.suffix.lower()], path.as_posix()))
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


def require_column(columns: Sequence[str], column: str, source: Source, option: str) -> None:
    """Raise an InputError that says which columns there are, unless `column` is one of them."""
    if column not in columns:
        raise InputError(
            f"{source.name} must have a column `{column}`. Found {', '.join(columns) or 'none'}. Name the right one with {option}."
        )


def read_columns(source: Source) -> list[str]:
    """Column names: the header, the Parquet schema, or the keys of the first JSON lines."""
    if source.format == "parquet":
        return list(_parquet_file(source).schema_arrow.names)
    if source.format == "jsonl":
        rows = (row for row, _ in zip(_read_jsonl(source), range(FIRST_ROWS), strict=False))
        return list(dict.fromkeys(name for row in rows for name in row.fields))
    with source.path.open(encoding=detect_encoding(source.path, source.name), newline="") as file:
        return next(csv.reader(file, delimiter="\t" if source.format == "tsv" else ","), [])


def detect_encoding(path: Path, name: str) -> str:
    """`utf-8-sig` (with or without a byte order mark) or `cp949`, found by decoding the whole file.

    Raises:
        InputError: neither; the first line that is not UTF-8 is named.
    """
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


def _standard_input(input_format: str, stack: ExitStack, guessed: bool) -> Source:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policy-tagger-")))
    path = folder / "stdin"
    with path.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    if path.stat().st_size == 0:
        raise InputError("Standard input must have content. Found nothing.")
    with path.open("rb") as file:
        if guessed and file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b'{"'):
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
                yield Row(source.name, number, value)
            else:
                kind = {"NoneType": "null", "list": "a list", "str": "text"}.get(type(value).__name__, "a number")
                yield Row(source.name, number, problem=f"expected a JSON object, found {kind}")


def _read_csv(source: Source) -> Iterator[Row]:
    encoding = detect_encoding(source.path, source.name)
    with source.path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter="\t" if source.format == "tsv" else ",")
        header = next(reader, [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise InputError(f"{source.name} must have distinct column names. Found twice: {', '.join(twice)}.")
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            if len(cells) == len(header):
                yield Row(source.name, number, dict(zip(header, cells, strict=True)))
            else:
                problem = f"expected {len(header)} cells as in the header, found {len(cells)}"
                yield Row(source.name, number, problem=problem)


def _read_parquet(source: Source) -> Iterator[Row]:
    number = 0
    for batch in _parquet_file(source).iter_batches(batch_size=2048):
        for fields in batch.to_pylist():
            number += 1
            yield Row(source.name, number, fields)


def _parquet_file(source: Source) -> Any:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(source.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{source.name} must be a Parquet file: {error}. Write it again.") from None
