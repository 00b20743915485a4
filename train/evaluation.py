"""Checkpoint + labelled sentences → metrics with intervals, a summary, plots, and the gate for CI."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import decide
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import write_json
from policy_tagger.inference.schema import nearest
from policy_tagger.inference.tagger import PolicyTagger
from policy_tagger.train.data import LabelledSentence
from policy_tagger.train.metrics import TaggingMetric, bootstrap_intervals, flatten, lenient_metrics
from policy_tagger.train.model import NOT_ANNOTATED


@dataclass(frozen=True)
class TaskResult:
    """One task's outcome on the sentences that are annotated for it."""

    metrics: dict[str, Any]
    """As `metrics.task_metrics` returns them."""
    intervals: dict[str, tuple[float, float]]
    """Metric → 95% interval."""
    probabilities: np.ndarray
    """float32 (n, n_labels)."""
    true: np.ndarray
    """int (n, n_labels)."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome of all tasks that are annotated."""

    model_id: str
    codebook: Codebook
    sentences: int
    documents: int
    tasks: dict[str, TaskResult]

    @property
    def flat(self) -> dict[str, float]:
        """`task.metric` and `task.labels.LABEL.f1` → number."""
        return flatten({name: result.metrics for name, result in self.tasks.items()})

    def to_dict(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        tasks = {
            name: {**result.metrics, "intervals_95": {key: list(pair) for key, pair in result.intervals.items()}}
            for name, result in self.tasks.items()
        }
        return {"model": self.model_id, "sentences": self.sentences, "documents": self.documents, "tasks": tasks}


def label_vectors(sentences: Sequence[LabelledSentence], codebook: Codebook) -> dict[str, np.ndarray]:
    """Task id → float32 (n, n_labels); rows of -1 where the task is not annotated."""
    return {
        name: np.stack(
            [
                np.full(len(task.labels), NOT_ANNOTATED, dtype=np.float32)
                if sentence.labels[name] is None
                else task.vector(sentence.labels[name] or [])
                for sentence in sentences
            ]
        )
        for name, task in codebook.tasks.items()
    }


def evaluate(tagger: PolicyTagger, sentences: Sequence[LabelledSentence]) -> Evaluation:
    """Tag the sentences as `predict` would and compare.

    Args:
        sentences: In document order; neighbours of one document give each other context.

    Raises:
        InputError: no sentence is annotated.
    """
    document_ids = [sentence.document_id for sentence in sentences]
    values = tagger.predict_proba([sentence.text for sentence in sentences], document_ids)
    tasks = {}
    for name, labels in label_vectors(sentences, tagger.codebook).items():
        annotated = labels[:, 0] != NOT_ANNOTATED
        if not annotated.any():
            continue
        task = tagger.codebook.tasks[name]
        probabilities, true = values[name][annotated], labels[annotated].astype(np.int64)
        predicted = decide(probabilities, task, tagger.checkpoint.decision.tasks[name]).astype(np.int64)
        metrics = TaggingMetric(config_name=task.kind).compute(
            predictions=predicted, references=true, probabilities=probabilities, label_ids=task.label_ids
        )
        may = np.stack([task.vector(sentence.may[name]) for sentence in sentences])[annotated].astype(np.int64)
        if may.any():
            metrics |= lenient_metrics(task.kind, predicted, true, may)
        ids = [document for document, is_annotated in zip(document_ids, annotated, strict=True) if is_annotated]
        tasks[name] = TaskResult(metrics, bootstrap_intervals(task.kind, predicted, true, ids), probabilities, true)
    if not tasks:
        raise InputError(f"The data must have labels for {' or '.join(tagger.codebook.tasks)}. Found none.")
    return Evaluation(tagger.checkpoint.model_id, tagger.codebook, len(sentences), len(set(document_ids)), tasks)


def parse_minima(arguments: Sequence[str], codebook: Codebook) -> dict[str, float]:
    """`themes.micro_f1=0.8` each → metric name → least value.

    Raises:
        InputError: listing every argument that is not TASK.METRIC=NUMBER.
    """
    minima: dict[str, float] = {}
    problems = []
    for argument in arguments:
        name, _, value = argument.rpartition("=")
        try:
            least = float(value)
        except ValueError:
            least = math.nan
        if not math.isfinite(least):
            problems.append(
                f"--min {argument} must have the form TASK.METRIC=NUMBER, such as --min themes.micro_f1=0.8."
            )
        elif name in minima:
            problems.append(f"--min {argument}: {name} has another minimum already. Give one.")
        elif name.partition(".")[0] not in codebook.tasks:
            problems.append(f"--min {argument}: the codebook has no such task. It has {', '.join(codebook.tasks)}.")
        else:
            minima[name] = least
    if problems:
        raise InputError(problems)
    return minima


def missed_minima(evaluation: Evaluation, minima: dict[str, float]) -> list[str]:
    """One line for each metric below its minimum.

    Raises:
        InputError: a metric does not exist; the nearest one is named.
    """
    flat = evaluation.flat
    for name in minima:
        if name not in flat:
            guess = nearest(name, flat)
            known = ", ".join(key for key in flat if ".labels." not in key)
            raise InputError(
                f"--min {name}: no such metric." + (f" Did you mean {guess}?" if guess else f" There are {known}.")
            )
    return [
        f"{name} is {flat[name]:.4f}, below the required {least:g}"
        for name, least in minima.items()
        if flat[name] < least
    ]


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write `metrics.json`, `summary.md` and the plots."""
    from policy_tagger.train.plots import write_plots

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", evaluation.to_dict())
    plots = write_plots(evaluation, folder)
    lines = ["# Evaluation", "", f"Model `{evaluation.model_id}`, {counts(evaluation)}.", ""]
    lines += [metrics_markdown(evaluation), ""]
    lines += [f"![{plot.stem}]({plot.name})" for plot in plots]
    (folder / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def counts(evaluation: Evaluation) -> str:
    """How much was evaluated, in words."""
    return f"{evaluation.sentences:,} sentences of {evaluation.documents:,} documents"


def metrics_markdown(evaluation: Evaluation) -> str:
    """Tables of all tasks and labels, in Markdown."""
    lines = ["| task | metric | value | 95% interval |", "|---|---|---|---|"]
    for name, result in evaluation.tasks.items():
        for metric, value in result.metrics.items():
            if isinstance(value, float):
                low_high = result.intervals.get(metric)
                interval = f"{low_high[0]:.3f} – {low_high[1]:.3f}" if low_high else ""
                lines.append(f"| {name} | {metric} | {value:.3f} | {interval} |")
    for name, result in evaluation.tasks.items():
        lines += ["", f"| {name} | precision | recall | F1 | sentences |", "|---|---|---|---|---|"]
        lines += [
            f"| {label} | {m['precision']:.3f} | {m['recall']:.3f} | {m['f1']:.3f} | {m['support']} |"
            for label, m in result.metrics["labels"].items()
        ]
    return "\n".join(lines)
