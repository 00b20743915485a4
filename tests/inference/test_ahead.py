"""Work ahead: same items, same order, errors in their place, and no thread left behind."""

import threading
from collections.abc import Iterator

import pytest

from policy_tagger.inference.ahead import ahead


def test_items_come_in_order_from_another_thread() -> None:
    here = threading.get_ident()
    found = list(ahead(((i, threading.get_ident()) for i in range(100)), 3))
    assert [i for i, _ in found] == list(range(100))
    assert {thread for _, thread in found} - {here}


def test_what_goes_wrong_comes_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("third")

    found = ahead(items(), 1)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(found)


def test_no_more_than_asked_for_is_made_ahead_and_closing_ends_the_thread() -> None:
    made = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            for i in range(1000):
                made.append(i)
                yield i
        finally:
            closed.set()

    found = ahead(items(), 2)
    assert next(found) == 0
    found.close()
    assert closed.wait(5)
    assert len(made) <= 5
