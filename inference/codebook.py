"""The codebook: which tasks there are, which labels each has, and how labels become vectors and back."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.schema import Schema, load_yaml, nearest

LABEL_SEPARATOR = "|"  # between labels in one cell of a CSV or TSV file
NO_LABEL = "-"  # in such a cell: annotated, and none of the labels; an empty cell is not annotated
RESERVED_COLUMNS = ("document_id", "sentence_id", "text", "split", "truncated", "error")
MAY = "_may"  # TASK_may: the column of labels that a second reading would give
CODEBOOK_FOLDER = Path(__file__).parent.parent / "configs" / "codebooks"


def _usable_id(value: str) -> str:
    if (
        value in ("", NO_LABEL)
        or value != value.strip()
        or any(sign in value for sign in (LABEL_SEPARATOR, "\n", "\t"))
    ):
        raise ValueError(
            f"must be a name without '{LABEL_SEPARATOR}', tabs, line breaks or blanks at its ends. Got {value!r}"
        )
    return unicodedata.normalize("NFC", value)


def _usable_task_name(value: str) -> str:
    if not re.fullmatch(r"[\w-]+", value):
        raise ValueError(f"must be a task name of letters, digits, _ and -. Got {value!r}")
    return unicodedata.normalize("NFC", value)


Identifier = Annotated[str, AfterValidator(_usable_id)]
TaskName = Annotated[str, AfterValidator(_usable_task_name)]


class Name(Schema):
    """What people see."""

    ko: str
    """Korean name."""
    en: str
    """English name."""


class Label(Schema):
    """One label of a task."""

    id: Identifier
    """Stable id, as in data files and predictions."""
    name: Name | None = None
    """Shown to people; the id where absent."""
    definition: str = ""
    """What counts."""
    exclusions: str = ""
    """What does not count, and where it goes instead."""
    examples: list[str] = []
    """Sentences that carry the label."""


class Task(Schema):
    """One question asked of every sentence; one head of the model."""

    kind: Literal["multi_label", "single_label"]
    """multi_label: none to many labels a sentence; single_label: exactly one."""
    name: Name | None = None
    """Shown to people; the task's id where absent."""
    labels: Annotated[list[Label], Field(min_length=1)]
    """In the order of the model's outputs."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[Label]) -> list[Label]:
        ids = [label.id for label in labels]
        twice = sorted({label_id for label_id in ids if ids.count(label_id) > 1})
        if twice:
            raise ValueError(f"must have distinct ids. Found twice: {', '.join(twice)}")
        return labels

    @property
    def label_ids(self) -> list[str]:
        """Ids in the order of the model's outputs."""
        return [label.id for label in self.labels]

    @property
    def label2id(self) -> dict[str, int]:
        """Label id → index in the model's outputs."""
        return {label.id: index for index, label in enumerate(self.labels)}

    def display_name(self, label_id: str, language: Literal["ko", "en"]) -> str:
        """The label's name in a language; its id where it has none."""
        name = self.labels[self.label2id[label_id]].name
        return getattr(name, language) if name else label_id

    def parse(self, value: Any) -> list[str]:
        """One cell of a data file → label ids, NFC.

        Args:
            value: A list of ids, or a string with ids separated by `|` (`-` for none); for single_label, one id.

        Raises:
            InputError: the value has the wrong shape, or an id is unknown (the nearest known one is named).
        """
        if self.kind == "single_label":
            if not isinstance(value, str):
                raise InputError(f"expected one label id as text, found {_brief(value)}")
            return self.parse_list([value])
        return self.parse_list(value)

    def parse_list(self, value: Any) -> list[str]:
        """A cell that may hold several labels whatever the task's kind → label ids, NFC.

        Args:
            value: A list of ids, or a string with ids separated by `|` (`-` for none).

        Raises:
            InputError: as `parse`.
        """
        if isinstance(value, str):
            found = [] if value.strip() == NO_LABEL else value.split(LABEL_SEPARATOR)
        elif isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            found = list(value)
        else:
            raise InputError(
                f"expected a list of label ids, or ids separated by '{LABEL_SEPARATOR}', found {_brief(value)}"
            )
        found = [unicodedata.normalize("NFC", part.strip()) for part in found]
        unknown = [part for part in found if part not in self.label2id]
        if unknown:
            raise InputError("; ".join(self._unknown(part) for part in unknown))
        if len(set(found)) < len(found):
            raise InputError(f"expected each label once, found {_brief(found)}")
        return found

    def vector(self, labels: Sequence[str]) -> np.ndarray:
        """Label ids → float32 (n_labels,), 1 where the label is given."""
        out = np.zeros(len(self.labels), dtype=np.float32)
        out[[self.label2id[label] for label in labels]] = 1
        return out

    def _unknown(self, label: str) -> str:
        guess = nearest(label, self.label_ids)
        hint = f"the nearest is '{guess}'" if guess else f"known are {', '.join(self.label_ids[:20])}"
        return f"expected a label of the codebook, found '{label}' ({hint})"


class Codebook(Schema):
    """Tasks and their labels.

    Nothing else in the program knows any label: a codebook with one task or with a hundred labels works the same.
    """

    name: Identifier
    """Short name of the codebook."""
    version: str
    """Changed whenever a label's meaning changes."""
    tasks: Annotated[dict[TaskName, Task], Field(min_length=1)]
    """Task id → task, in the order of the model's heads."""

    @field_validator("tasks")
    @classmethod
    def _free_names(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        for task in tasks:
            if task in (*RESERVED_COLUMNS, "loss") or task.endswith(("_probabilities", MAY)):
                raise ValueError(f"must not name a task like the column `{task}` of data files; rename it")
        return tasks

    @property
    def content_hash(self) -> str:
        """sha256 of the content, independent of the file's layout; hexadecimal."""
        content = json.dumps(self.model_dump(), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """Name, version and content hash, as manifests record them."""
        return {"name": self.name, "version": self.version, "content_hash": self.content_hash}

    @property
    def output_sizes(self) -> dict[str, int]:
        """Task id → number of labels."""
        return {name: len(task.labels) for name, task in self.tasks.items()}

    @classmethod
    def load(cls, path_or_name: str | Path) -> "Codebook":
        """Read a codebook file, or a shipped codebook by its name (`policy`).

        Raises:
            InputError: listing every problem of the file.
        """
        shipped = CODEBOOK_FOLDER / f"{path_or_name}.yaml"
        return load_yaml(shipped if shipped.exists() else path_or_name, cls)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
