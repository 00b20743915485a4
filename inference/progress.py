"""Progress on a terminal, silence in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from policy_tagger.inference.part_files import Summary


@contextmanager
def sentence_counter() -> Iterator[Callable[[Summary], None] | None]:
    """A counter of tagged sentences on standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,} sentences · {task.fields[rate]} a second"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("tagging", total=None, rate="–")

        def report(summary: Summary) -> None:
            elapsed = progress.tasks[task].elapsed or 0.0
            rate = f"{summary.sentences / elapsed:,.0f}" if elapsed else "–"
            progress.update(task, completed=summary.sentences, rate=rate)

        yield report
