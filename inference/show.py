"""Predictions as a table for people."""

from contextlib import ExitStack
from itertools import islice
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policy_tagger.inference.codebook import Codebook, Task
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sources import STREAM, find_sources
from policy_tagger.inference.tables import Row, column_types, read_rows, require_column


def print_predictions(path: str, codebook: Codebook, rows: int, language: Literal["ko", "en"]) -> None:
    """Print the first rows of a file that `predict` wrote.

    Raises:
        InputError: the file cannot be read, or has no column for a task of the codebook.
    """
    with ExitStack() as stack:
        sources = find_sources([path], None, stack) if path != STREAM else []
        if len(sources) != 1 or sources[0].format == "text":
            raise InputError(f"{path} must be one JSONL, CSV, TSV or Parquet file that predict wrote.")
        columns = column_types(sources[0])
        require_column(columns, "text", sources[0], "Name a file that predict wrote.")
        for column in codebook.tasks:
            require_column(columns, column, sources[0], "Name the codebook that predict used with --codebook.")
        table = Table(title=sources[0].name, title_justify="left", show_lines=True, box=box.HORIZONTALS)
        table.add_column("#", justify="right", style="dim")
        for name, task in codebook.tasks.items():
            table.add_column(getattr(task.name, language) if task.name else name, min_width=10)
        table.add_column("문장" if language == "ko" else "Sentence", ratio=1, overflow="fold")
        for row in islice(read_rows(sources[0]), rows):
            try:
                table.add_row(*_cells(row, codebook, language))
            except InputError as error:
                raise InputError(
                    f"{row.source}, row {row.number}: {error}. Name the right codebook with --codebook."
                ) from None
        Console().print(table)


def _cells(row: Row, codebook: Codebook, language: Literal["ko", "en"]) -> list[Text]:
    labels = [Text(_names(row.fields.get(name), task, language)) for name, task in codebook.tasks.items()]
    text = row.fields.get("text")
    sentence = Text(str(text)) if text else Text(str(row.fields.get("error") or row.problem or ""), style="red")
    return [Text(str(row.fields.get("sentence_id", ""))), *labels, sentence]


def _names(value: Any, task: Task, language: Literal["ko", "en"]) -> str:
    labels = task.parse(value) if value else []
    return "\n".join(task.display_name(label, language) for label in labels) or "–"
