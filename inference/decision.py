"""Logits → probabilities → labels: temperatures and thresholds, fitted on validation data and applied everywhere."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from policy_tagger.inference.codebook import Codebook, Task
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import read_json
from policy_tagger.inference.schema import Schema, validate

Probability = Annotated[float, Field(ge=0, le=1)]


class TaskDecision(Schema):
    """What turns one task's logits into labels."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divides the logits (Guo et al. 2017)."""
    thresholds: dict[str, Probability] = {}
    """multi_label: label id → probability from which the label is given. single_label: empty, the most probable wins."""


class Decision(Schema):
    """The content of `decision.json`."""

    tasks: dict[str, TaskDecision]
    """Task id → its decision."""

    @classmethod
    def neutral(cls, codebook: Codebook) -> "Decision":
        """Temperature 1 and thresholds of one half, before anything is fitted."""
        return cls(
            tasks={
                name: TaskDecision(thresholds=dict.fromkeys(task.label_ids, 0.5) if task.kind == "multi_label" else {})
                for name, task in codebook.tasks.items()
            }
        )

    @classmethod
    def load(cls, path: Path, codebook: Codebook) -> "Decision":
        """Read `decision.json` and check it against the codebook.

        Raises:
            InputError: tasks or thresholds differ from the codebook's.
        """
        decision = validate(read_json(path), cls, str(path))
        if decision.tasks.keys() != codebook.tasks.keys():
            raise InputError(f"tasks in {path} must be those of the codebook: {', '.join(codebook.tasks)}.")
        for name, task in codebook.tasks.items():
            expected = set(task.label_ids) if task.kind == "multi_label" else set()
            if set(decision.tasks[name].thresholds) != expected:
                raise InputError(f"tasks.{name}.thresholds in {path} must name the codebook's labels of `{name}`.")
        return decision


def probabilities(logits: np.ndarray, task: Task, temperature: float) -> np.ndarray:
    """float32 logits (n, n_labels) → float32 probabilities of the same shape.

    multi_label: independent sigmoids. single_label: softmax, each row sums to 1.
    """
    scaled = logits.astype(np.float64) / temperature
    if task.kind == "multi_label":
        return (1 / (1 + np.exp(-np.clip(scaled, -60, 60)))).astype(np.float32)
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def decide(values: np.ndarray, task: Task, decision: TaskDecision) -> np.ndarray:
    """Probabilities (n, n_labels) → bool (n, n_labels), True where the label is given."""
    if task.kind == "multi_label":
        thresholds = np.array([decision.thresholds[label] for label in task.label_ids], dtype=np.float32)
        return values >= thresholds
    chosen = np.zeros(values.shape, dtype=bool)
    chosen[np.arange(len(values)), values.argmax(axis=1)] = True
    return chosen
