"""The checkpoint directory: everything prediction needs, and proof that it is what was written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision
from policy_tagger.inference.encoding import EncodingSettings
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import file_hash, read_json, write_json
from policy_tagger.inference.schema import Schema, validate

CONFIG = "config.json"  # the encoder's Hugging Face config; our settings under the key below
CONFIG_KEY = "policy_tagger"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
CODEBOOK = "codebook.yaml"
DECISION = "decision.json"
RUN = "run.json"
CARD = "README.md"
GRAPH = "openvino_model.xml"
GRAPH_WEIGHTS = "openvino_model.bin"
INT8_GRAPH = "openvino_int8.xml"  # there only where quantising kept the quality
INT8_GRAPH_WEIGHTS = "openvino_int8.bin"
MANIFEST = "manifest.json"

PROTECTED = (CONFIG, WEIGHTS, TOKENIZER, CODEBOOK, DECISION, GRAPH, GRAPH_WEIGHTS)
IDENTITY = (CONFIG, WEIGHTS, TOKENIZER, CODEBOOK, DECISION)  # a graph follows from these
SERVING = (CONFIG, TOKENIZER, CODEBOOK, DECISION, GRAPH, GRAPH_WEIGHTS)
OPTIONAL = (INT8_GRAPH, INT8_GRAPH_WEIGHTS)
MODELS_FOLDER = Path(__file__).parent.parent / "models"
DEFAULT_MODEL = "default"


class Manifest(Schema):
    """The content of `manifest.json`."""

    format: Literal[2]
    """Version of the directory's layout; 1 had a context of preceding sentences instead of windows."""
    files: dict[str, str]
    """Protected file → sha256 of its bytes, hexadecimal."""

    @field_validator("files")
    @classmethod
    def _complete(cls, files: dict[str, str]) -> dict[str, str]:
        missing = [name for name in PROTECTED if name not in files]
        if missing:
            raise ValueError(f"must name {', '.join(missing)}; copy the whole checkpoint again")
        return files


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint directory."""

    folder: Path
    codebook: Codebook
    decision: Decision
    encoding: EncodingSettings
    token_types: int
    """How many segment ids the encoder knows."""
    model_id: str
    """Folder name and the first 12 digits of the hash over what decides its predictions."""
    has_int8: bool
    """There is a quantised graph."""

    @classmethod
    def open(cls, model: str | Path) -> "Checkpoint":
        """Read a checkpoint directory, `default`, or a Hub id (`user/name`).

        Raises:
            InputError: not a checkpoint, or files that serving reads are missing or changed; all of them are listed.
        """
        folder = resolve(model)
        hashes = validate(read_json(folder / MANIFEST), Manifest, str(folder / MANIFEST)).files
        problems = []
        for name in (*SERVING, *(name for name in OPTIONAL if name in hashes)):
            path = folder / name
            if not path.exists():
                problems.append(f"{path} is missing. The checkpoint is incomplete: copy the whole folder again.")
            elif hashes[name] != file_hash(path):
                problems.append(f"{path} has changed since the checkpoint was written. Restore it, or train again.")
        if problems:
            raise InputError(problems)
        config = read_json(folder / CONFIG)
        codebook = Codebook.load(folder / CODEBOOK)
        identity = hashlib.sha256("".join(hashes[name] for name in IDENTITY).encode()).hexdigest()[:12]
        return cls(
            folder=folder,
            codebook=codebook,
            decision=Decision.load(folder / DECISION, codebook),
            encoding=validate(config.get(CONFIG_KEY, {}), EncodingSettings, str(folder / CONFIG)),
            token_types=config.get("type_vocab_size", 0),
            model_id=f"{folder.resolve().name}@{identity}",
            has_int8=INT8_GRAPH in hashes,
        )


def resolve(model: str | Path) -> Path:
    """The directory of a model: a path, `default`, or a Hub id that is fetched (or found in the cache).

    Raises:
        InputError: no such directory, or the Hub has no such model or cannot be reached.
    """
    folder = MODELS_FOLDER / DEFAULT_MODEL if str(model) == DEFAULT_MODEL else Path(model)
    if (folder / MANIFEST).exists():
        return folder
    if str(model) == DEFAULT_MODEL:
        raise InputError(
            f"The embedded model is missing from this installation ({folder}). Install policy-tagger again."
        )
    if folder.exists():
        raise InputError(
            f"{folder} must be a checkpoint directory. It has no {MANIFEST}: name the folder that training wrote."
        )
    if _is_hub_id(str(model)):
        return _fetch(str(model))
    raise InputError(
        f"{model} must be a checkpoint directory, '{DEFAULT_MODEL}', or a Hub id (user/name). Found nothing there."
    )


def write_manifest(folder: Path) -> None:
    """Record the hashes of the protected files; the last step of writing a checkpoint."""
    present = [*PROTECTED, *(name for name in OPTIONAL if (folder / name).exists())]
    hashes = {name: file_hash(folder / name) for name in present}
    write_json(folder / MANIFEST, {"format": 2, "files": hashes})


def _is_hub_id(model: str) -> bool:
    parts = model.split("/")
    return "\\" not in model and len(parts) == 2 and all(part and part[0] not in ".~" for part in parts)


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*SERVING, *OPTIONAL, WEIGHTS, MANIFEST, RUN, CARD]))
    except Exception as error:  # the Hub client raises many kinds, for one user-visible fact
        raise InputError(
            f"{hub_id} is neither a folder here nor a model that the Hub could give ({type(error).__name__}). "
            f"Check the name and the network, or use the embedded model: --model {DEFAULT_MODEL}."
        ) from None
