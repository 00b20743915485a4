"""Work ahead: one stage of a pipeline in a thread of its own."""

from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], size: int) -> Iterator[T]:
    """The same items in the same order, made in another thread up to `size` before they are taken.

    What goes wrong there is raised here, behind the items that came before it. Closing the iterator ends the thread.
    """
    made: Queue[tuple[str, Any]] = Queue(size)
    unwanted = Event()

    def put(kind: str, value: Any) -> bool:
        while not unwanted.is_set():
            try:
                made.put((kind, value), timeout=0.1)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    break
            else:
                put("end", None)
        except BaseException as error:
            put("failure", error)
        finally:
            if close := getattr(items, "close", None):
                close()

    thread = Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = made.get(timeout=1.0)  # so that Ctrl-C gets through on every system
            except Empty:
                continue
            if kind == "failure":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        unwanted.set()
        thread.join()
