"""Metrics of one task, as an `evaluate.Metric` that ships with the package, and intervals resampled by document."""

from collections.abc import Sequence
from typing import Any, Literal

import datasets
import evaluate
import numpy as np
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

CALIBRATION_BINS = 15  # Guo et al. 2017

_DESCRIPTION = """Quality of sentence tagging for one task: per label precision, recall, F1 and support, micro and macro F1,
exact-set match, and for single-label tasks accuracy, Matthews correlation and the confusion matrix."""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class TaggingMetric(evaluate.Metric):
    """`compute(predictions=, references=, probabilities=, label_ids=)` for one task.

    The configuration name is the task's kind, `multi_label` or `single_label`. predictions and references are label
    vectors, 0 or 1, (n, n_labels); probabilities float, of the same shape. Macro averages run over the labels that occur
    in references or predictions.
    """

    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.Sequence(datasets.Value("int8"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: label vectors (n, n_labels)",
            features=datasets.Features({"predictions": vector, "references": vector}),
        )

    def _compute(
        self, predictions: Any, references: Any, probabilities: np.ndarray, label_ids: Sequence[str]
    ) -> dict[str, Any]:
        predicted, true = np.asarray(predictions, dtype=np.int64), np.asarray(references, dtype=np.int64)
        return task_metrics(self.config_name, predicted, true, probabilities, label_ids)


def task_metrics(
    kind: str, predicted: np.ndarray, true: np.ndarray, probabilities: np.ndarray, label_ids: Sequence[str]
) -> dict[str, Any]:
    """All metrics of a task.

    Args:
        kind: multi_label or single_label.
        predicted, true: 0 or 1, (n, n_labels).
        probabilities: (n, n_labels).

    Returns:
        Numbers by name; `labels`: label id → precision, recall, f1, support; for single_label `confusion`, rows true.
    """
    precision, recall, f1, support = precision_recall_fscore_support(true, predicted, average=None, zero_division=0)
    occurring = [i for i in range(len(label_ids)) if true[:, i].any() or predicted[:, i].any()]
    result: dict[str, Any] = {
        "sentences": len(true),
        "macro_f1": f1_score(true, predicted, labels=occurring, average="macro", zero_division=0) if occurring else 0.0,
        "calibration_error": calibration_error(kind, probabilities, true),
        "labels": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, label in enumerate(label_ids)
        },
    }
    if kind == "multi_label":
        result["micro_f1"] = f1_score(true, predicted, average="micro", zero_division=0)
        result["exact_match"] = accuracy_score(true, predicted)
    else:
        true_index, predicted_index = true.argmax(axis=1), predicted.argmax(axis=1)
        result["accuracy"] = accuracy_score(true_index, predicted_index)
        result["mcc"] = matthews_corrcoef(true_index, predicted_index)
        matrix = confusion_matrix(true_index, predicted_index, labels=range(len(label_ids)))
        result["confusion"] = matrix.tolist()
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in result.items()}


def lenient_metrics(kind: str, predicted: np.ndarray, true: np.ndarray, may: np.ndarray) -> dict[str, float]:
    """The main figures where a second reading counts as right too: `lenient_macro_f1`, and `lenient_micro_f1` or
    `lenient_accuracy`.

    Args:
        kind: multi_label or single_label.
        predicted, true: 0 or 1, (n, n_labels).
        may: 0 or 1, (n, n_labels); multi_label: labels that may be given or not; single_label: further right answers.
    """
    second = may.astype(bool) if kind == "multi_label" else (predicted * may).any(axis=1, keepdims=True)
    accepted = np.where(second, predicted, true)
    figures = task_metrics(kind, predicted, accepted, predicted.astype(float), [str(i) for i in range(true.shape[1])])
    main = "micro_f1" if kind == "multi_label" else "accuracy"
    return {f"lenient_{name}": figures[name] for name in (main, "macro_f1")}


def calibration_bins(kind: str, probabilities: np.ndarray, true: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean probability, share correct and count for each of 15 equal bins that is not empty.

    multi_label: every label decision counts, by the label's probability. single_label: the most probable label.
    """
    if kind == "multi_label":
        confidence, correct = probabilities.ravel(), true.ravel()
    else:
        winner = probabilities.argmax(axis=1)
        rows = np.arange(len(true))
        confidence, correct = probabilities[rows, winner], true[rows, winner]
    place = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        (float(confidence[place == i].mean()), float(correct[place == i].mean()), int((place == i).sum()))
        for i in range(CALIBRATION_BINS)
        if (place == i).any()
    ]


def calibration_error(kind: str, probabilities: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error: mean distance of probability and share correct, weighted by count."""
    bins = calibration_bins(kind, probabilities, true)
    total = sum(count for _, _, count in bins)
    return sum(abs(mean - share) * count for mean, share, count in bins) / total if total else 0.0


def bootstrap_intervals(
    kind: Literal["multi_label", "single_label"],
    predicted: np.ndarray,
    true: np.ndarray,
    document_ids: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """95% percentile intervals (Efron 1979), whole documents resampled since their sentences depend on each other.

    Returns:
        Metric name → (lower, upper): macro_f1, and micro_f1 and exact_match, or accuracy.
    """
    ids, document = np.unique(np.asarray(document_ids), return_inverse=True)

    def a_document(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(ids), *values.shape[1:]))
        np.add.at(sums, document, values)
        return sums

    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=resamples).astype(float)
    both, found, wanted = (weights @ a_document(values) for values in (predicted * true, predicted, true))
    size = weights @ a_document(np.ones((len(true), 1)))
    exact = weights @ a_document((predicted == true).all(axis=1, keepdims=True).astype(float))
    label_f1 = 2 * both / np.maximum(found + wanted, 1)
    occurring = np.maximum(((found + wanted) > 0).sum(axis=1), 1)
    samples = {
        "macro_f1": label_f1.sum(axis=1) / occurring,
        "exact_match" if kind == "multi_label" else "accuracy": (exact / size)[:, 0],
    }
    if kind == "multi_label":
        samples["micro_f1"] = 2 * both.sum(axis=1) / np.maximum((found + wanted).sum(axis=1), 1)
    bounds = {name: np.percentile(values, [2.5, 97.5]) for name, values in samples.items()}
    return {name: (float(lower), float(upper)) for name, (lower, upper) in bounds.items()}


def flatten(metrics: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Task → metrics, as `task.metric` and `task.labels.LABEL.f1` → number; the names that gates and configs use."""
    flat: dict[str, float] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{prefix}.{name}", inner)
        elif isinstance(value, int | float):
            flat[prefix] = value

    for task, values in metrics.items():
        walk(task, values)
    return flat
