"""A finished network → a checkpoint directory with its exported graph."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig

from policy_tagger.inference.backends import OpenVINOBackend
from policy_tagger.inference.checkpoint import (
    CODEBOOK,
    CONFIG,
    CONFIG_KEY,
    DECISION,
    GRAPH,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
)
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision, decide, probabilities
from policy_tagger.inference.encoding import EncodedWindow, SentenceEncoding, sentence_count
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import read_json, write_json
from policy_tagger.inference.tagger import run_network
from policy_tagger.train.model import TaggerModel, TorchBackend, build_encoder

MAX_PROBABILITY_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far the exported graph is from the network it was made from."""

    sentences: int
    max_probability_difference: float
    changed_labels: int


def round_to_half(model: TaggerModel) -> None:
    """Round all weights to float16 values, kept as float32.

    Checkpoint and graph are stored in half precision at no difference to each other: both hold exactly these numbers.
    """
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())


def write_checkpoint(
    folder: Path,
    model: TaggerModel,
    tokenizer: Tokenizer,
    codebook: Codebook,
    decision: Decision,
    encoding: SentenceEncoding,
    samples: Sequence[EncodedWindow],
) -> Parity:
    """Write everything that prediction needs but the manifest; that, `run.json` and the card are the caller's.

    Args:
        model: With weights rounded by `round_to_half`.
        samples: Inputs on which graph and network are compared.

    Raises:
        InputError: the exported graph does not compute what the network does.
    """
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    model = model.to("cpu").eval()
    config = model.encoder.config.to_dict()
    config[CONFIG_KEY] = encoding.settings.model_dump()
    config["dtype"] = "float16"
    write_json(folder / CONFIG, {name: value for name, value in config.items() if name != "_name_or_path"})
    tensors = {
        name: weight.half().contiguous() for name, weight in model.state_dict().items() if weight.is_floating_point()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(str(folder / TOKENIZER))
    content = codebook.model_dump(exclude_defaults=True)
    (folder / CODEBOOK).write_text(
        yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120), encoding="utf-8"
    )
    write_json(folder / DECISION, decision.model_dump())
    export_graph(model, folder / GRAPH)
    return check_parity(model, folder / GRAPH, samples, encoding.pad_id, codebook, decision)


def export_graph(model: TaggerModel, path: Path) -> None:
    """Write the network as an OpenVINO graph with half-precision weights and free batch and length."""
    import openvino as ov

    ids = torch.tensor([[2, 5, 3, 6, 3], [2, 7, 8, 3, 0]])
    example = {
        "input_ids": ids,
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
        "token_type_ids": torch.zeros_like(ids),
        "starts": torch.tensor([[1, 3], [1, 0]]),
        "ends": torch.tensor([[2, 4], [3, 0]]),
    }
    # Tracing warns about every shape it reads; the parity check is what tells whether that mattered.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = ov.convert_model(model.eval(), example_input=example)
    for port, task in zip(graph.outputs, model(**example), strict=True):
        port.get_tensor().set_names({task})
    ov.save_model(graph, path, compress_to_fp16=True)


def torch_backend(checkpoint: Checkpoint) -> TorchBackend:
    """The network in PyTorch, on the GPU where there is one; the entry point of `--backend torch`."""
    return TorchBackend(load_network(checkpoint), "cuda" if torch.cuda.is_available() else "cpu")


def load_network(checkpoint: Checkpoint) -> TaggerModel:
    """The PyTorch network of a checkpoint, in float32."""
    content = read_json(checkpoint.folder / CONFIG)
    content.pop(CONFIG_KEY)
    content["dtype"] = "float32"
    config = AutoConfig.for_model(content.pop("model_type"), **content)
    model = TaggerModel(build_encoder(config), checkpoint.codebook.output_sizes)
    weights = {name: weight.float() for name, weight in load_file(checkpoint.folder / WEIGHTS).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("_ids") for name in missing), missing
    return model.eval()


def check_parity(
    model: TaggerModel,
    graph: Path,
    windows: Sequence[EncodedWindow],
    pad_id: int,
    codebook: Codebook,
    decision: Decision,
) -> Parity:
    """Compare graph and network on real inputs.

    Raises:
        InputError: probabilities differ by more than 1e-4; the export is not usable.
    """
    sizes = codebook.output_sizes
    reference = run_network(TorchBackend(model), windows, pad_id, sizes)
    exported = run_network(OpenVINOBackend(graph), windows, pad_id, sizes)
    difference, changed = 0.0, 0
    for name, task in codebook.tasks.items():
        pair: list[np.ndarray] = [
            probabilities(logits[name], task, decision.tasks[name].temperature) for logits in (reference, exported)
        ]
        difference = max(difference, float(np.abs(pair[0] - pair[1]).max(initial=0.0)))
        changed += int(
            (decide(pair[0], task, decision.tasks[name]) != decide(pair[1], task, decision.tasks[name])).any(1).sum()
        )
    if difference > MAX_PROBABILITY_DIFFERENCE:
        raise InputError(
            f"{graph} differs from the trained network by {difference:.1e} in a probability; the limit is "
            f"{MAX_PROBABILITY_DIFFERENCE:.0e}. This encoder cannot be exported; choose another encoder.model."
        )
    return Parity(sentence_count(windows), difference, changed)


def versions() -> dict[str, Any]:
    """Versions of what made the checkpoint."""
    from importlib.metadata import version

    names = (
        "policy-tagger",
        "torch",
        "transformers",
        "tokenizers",
        "openvino",
        "nncf",
        "scikit-learn",
        "datasets",
        "evaluate",
    )
    return {name: version(name) for name in names}
