"""Codebooks: any number of tasks and labels, every problem of a file at once."""

from pathlib import Path

import numpy as np
import pytest

from policy_tagger.inference.codebook import CODEBOOK_FOLDER, Codebook, Task
from policy_tagger.inference.errors import InputError
from tests.conftest import TINY_CODEBOOK


def write(folder: Path, text: str) -> Path:
    path = folder / "codebook.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(CODEBOOK_FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_codebook_loads(path: Path) -> None:
    assert Codebook.load(path) == Codebook.load(path.stem)


def test_default_codebook_has_the_documented_labels(policy_codebook: Codebook) -> None:
    assert [(name, task.kind, len(task.labels)) for name, task in policy_codebook.tasks.items()] == [
        ("themes", "multi_label", 16),
        ("role", "single_label", 11),
    ]
    documented = (CODEBOOK_FOLDER.parent.parent / "docs" / "codebook.md").read_text(encoding="utf-8")
    for task in policy_codebook.tasks.values():
        for label in task.labels:
            assert f"| `{label.id}` | {label.name.ko if label.name else ''} |" in documented


def test_labels_become_vectors_in_the_codebooks_order(tmp_path: Path) -> None:
    task = Codebook.load(write(tmp_path, TINY_CODEBOOK)).tasks["topic"]
    np.testing.assert_array_equal(task.vector(["고용", "수출"]), [1, 0, 1])
    assert task.parse("고용| 수출") == ["고용", "수출"]
    assert task.parse([]) == []


def test_decomposed_hangul_finds_its_label(tmp_path: Path) -> None:
    import unicodedata

    task = Codebook.load(write(tmp_path, TINY_CODEBOOK)).tasks["topic"]
    assert task.parse(unicodedata.normalize("NFD", "수출")) == ["수출"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["수풀"], "found '수풀'"),
        (7, "found 7"),
        (["수출", "수출"], "each label once"),
    ],
)
def test_bad_multi_label_value_says_what_was_found(tmp_path: Path, value: object, expected: str) -> None:
    task = Codebook.load(write(tmp_path, TINY_CODEBOOK)).tasks["topic"]
    with pytest.raises(InputError, match=expected):
        task.parse(value)


def test_misspelt_label_names_the_nearest() -> None:
    task = Task.model_validate({"kind": "single_label", "labels": [{"id": "government"}, {"id": "company"}]})
    with pytest.raises(InputError, match="the nearest is 'government'"):
        task.parse("goverment")


def test_all_problems_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: x\ntasks:\n  t: {kind: many, labels: [{id: a}, {id: a}], lables: []}\n  text: {kind: single_label, labels: [{id: a|b}, {id: '-'}]}\n",
    )
    with pytest.raises(InputError) as caught:
        Codebook.load(path)
    text = "\n".join(caught.value.problems)
    assert "version in" in text
    assert "tasks.t.kind" in text
    assert "Got 'many'" in text
    assert "Found twice: a" in text
    assert "Did you mean `labels`?" in text
    assert "'a|b'" in text
    assert "'-'" in text


def test_reserved_column_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must not name a task like the column `text`"):
        Codebook.load(write(tmp_path, TINY_CODEBOOK.replace("voice:", "text:")))


def test_key_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3.*stands twice"):
        Codebook.load(write(tmp_path, "name: x\nversion: '1'\nname: y\ntasks: {}\n"))


def test_content_hash_ignores_layout_but_not_content(tmp_path: Path) -> None:
    before = Codebook.load(write(tmp_path, TINY_CODEBOOK)).content_hash
    assert Codebook.load(write(tmp_path, "# comment\n" + TINY_CODEBOOK)).content_hash == before
    assert Codebook.load(write(tmp_path, TINY_CODEBOOK.replace('"1"', '"2"'))).content_hash != before
