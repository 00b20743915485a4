"""Files out: JSON lines, CSV, TSV and Parquet, appended to in blocks."""

import codecs
import csv
import json
from collections.abc import Sequence
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


def open_writer(
    stream: IO[bytes], output_format: str, columns: Sequence[str], text_columns: Sequence[str]
) -> RowWriter:
    """A writer for `jsonl`, `csv`, `tsv` or `parquet`.

    Args:
        columns: All columns, in order.
        text_columns: Those that hold text in Parquet whatever the first rows are.
    """
    if output_format == "jsonl":
        return _JsonlWriter(stream)
    if output_format == "parquet":
        return _ParquetWriter(stream, text_columns)
    return _CsvWriter(stream, columns, "\t" if output_format == "tsv" else ",")


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

    def __init__(self, stream: IO[bytes], columns: Sequence[str], delimiter: str):
        self._text = codecs.getwriter("utf-8")(stream, "replace")
        self._text.write("\ufeff")
        self._writer = csv.DictWriter(self._text, columns, delimiter=delimiter, lineterminator="\n")
        self._writer.writeheader()

    def write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._writer.writerow({name: _cell(value) for name, value in row.items()})
        self._text.flush()

    def close(self) -> None:
        self._text.flush()


class _ParquetWriter:
    """Column types are those of the first rows; a later value that does not fit becomes null and is named in `error`."""

    def __init__(self, stream: IO[bytes], text_columns: Sequence[str]):
        self._stream = stream
        self._text_columns = set(text_columns)
        self._writer: Any = None
        self._schema: Any = None

    def write(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        if not rows:
            return
        if self._writer is None:
            fields = [pa.field(name, self._type(name, [row[name] for row in rows])) for name in rows[0]]
            self._schema = pa.schema(fields)
            self._writer = ParquetWriter(self._stream, self._schema, compression="zstd")
        arrays = [self._array(column, rows) for column in self._schema if column.name != "error"]
        errors = pa.array([row["error"] for row in rows], pa.string())
        arrays.insert(self._schema.get_field_index("error"), errors)
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _type(self, name: str, values: list[Any]) -> Any:
        import pyarrow as pa

        if name in self._text_columns:
            return pa.string()
        try:
            inferred = pa.infer_type(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.string()
        return pa.string() if pa.types.is_null(inferred) else inferred

    def _array(self, column: Any, rows: list[dict[str, Any]]) -> Any:
        import pyarrow as pa

        values = [row[column.name] for row in rows]
        if pa.types.is_string(column.type):
            values = [value if value is None or isinstance(value, str) else _cell(value) for value in values]
        try:
            return pa.array(values, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            return pa.array(
                [self._fitting(value, column, row) for value, row in zip(values, rows, strict=True)], column.type
            )

    def _fitting(self, value: Any, column: Any, row: dict[str, Any]) -> Any:
        import pyarrow as pa

        try:
            pa.array([value], column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            note = f"`{column.name}` is left out: expected {column.type} as in the first rows, found {type(value).__name__}"
            row["error"] = "; ".join(filter(None, [row["error"], note]))
            return None
        return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return LABEL_SEPARATOR.join(value) or NO_LABEL
    return json.dumps(value, ensure_ascii=False, default=str)
