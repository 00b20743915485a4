"""The exported graph in int8, kept only where it decides as well."""

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policy_tagger.inference.backends import OpenVINOBackend
from policy_tagger.inference.checkpoint import GRAPH, INT8_GRAPH, INT8_GRAPH_WEIGHTS
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision, decide, probabilities
from policy_tagger.inference.encoding import EncodedWindow, pad
from policy_tagger.inference.tagger import run_network
from policy_tagger.train.metrics import task_metrics
from policy_tagger.train.model import NOT_ANNOTATED

CALIBRATION_WINDOWS = 300  # NNCF's own default for a subset
MOST_LOST = 0.003  # of a task's main metric, on validation


@dataclass(frozen=True)
class Quantised:
    """What int8 changes, on validation."""

    accepted: bool
    fp32: dict[str, float]
    """`task.metric` → value: micro-F1 of multi_label, accuracy of single_label tasks."""
    int8: dict[str, float]
    changed_labels: int
    """Sentences with another label in any task."""
    sentences: int

    def to_dict(self) -> dict[str, Any]:
        """As `run.json` records it."""
        return asdict(self)


def quantise(
    folder: Path,
    calibration: Sequence[EncodedWindow],
    windows: Sequence[EncodedWindow],
    labels: dict[str, np.ndarray],
    pad_id: int,
    codebook: Codebook,
    decision: Decision,
) -> Quantised:
    """Write the int8 graph beside the exported one; remove it again where it costs more than MOST_LOST of any task's main metric.

    Post-training quantisation with static scales (NNCF), so that a sentence's result does not depend on its batch, and with the overflow
    fix, so that CPUs without VNNI compute the same.

    Args:
        calibration: Training windows; CALIBRATION_WINDOWS of them, evenly spread, set the scales.
        windows: Of the validation sentences.
        labels: Their label vectors, as `evaluation.label_vectors` makes them.
    """
    write_int8_graph(folder, calibration, pad_id)
    found: dict[str, dict[str, float]] = {}
    given: dict[str, list[np.ndarray]] = {}
    for graph in (GRAPH, INT8_GRAPH):
        logits = run_network(OpenVINOBackend(folder / graph), windows, pad_id, codebook.output_sizes)
        found[graph], given[graph] = {}, []
        for name, task in codebook.tasks.items():
            values = probabilities(logits[name], task, decision.tasks[name].temperature)
            predicted = decide(values, task, decision.tasks[name])
            annotated = labels[name][:, 0] != NOT_ANNOTATED
            main = "micro_f1" if task.kind == "multi_label" else "accuracy"
            metrics = task_metrics(
                task.kind,
                predicted[annotated].astype(np.int64),
                labels[name][annotated].astype(np.int64),
                values[annotated],
                task.label_ids,
            )
            found[graph][f"{name}.{main}"] = float(metrics[main])
            given[graph].append(predicted)
    changed = np.concatenate(given[GRAPH], axis=1) != np.concatenate(given[INT8_GRAPH], axis=1)
    accepted = all(found[INT8_GRAPH][name] >= found[GRAPH][name] - MOST_LOST for name in found[GRAPH])
    if not accepted:
        for name in (INT8_GRAPH, INT8_GRAPH_WEIGHTS):
            (folder / name).unlink()
    return Quantised(accepted, found[GRAPH], found[INT8_GRAPH], int(changed.any(axis=1).sum()), len(changed))


def write_int8_graph(folder: Path, calibration: Sequence[EncodedWindow], pad_id: int) -> None:
    """Quantise the exported graph in `folder`, whatever that costs in quality."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NNCF's own imports
        import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    chosen = np.unique(np.linspace(0, len(calibration) - 1, CALIBRATION_WINDOWS).round().astype(int))
    inputs = [pad([calibration[i]], pad_id) for i in chosen]
    with redirect_stdout(io.StringIO()):  # its progress bars
        graph = nncf.quantize(
            ov.Core().read_model(folder / GRAPH),
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )
    ov.save_model(graph, folder / INT8_GRAPH, compress_to_fp16=True)
