"""Metrics against scikit-learn and by hand, intervals, and calibration."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from policy_tagger.inference.codebook import Task
from policy_tagger.inference.decision import TaskDecision, decide, probabilities
from policy_tagger.train.calibration import best_threshold, fit_temperature
from policy_tagger.train.metrics import (
    TaggingMetric,
    bootstrap_intervals,
    calibration_error,
    flatten,
    lenient_metrics,
    task_metrics,
)

MULTI = Task.model_validate({"kind": "multi_label", "labels": [{"id": "a"}, {"id": "b"}, {"id": "c"}]})
SINGLE = Task.model_validate({"kind": "single_label", "labels": [{"id": "a"}, {"id": "b"}, {"id": "c"}]})


def random_vectors(kind: str, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "multi_label":
        true = (rng.random((n, 3)) < 0.3).astype(int)
        return np.where(rng.random((n, 3)) < 0.2, 1 - true, true), true
    true, noise = rng.integers(0, 3, n), rng.integers(0, 3, n)
    return np.eye(3, dtype=int)[np.where(rng.random(n) < 0.3, noise, true)], np.eye(3, dtype=int)[true]


def test_by_hand() -> None:
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    predicted = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    found = TaggingMetric(config_name="multi_label").compute(
        predictions=predicted, references=true, probabilities=predicted.astype(float), label_ids=["a", "b", "c"]
    )
    assert found["micro_f1"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)  # c occurs nowhere and does not count
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["labels"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}


def test_single_label_has_confusion_with_true_rows() -> None:
    true, predicted = np.eye(3, dtype=int)[[0, 0, 1, 2]], np.eye(3, dtype=int)[[0, 1, 1, 2]]
    found = task_metrics("single_label", predicted, true, predicted.astype(float), ["a", "b", "c"])
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert found["accuracy"] == 0.75
    assert 0 < found["mcc"] < 1


@pytest.mark.parametrize("kind", ["multi_label", "single_label"])
def test_interval_of_one_document_is_the_figure_itself(kind: str) -> None:
    predicted, true = random_vectors(kind)
    intervals = bootstrap_intervals(kind, predicted, true, ["one"] * len(true), resamples=10)
    metrics = task_metrics(kind, predicted, true, predicted.astype(float), ["a", "b", "c"])
    for name, (low, high) in intervals.items():
        assert low == pytest.approx(metrics[name])
        assert high == pytest.approx(metrics[name])
    assert metrics["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))


def test_interval_is_wider_when_sentences_of_a_document_stand_and_fall_together() -> None:
    right = np.array([[1, 0, 0]] * 100)
    predicted = np.where(np.arange(100)[:, None] < 30, 1 - right, right)
    together = bootstrap_intervals("multi_label", predicted, right, [str(n // 10) for n in range(100)])["exact_match"]
    alone = bootstrap_intervals("multi_label", predicted, right, [str(n) for n in range(100)])["exact_match"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])
    assert together[0] < 0.7 < together[1]


def test_calibration_error_is_zero_only_for_honest_probabilities() -> None:
    true = (np.arange(1000)[:, None] % 10 < 3).astype(int)
    assert calibration_error("multi_label", np.full((1000, 1), 0.3), true) == pytest.approx(0)
    assert calibration_error("multi_label", np.full((1000, 1), 0.8), true) == pytest.approx(0.5)


def test_flat_names_are_those_of_gates() -> None:
    metrics = task_metrics("multi_label", np.eye(2, dtype=int), np.eye(2, dtype=int), np.eye(2), ["a", "b"])
    flat = flatten({"themes": metrics})
    assert flat["themes.micro_f1"] == 1.0
    assert flat["themes.labels.b.f1"] == 1.0


def test_temperature_is_recovered() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20000, 3))
    labels = np.eye(3)[
        [
            rng.choice(3, p=row)
            for row in probabilities(honest, SINGLE, 1.0).astype(float)
            / probabilities(honest, SINGLE, 1.0).astype(float).sum(1, keepdims=True)
        ]
    ]
    assert fit_temperature(SINGLE, honest * 2.5, labels) == pytest.approx(2.5, rel=0.05)


def test_threshold_has_the_best_f1_of_all() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        values, labels = rng.random(30).round(2), (rng.random(30) < 0.3).astype(int)
        if not labels.any():
            continue
        found = f1_score(labels, values >= best_threshold(values, labels), zero_division=0)
        inside = [t for t in np.linspace(0.05, 0.95, 901)]
        assert found == pytest.approx(max(f1_score(labels, values >= t, zero_division=0) for t in inside), abs=1e-9)


def test_threshold_stays_inside_its_bounds() -> None:
    assert 0.05 <= best_threshold(np.array([0.001, 0.002]), np.array([0, 1])) <= 0.95
    assert best_threshold(np.array([0.4, 0.6]), np.array([0, 0])) == 0.5


def test_probabilities_and_decisions() -> None:
    logits = np.array([[0.0, 2.0, -800.0]], dtype=np.float32)
    np.testing.assert_allclose(probabilities(logits, MULTI, 2.0), [[0.5, 0.7310586, 0.0]], atol=1e-6)
    np.testing.assert_allclose(probabilities(logits, SINGLE, 1.0).sum(), 1, atol=1e-6)
    decision = TaskDecision(thresholds={"a": 0.6, "b": 0.5, "c": 0.0})
    np.testing.assert_array_equal(decide(probabilities(logits, MULTI, 1.0), MULTI, decision), [[False, True, True]])


def test_lenient_figures_take_either_reading() -> None:
    true, predicted = np.array([[1, 0, 0], [0, 1, 0]]), np.array([[1, 1, 0], [0, 0, 0]])
    may = np.array([[0, 1, 0], [0, 1, 0]])  # b may be given or not, in both
    assert lenient_metrics("multi_label", predicted, true, np.zeros_like(may))["lenient_micro_f1"] == pytest.approx(0.5)
    assert lenient_metrics("multi_label", predicted, true, may)["lenient_micro_f1"] == 1.0
    true, predicted = np.eye(3, dtype=int)[[0, 0, 1]], np.eye(3, dtype=int)[[0, 1, 2]]
    may = np.array([[0, 0, 1], [0, 1, 1], [0, 0, 0]])
    assert lenient_metrics("single_label", predicted, true, may)["lenient_accuracy"] == pytest.approx(2 / 3)
