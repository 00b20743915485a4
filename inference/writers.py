"""Files out: JSON lines, CSV, TSV and Parquet, appended to in blocks."""

import codecs
import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from policy_tagger.inference.codebook import LABEL_SEPARATOR, NO_LABEL


class RowWriter(Protocol):
    """Where predictions go."""

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows; each has every column."""
        ...

    def close(self) -> None:
        """Finish the file so that it can be read."""
        ...


def open_writer(stream: IO[bytes], output_format: str, columns: Mapping[str, Any]) -> RowWriter:
    """A writer for `jsonl`, `csv`, `tsv` or `parquet`.

    Args:
        columns: All columns in order, each with its Arrow type; only Parquet has types.
    """
    if output_format == "jsonl":
        return _JsonlWriter(stream)
    if output_format == "parquet":
        return _ParquetWriter(stream, columns)
    return _CsvWriter(stream, columns, "\t" if output_format == "tsv" else ",")


def join_files(parts: Sequence[Path], target: Path, output_format: str, columns: Mapping[str, Any]) -> None:
    """Write one file with the rows of all parts, each made by an `open_writer` with the same arguments."""
    with target.open("wb") as joined:
        if output_format == "parquet":
            _join_parquet(parts, joined, columns)
        else:
            header = io.BytesIO()
            open_writer(header, output_format, columns)
            for number, part in enumerate(parts):
                with part.open("rb") as file:
                    file.seek(len(header.getvalue()) if number else 0)
                    shutil.copyfileobj(file, joined, 1 << 20)
        joined.flush()
        os.fsync(joined.fileno())


def _join_parquet(parts: Sequence[Path], joined: IO[bytes], columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter, read_table

    with ParquetWriter(joined, pa.schema(list(columns.items())), compression="zstd") as writer:
        for part in parts:
            writer.write_table(read_table(part))


class _JsonlWriter:
    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def write(self, rows: list[dict[str, Any]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        self._stream.write("".join(lines).encode("utf-8", errors="replace"))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class _CsvWriter:
    """UTF-8 with a byte order mark, which Excel needs to show Korean; lists joined by `|` (`-` for none), objects as JSON."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, Any], delimiter: str):
        self._text = codecs.getwriter("utf-8")(stream, "replace")
        self._text.write("\ufeff")
        # A bare carriage return inside a cell is quoted only where the line's own ending holds one.
        self._writer = csv.DictWriter(self._text, columns, delimiter=delimiter, lineterminator="\r\n")
        self._writer.writeheader()

    def write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._writer.writerow({name: _cell(value) for name, value in row.items()})
        self._text.flush()

    def close(self) -> None:
        self._text.flush()


class _ParquetWriter:
    """A value that does not fit its column's type becomes null and is named in `error`; nothing is converted in silence."""

    def __init__(self, stream: IO[bytes], columns: Mapping[str, Any]):
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        self._schema = pa.schema(list(columns.items()))
        self._writer = ParquetWriter(stream, self._schema, compression="zstd")

    def write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        arrays = {column.name: self._array(column, rows) for column in self._schema if column.name != "error"}
        arrays["error"] = pa.array([row["error"] for row in rows], pa.string())  # last: the others add to it
        self._writer.write_table(pa.table({name: arrays[name] for name in self._schema.names}, schema=self._schema))

    def close(self) -> None:
        self._writer.close()

    def _array(self, column: Any, rows: list[dict[str, Any]]) -> Any:
        import pyarrow as pa

        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return pa.array(
                [None if row[column.name] is None else _cell(row[column.name]) for row in rows], column.type
            )
        values = [row[column.name] for row in rows]
        try:
            array = pa.array(values, column.type)
            if array.to_pylist() == values:
                return array
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            pass
        return pa.array([_fitting(row, column) for row in rows], column.type)


def _fitting(row: dict[str, Any], column: Any) -> Any:
    """The value, or None with a note in the row's `error` where the column's type cannot hold it as it is."""
    import pyarrow as pa

    value = row[column.name]
    try:
        held = pa.scalar(value, column.type).as_py()
        if held == value or (held != held and value != value):  # NaN is held too
            return value
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass
    note = f"`{column.name}` is left out: expected {column.type}, found {type(value).__name__}"
    row["error"] = "; ".join(filter(None, [row["error"], note]))
    return None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return LABEL_SEPARATOR.join(value) or NO_LABEL
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
