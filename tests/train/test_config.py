"""Configs: every shipped one loads, and every problem of a file is listed at once."""

from pathlib import Path

import pytest

from policy_tagger.inference.cli import main
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.schema import load_yaml
from policy_tagger.train.config import CONFIG_FOLDER, TrainConfig, load_train_config
from policy_tagger.train.pretrain import PretrainConfig

SCHEMAS = {"train": TrainConfig, "pretrain": PretrainConfig, "codebooks": Codebook}


@pytest.mark.parametrize(
    "path", sorted(CONFIG_FOLDER.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_shipped_yaml_loads(path: Path) -> None:
    load_yaml(path, SCHEMAS[path.parent.name])


@pytest.mark.parametrize("schema", [TrainConfig, PretrainConfig])
def test_every_field_is_documented(schema: type[TrainConfig] | type[PretrainConfig]) -> None:
    definitions = [schema.model_json_schema(), *schema.model_json_schema()["$defs"].values()]
    undocumented = [
        f"{definition['title']}.{name}"
        for definition in definitions
        for name, field in definition["properties"].items()
        if "description" not in field and "$ref" not in field
    ]
    assert undocumented == []


def test_all_problems_at_once_with_hints(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "output: 3\ncodebook: policy\ndata: {files: []}\nencoder: {model: embedded, dropot: 0.1}\n"
        "training: {learning_rate: 1e-5, warmup_ratio: 1.5, epochs: two}\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError) as caught:
        load_train_config(str(path), [])
    problems = {problem.partition(" in ")[0]: problem for problem in caught.value.problems}
    assert problems.keys() == {
        "output",
        "data.files",
        "encoder.dropot",
        "training.learning_rate",
        "training.warmup_ratio",
        "training.epochs",
    }
    assert problems["training.warmup_ratio"] == f"training.warmup_ratio in {path} must be less than 1. Got 1.5."
    assert problems["training.learning_rate"].endswith("Got '1e-5'. YAML reads this as text; write 1.0e-05.")
    assert problems["encoder.dropot"].endswith("Did you mean `dropout`?")


def test_overrides_are_yaml_and_checked() -> None:
    config = load_train_config("small", ["training.epochs=2", "data.files=[a.csv, b.csv]", "tasks.role.balance=0.5"])
    assert (config.training.epochs, config.data.files, config.tasks["role"].balance) == (2, ["a.csv", "b.csv"], 0.5)
    with pytest.raises(InputError, match=r"training\.epochz"):
        load_train_config("small", ["training.epochz=2"])
    with pytest.raises(InputError, match=r"section\.field=value"):
        load_train_config("small", ["training.epochs"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.model=klue/bert-base", "Offline, train with the embedded encoder: policy-tagger train small"),
        ("codebook=none.yaml", "none.yaml must be an existing YAML file"),
        ("data.files=[none.jsonl]", "none.jsonl must be an existing file or folder"),
        ("tasks.speaker.weight=2", "tasks: speaker not in the codebook. It has topic, voice."),
        ("training.metric=topic.micro_f2", "Did you mean topic.micro_f1?"),
        ("encoding.max_length=999", "encoding.max_length must be at most 64"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture, override: str, message: str
) -> None:
    assert main(["train", str(tiny_config), "--set", f"output={tmp_path / 'out'}", "--set", override]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
