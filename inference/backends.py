"""Token ids → logits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

Logits = dict[str, np.ndarray]


class Backend(Protocol):
    """What computes the network."""

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Logits:
        """input_ids, attention_mask, token_type_ids, int64 (n, length) → task id → float32 (n, n_labels)."""
        ...


class OpenVINOBackend:
    """The exported graph on the CPU, in fp32."""

    def __init__(self, graph: Path):
        import openvino as ov

        # Without the hint OpenVINO computes in bf16 where the CPU can, and the results leave the tolerance of the export.
        self._model = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._inputs = [port.any_name for port in self._model.inputs]
        self._outputs = {port.any_name: port for port in self._model.outputs}

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Logits:
        """See `Backend.logits`."""
        # A request of its own, so that threads can share the backend.
        result = self._model.create_infer_request().infer({name: inputs[name] for name in self._inputs})
        return {name: result[port] for name, port in self._outputs.items()}
