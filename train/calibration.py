"""Fits temperatures and thresholds, on validation data only."""

import numpy as np
from scipy.optimize import minimize_scalar

from policy_tagger.inference.codebook import Codebook, Task
from policy_tagger.inference.decision import Decision, TaskDecision, probabilities
from policy_tagger.train.model import NOT_ANNOTATED

MIN_POSITIVES = 10  # below it a label takes the task's shared threshold
LOWEST, HIGHEST = 0.05, 0.95  # thresholds stay inside, whatever few sentences say


def fit_decision(codebook: Codebook, logits: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> Decision:
    """Temperatures and thresholds of all tasks.

    Args:
        logits: Task id → (n, n_labels), of the validation sentences.
        labels: Task id → label vectors of the same shape; rows of -1 are not annotated.
    """
    return Decision(tasks={name: _fit_task(task, logits[name], labels[name]) for name, task in codebook.tasks.items()})


def _fit_task(task: Task, logits: np.ndarray, labels: np.ndarray) -> TaskDecision:
    annotated = labels[:, 0] != NOT_ANNOTATED
    logits, labels = logits[annotated], labels[annotated]
    temperature = fit_temperature(task, logits, labels) if len(labels) else 1.0
    if task.kind == "single_label":
        return TaskDecision(temperature=temperature)
    values = probabilities(logits, task, temperature)
    shared = best_threshold(values.ravel(), labels.ravel())
    thresholds = {
        label: best_threshold(values[:, i], labels[:, i]) if labels[:, i].sum() >= MIN_POSITIVES else shared
        for i, label in enumerate(task.label_ids)
    }
    return TaskDecision(temperature=temperature, thresholds=thresholds)


def fit_temperature(task: Task, logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017), between 1/4 and 4."""

    def loss(log_temperature: float) -> float:
        values = np.clip(probabilities(logits, task, float(np.exp(log_temperature))).astype(np.float64), 1e-7, 1 - 1e-7)
        likelihood = labels * np.log(values)
        if task.kind == "multi_label":
            likelihood = likelihood + (1 - labels) * np.log(1 - values)
        return float(-likelihood.sum() / len(labels))

    found = minimize_scalar(loss, bounds=(-np.log(4), np.log(4)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def best_threshold(values: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the best F1, midway between neighbouring probabilities; of equals the nearest to one half.

    Args:
        values: (n,) probabilities.
        labels: (n,) 0 or 1. Without positives the threshold is one half.
    """
    if not labels.any():
        return 0.5
    order = np.argsort(-values, kind="stable")
    sorted_values, hits = values[order], np.cumsum(labels[order])
    given = np.arange(1, len(values) + 1)
    f1 = 2 * hits / (given + labels.sum())
    upper, lower = sorted_values, np.append(sorted_values[1:], 0.0)
    middle = np.clip((upper + lower) / 2, LOWEST, HIGHEST)
    usable = upper > lower
    # Clipping moves a threshold past probabilities, so the F1 is that of the clipped one.
    clipped = usable & ((middle <= lower) | (middle > upper))
    for i in np.flatnonzero(clipped):
        chosen = values >= middle[i]
        f1[i] = 2 * labels[chosen].sum() / (chosen.sum() + labels.sum())
    best = f1[usable].max()
    candidates = middle[usable & (f1 >= best - 1e-12)]
    return round(float(candidates[np.argmin(np.abs(candidates - 0.5))]), 4)
