"""Token ids → logits."""

import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from policy_tagger.inference.checkpoint import GRAPH, INT8_GRAPH, Checkpoint
from policy_tagger.inference.errors import InputError

Logits = dict[str, np.ndarray]
Precision = Literal["auto", "fp32", "bf16", "int8"]
Library = Literal["openvino", "torch"]


class Backend(Protocol):
    """What computes the network; threads may share one."""

    name: str
    """Library and precision, as manifests record them."""
    streams: int
    """Batches that it computes side by side."""

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Logits:
        """n windows as `encoding.pad` makes them → task id → float32 (n, most sentences, n_labels); what stands in rows beyond a
        window's sentences means nothing."""
        ...


class OpenVINOBackend:
    """An exported graph on the CPU.

    Args:
        graph: The `.xml` file.
        bf16: Compute in bf16 what is not quantised; only on CPUs that can.
        threads: Of the CPU; all where None.
    """

    def __init__(self, graph: Path, bf16: bool = False, threads: int | None = None):
        import openvino as ov

        quantised = " int8" if graph.name == INT8_GRAPH else ""
        self.name = f"openvino {ov.__version__.partition('-')[0]}{quantised} {'bf16' if bf16 else 'fp32'}"

        settings = {
            # Without it OpenVINO computes in bf16 where the CPU can, and results leave the tolerance of the export.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "ENABLE_CPU_PINNING": False,  # pinned threads of two processes would share cores while others idle
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }
        self._model = ov.Core().compile_model(graph, "CPU", settings)
        self._inputs = [port.any_name for port in self._model.inputs]
        self._outputs = {port.any_name: port for port in self._model.outputs}
        self._requests = threading.local()
        # OpenVINO looks up NumPy's API at its first array, and two threads that do so at once wait for each other for ever.
        ov.Tensor(np.zeros(1, dtype=np.int64))
        self.streams: int = self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Logits:
        """See `Backend.logits`."""
        result = self._request().infer({name: inputs[name] for name in self._inputs})
        return {name: result[port] for name, port in self._outputs.items()}

    def _request(self) -> Any:
        """A request of the thread's own."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        return self._requests.own


def open_graph(checkpoint: Checkpoint, precision: Precision, threads: int | None = None) -> OpenVINOBackend:
    """The checkpoint's graph for a precision.

    Args:
        precision: `auto` is int8 where the checkpoint has a graph for it, else fp32: the same on every machine.
        threads: Of the CPU; all where None.

    Raises:
        InputError: the checkpoint has no int8 graph, or the CPU does not compute in bf16.
    """
    if precision == "int8" and not checkpoint.has_int8:
        raise InputError(
            f"{checkpoint.folder} has no int8 graph: quantising cost more quality than is allowed, or the checkpoint is older. "
            "Its run.json says which; use --precision fp32."
        )
    if precision == "bf16" and not computes_bf16():
        raise InputError("--precision bf16 needs a CPU that computes in bf16. This one does not; use fp32.")
    is_int8 = checkpoint.has_int8 and precision in ("auto", "int8")
    return OpenVINOBackend(
        checkpoint.folder / (INT8_GRAPH if is_int8 else GRAPH), bf16=precision == "bf16", threads=threads
    )


def open_backend(
    checkpoint: Checkpoint, library: Library = "openvino", precision: Precision = "auto", threads: int | None = None
) -> Backend:
    """What computes a checkpoint's network.

    Args:
        library: `openvino`, the exported graph on the CPU; `torch`, the weights in fp32 on the GPU where there is one (of the training
            extra, found through the entry-point group `policy_tagger.backends`).
        precision: Of OpenVINO; see `open_graph`.
        threads: Of OpenVINO; all of the CPU where None.

    Raises:
        InputError: a precision that the checkpoint, the CPU or the library does not have.
    """
    if library == "openvino":
        return open_graph(checkpoint, precision, threads)
    if precision not in ("auto", "fp32"):
        raise InputError(f"--backend torch computes in fp32. Got --precision {precision}; leave it out.")
    (entry,) = entry_points(group="policy_tagger.backends", name=library)
    backend: Backend = entry.load()(checkpoint)
    return backend


def computes_bf16() -> bool:
    """Whether the CPU has instructions for bf16."""
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
