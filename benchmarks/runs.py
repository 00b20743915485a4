"""What the quality benchmarks share: one training run through `policy-tagger train`, and its figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from policy_tagger.inference.checkpoint import MODELS_FOLDER, RUN
from policy_tagger.train.config import load_train_config
from policy_tagger.train.model import build_encoder
from policy_tagger.train.trainer import train

FIGURES = [("themes", "micro_f1"), ("themes", "macro_f1"), ("role", "accuracy"), ("role", "macro_f1")]
HEADER = "| themes micro-F1 | themes macro-F1 | role accuracy | role macro-F1 |"
VALIDATION_ONLY = "data.measure_test=false"


def run(output: Path, overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Train the shipped config `small` once; split → task → metrics."""
    train(load_train_config("small", [f"output={output}", *overrides]))
    record = json.loads((output / RUN).read_text(encoding="utf-8"))
    return {split: metrics["tasks"] for split, metrics in record["metrics"].items()}


def cells(tasks: dict[str, Any], with_intervals: bool = False) -> str:
    """The FIGURES as cells of a table."""
    found = []
    for task, metric in FIGURES:
        low, high = tasks[task]["intervals_95"][metric]
        found.append(f"{tasks[task][metric]:.3f}" + (f" ({low:.3f}–{high:.3f})" if with_intervals else ""))
    return " | ".join(found)


def annotated_twice(corpus: Path) -> str:
    """The override that leaves the sentences annotated once out: a quarter of the time."""
    return f"data.files={json.dumps([str(corpus / f'{split}.jsonl') for split in ('train', 'validation', 'test')])}"


def write_unpretrained(folder: Path) -> None:
    """An encoder of the embedded one's shape with random weights, and its tokenizer."""
    source = MODELS_FOLDER / "encoder"
    build_encoder(AutoConfig.from_pretrained(source)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
