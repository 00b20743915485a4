"""`policy-tagger evaluate`: the files it writes, and the gate."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from policy_tagger.inference.cli import main
from tests.conftest import SENTENCES


@pytest.fixture
def evaluate(tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path) -> Any:
    return lambda *arguments: main(
        ["evaluate", str(tiny_checkpoint), str(tiny_data), "-o", str(tmp_path / "out"), *arguments]
    )


def test_writes_metrics_summary_and_plots(evaluate: Any, tmp_path: Path) -> None:
    assert evaluate() == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "metrics.json",
        "summary.md",
        "topic_f1.png",
        "topic_reliability.png",
        "voice_f1.png",
        "voice_reliability.png",
        "voice_confusion.png",
    }
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["sentences"] == 8  # of the test split alone
    assert metrics["tasks"]["voice"]["accuracy"] == 1.0
    assert metrics["tasks"]["voice"]["intervals_95"]["accuracy"] == [1.0, 1.0]
    assert "| topic | micro_f1 | 1.000 | 1.000 – 1.000 |" in (tmp_path / "out" / "summary.md").read_text(
        encoding="utf-8"
    )


def test_gate_passes_and_misses(evaluate: Any, capsys: pytest.CaptureFixture) -> None:
    assert evaluate("--min", "topic.micro_f1=0.9", "--min", "voice.labels.firm.f1=0.9") == 0
    assert evaluate("--min", "topic.micro_f1=1.01", "--min", "voice.accuracy=0.5") == 1
    assert capsys.readouterr().err == "MISSED: topic.micro_f1 is 1.0000, below the required 1.01\n"


@pytest.mark.parametrize(
    ("minimum", "message"),
    [
        ("topic.micro_f1", "must have the form"),
        ("topic.micro_f1=nan", "must have the form"),
        ("topic.f1_micro=0.5", "no such metric"),
        ("themes.micro_f1=0.5", "no such task. It has topic, voice"),
    ],
)
def test_gate_that_cannot_be_checked_is_an_error(
    evaluate: Any, capsys: pytest.CaptureFixture, minimum: str, message: str
) -> None:
    assert evaluate("--min", minimum) == 2
    assert message in capsys.readouterr().err


def test_data_with_errors_is_refused(
    evaluate: Any, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "하나.", "voice": "nobody"}\n', encoding="utf-8")
    assert main(["evaluate", str(tiny_checkpoint), str(path), "-o", str(tmp_path / "out")]) == 2
    assert "row 1, field voice" in capsys.readouterr().err


def test_changed_checkpoint_is_refused(tiny_checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / "decision.json").write_text("{}", encoding="utf-8")
    assert main(["evaluate", str(copy), str(tiny_data), "-o", str(tmp_path / "out")]) == 2


def test_default_model_clears_a_gate_on_the_fixture(tmp_path: Path) -> None:
    """The use in CI: a small fixture that the model was not trained on, minima well below what it reaches."""
    minima = ["--min", "themes.micro_f1=0.3", "--min", "role.accuracy=0.6"]
    assert main(["evaluate", "default", str(SENTENCES), "-o", str(tmp_path), *minima]) == 0
    assert main(["evaluate", "default", str(SENTENCES), "-o", str(tmp_path), "--min", "themes.micro_f1=0.999"]) == 1
