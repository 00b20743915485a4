"""Whatever a file holds, the readers give rows or one clear error."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sources import find_sources
from policy_tagger.inference.tables import column_types, read_rows

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(path: Path) -> list[dict] | None:
    """The usable rows, or None where the file is refused."""
    try:
        with ExitStack() as stack:
            (source,) = find_sources([str(path)], None, stack)
            column_types(source)
            return [row.fields for row in read_rows(source) if row.problem is None]
    except InputError as error:
        assert all(path.name in problem for problem in error.problems)  # noqa: PT017 (either outcome is right)
        return None


@SETTINGS
@given(content=st.binary(min_size=1, max_size=300))
@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_random_bytes(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"in.{ending}"
    path.write_bytes(content)
    read(path)


@SETTINGS
@given(rows=st.lists(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=4), min_size=1, max_size=5))
def test_json_rows_come_back_as_they_were(tmp_path: Path, rows: list[dict]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read(path)
    assert found is not None
    assert len(found) == len(rows)
