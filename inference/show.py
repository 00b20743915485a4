"""Predictions as a table for people."""

from contextlib import ExitStack
from itertools import islice
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from policy_tagger.inference.codebook import NO_LABEL, Codebook, Task
from policy_tagger.inference.tables import Row, find_sources, read_columns, read_rows, require_column


def print_predictions(path: str, codebook: Codebook, rows: int, language: Literal["ko", "en"]) -> None:
    """Print the first rows of a file that `predict` wrote.

    Raises:
        InputError: the file cannot be read, or has no column for a task of the codebook.
    """
    with ExitStack() as stack:
        (source,) = find_sources([path], "jsonl", stack)
        columns = read_columns(source)
        for column in codebook.tasks:
            require_column(columns, column, source, "--codebook (the codebook the predictions were made with)")
        table = Table(title=source.name, title_justify="left", show_lines=True)
        table.add_column("#", justify="right", style="dim")
        for name, task in codebook.tasks.items():
            table.add_column(getattr(task.name, language) if task.name else name, min_width=10)
        table.add_column("문장" if language == "ko" else "Sentence", ratio=1)
        console = Console()
        document_id = None
        for row in islice(read_rows(source), rows):
            if row.fields.get("document_id") != document_id:
                document_id = row.fields.get("document_id")
                table.add_section()
            table.add_row(*_cells(row, codebook, language))
        console.print(table)


def _cells(row: Row, codebook: Codebook, language: Literal["ko", "en"]) -> list[Text]:
    labels = [Text(_names(row.fields.get(name), task, language)) for name, task in codebook.tasks.items()]
    text = row.fields.get("text")
    sentence = Text(text) if text else Text(row.fields.get("error") or row.problem or "", style="red")
    return [Text(str(row.fields.get("sentence_id", ""))), *labels, sentence]


def _names(value: Any, task: Task, language: Literal["ko", "en"]) -> str:
    if not value or value == NO_LABEL:
        return "–"
    return "\n".join(task.display_name(label, language) for label in task.parse(value))
