"""A checkpoint directory is complete and unchanged, or says what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from policy_tagger.inference.checkpoint import SERVING, Checkpoint
from policy_tagger.inference.errors import InputError


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def test_loads_anywhere_by_path_alone(copy: Path, tiny_checkpoint: Path) -> None:
    here, there = Checkpoint.open(copy), Checkpoint.open(tiny_checkpoint)
    assert (here.codebook, here.decision, here.encoding) == (there.codebook, there.decision, there.encoding)
    assert here.model_id.partition("@")[2] == there.model_id.partition("@")[2]


def test_every_missing_and_changed_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "decision.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Checkpoint.open(copy)
    assert [problem.split(str(copy))[1][:25] for problem in caught.value.problems] == [
        "/tokenizer.json is missin",
        "/decision.json has change",
    ]


@pytest.mark.parametrize("name", SERVING)
def test_a_single_flipped_byte_is_noticed(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match="has changed"):
        Checkpoint.open(copy)


def test_card_may_be_edited(copy: Path) -> None:
    (copy / "README.md").write_text("my words", encoding="utf-8")
    Checkpoint.open(copy)


def test_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a checkpoint directory. It has no manifest.json"):
        Checkpoint.open(tmp_path)


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Found nothing there"):
        Checkpoint.open(tmp_path / "none")


def test_hub_model_that_cannot_be_reached_names_the_embedded_one() -> None:
    with pytest.raises(InputError, match="--model default"):
        Checkpoint.open("someone/some-model")


def test_no_pickle_and_nothing_executable_inside(copy: Path) -> None:
    assert {path.suffix for path in copy.iterdir()} == {".json", ".safetensors", ".yaml", ".xml", ".bin", ".md"}
    assert "auto_map" not in json.loads((copy / "config.json").read_text(encoding="utf-8"))
