"""Whatever a file holds, the readers give rows or one clear error, and every row is tagged or explained."""

import json
import unicodedata
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_tagger.inference.batch import PredictOptions, predict_files
from policy_tagger.inference.documents import Unit
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sources import find_sources
from policy_tagger.inference.tables import column_types, read_rows
from policy_tagger.inference.tagger import PolicyTagger

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


def tagged(tagger: PolicyTagger, path: Path, unit: Unit) -> list[dict]:
    """What `predict` writes for a file."""
    output = path.with_name("out.jsonl")
    predict_files(tagger, PredictOptions([str(path)], str(output), unit))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def expect_tagged_or_explained(row: dict) -> None:
    if row["error"] is None:
        assert row["voice"] in row["voice_probabilities"]
        assert all(0 <= p <= 1 for p in [*row["topic_probabilities"].values(), *row["voice_probabilities"].values()])
    else:
        assert row["voice"] is None


@settings(SETTINGS, max_examples=60)
@given(texts=st.lists(st.text() | JSON, min_size=1, max_size=6))
@pytest.mark.parametrize("unit", ["document", "sentence"])
def test_any_value_is_tagged_or_explained(
    tiny_tagger: PolicyTagger, tmp_path: Path, unit: Unit, texts: list[Any]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    rows = tagged(tiny_tagger, path, unit)
    assert len(rows) == len(texts) if unit == "sentence" else len(rows) >= len(texts)
    for row in rows:
        expect_tagged_or_explained(row)


@pytest.mark.parametrize("unit", ["document", "sentence"])
@pytest.mark.parametrize(
    "text",
    [
        "가" * 350_000,
        "수출 " * 100_000,
        "정부는 수출을 돕겠다고 밝혔다. " * 5_000,
        "\x00\x01\x7f정부\x00",
        "\u200b\u200b",
        "👩‍👩‍👧‍👦🇰🇷" * 50,
        unicodedata.normalize("NFD", "정부는 수출 기업을 돕겠다고 밝혔다."),
        "\ufffe\uffff\U0010ffff",
        "a" * 300 + "\t\t" + "Ω" * 300,
    ],
    ids=["1MB-word", "repeats", "long-article", "NUL", "zero-width", "emoji", "NFD", "noncharacters", "foreign"],
)
def test_odd_text_is_tagged_or_explained(tiny_tagger: PolicyTagger, tmp_path: Path, unit: Unit, text: str) -> None:
    if unit == "document":
        text = text[:60_000]  # the splitter reads 20,000 letters a second
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    rows = tagged(tiny_tagger, path, unit)
    assert rows
    for row in rows:
        expect_tagged_or_explained(row)
