"""Small files of checkpoints and runs: JSON in and out, hashes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from policy_tagger.inference.errors import InputError

UNFINISHED = ".unfinished"  # in the name of what is being written


def write_json(path: Path, content: Any) -> None:
    """Indented UTF-8 JSON, put in place atomically: after a crash there is the old file or the new one."""
    unfinished = path.with_name(path.name + UNFINISHED)
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint or run.

    Raises:
        InputError: the file is missing or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Copy the whole folder again.") from None
    except ValueError as error:
        raise InputError(f"{path} must be JSON: {error}. Restore the file.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a JSON object. Got {type(content).__name__}. Restore the file.")
    return content
