"""`PolicyTagger`: the public face of a trained checkpoint."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from policy_tagger.inference.backends import Backend, Library, Logits, Precision, open_backend
from policy_tagger.inference.checkpoint import DEFAULT_MODEL, TOKENIZER, Checkpoint
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import decide, probabilities
from policy_tagger.inference.encoding import EncodedWindow, SentenceEncoding, pad, sentence_count
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sentences import SentenceSplitter

BATCH_TOKENS = 1024  # as fast as more on CPUs, in less memory


@dataclass(frozen=True)
class TaggedSentence:
    """One sentence with its labels."""

    text: str
    labels: dict[str, list[str] | str]
    """Task id → label ids (multi_label, in the codebook's order) or one label id (single_label)."""
    probabilities: dict[str, dict[str, float]]
    """Task id → label id → probability."""
    truncated: bool
    """The sentence was longer than the model's input; its end was not seen."""


class PolicyTagger:
    """Tags sentences with the labels of a checkpoint's codebook.

    Args:
        checkpoint: The verified directory.
        backend: What computes the network.
    """

    def __init__(self, checkpoint: Checkpoint, backend: Backend):
        self.checkpoint = checkpoint
        self.codebook: Codebook = checkpoint.codebook
        self.backend = backend
        self.encoding = SentenceEncoding.from_file(
            checkpoint.folder / TOKENIZER, checkpoint.encoding, checkpoint.token_types
        )
        self._splitter: SentenceSplitter | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = DEFAULT_MODEL,
        precision: Precision = "auto",
        library: Library = "openvino",
        threads: int | None = None,
    ) -> "PolicyTagger":
        """Load a checkpoint directory, the embedded `default`, or a Hub id (`user/name`).

        Args:
            precision: Of the network on the CPU; `auto` is int8 where the checkpoint has a graph for it, else fp32.
            library: `torch` needs the training extra, and takes the GPU where there is one.
            threads: Of the CPU; all where None.

        Raises:
            InputError: not a checkpoint, files are missing or changed, or a precision that it or the CPU does not have.
        """
        checkpoint = Checkpoint.open(model)
        try:
            return cls(checkpoint, open_backend(checkpoint, library, precision, threads))
        except InputError:
            raise
        except Exception as error:  # the tokenizer's and OpenVINO's own kinds, all meaning: not a file they can read
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{checkpoint.folder} cannot be loaded: {reason}. Copy the checkpoint again.") from None

    @property
    def provenance(self) -> dict[str, str]:
        """What computes, and in which version: results may move in the last digits where it changes."""
        packages = ("policy-tagger", "kiwipiepy", "tokenizers")
        return {"backend": self.backend.name, **{package: version(package) for package in packages}}

    def predict(self, sentences: Sequence[str], document_ids: Sequence[str] | None = None) -> list[TaggedSentence]:
        """Tag sentences, in input order.

        Args:
            sentences: n sentences; longer than the model's input are truncated (and flagged).
            document_ids: n ids; neighbours with equal ids are one document and give each other context.
                None: every sentence stands alone.

        Raises:
            TypeError: `sentences` is a single string.
            ValueError: `document_ids` has another length.
        """
        return self.predict_documents(_group(sentences, document_ids))

    def predict_proba(
        self, sentences: Sequence[str], document_ids: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Return per-label probabilities, in input order.

        Args:
            sentences: As for `predict`.
            document_ids: As for `predict`.

        Returns:
            Task id → float32 (n, n_labels): independent sigmoids for multi_label; for single_label each row sums to 1.

        Raises:
            TypeError: `sentences` is a single string.
            ValueError: `document_ids` has another length.
        """
        return self.probabilities(self.encoding.encode_documents(_group(sentences, document_ids)))

    def predict_document(self, text: str) -> list[TaggedSentence]:
        """Split a text into sentences and tag them; a line break always ends a sentence."""
        return self.predict_documents([self.split(text)])

    def predict_documents(self, documents: Sequence[Sequence[str]]) -> list[TaggedSentence]:
        """Tag documents that are split already; one flat list, in order.

        Raises:
            TypeError: a string stands where a list is expected.
        """
        if isinstance(documents, str) or any(isinstance(document, str) for document in documents):
            raise TypeError("documents must be lists of sentences. Got a string; use predict_document for a text.")
        windows = self.encoding.encode_documents(documents)
        sentences = [sentence for document in documents for sentence in document]
        return self.label(sentences, windows, self.probabilities(windows))

    def probabilities(self, windows: Sequence[EncodedWindow]) -> dict[str, np.ndarray]:
        """Windows with n sentences → task id → float32 (n, n_labels), as `predict_proba` returns them."""
        logits = run_network(self.backend, windows, self.encoding.pad_id, self.codebook.output_sizes)
        decisions = self.checkpoint.decision.tasks
        return {
            name: probabilities(logits[name], task, decisions[name].temperature)
            for name, task in self.codebook.tasks.items()
        }

    def label(
        self, sentences: Sequence[str], windows: Sequence[EncodedWindow], values: Mapping[str, np.ndarray]
    ) -> list[TaggedSentence]:
        """n sentences, the windows they were encoded to, and their probabilities → sentences with labels."""
        truncated = [is_truncated for window in windows for is_truncated in window.truncated]
        labels, shown = {}, {}
        for name, task in self.codebook.tasks.items():
            given = decide(values[name], task, self.checkpoint.decision.tasks[name])
            ids = task.label_ids
            rows = [[ids[i] for i in row.nonzero()[0]] for row in given]
            labels[name] = rows if task.kind == "multi_label" else [row[0] for row in rows]
            shown[name] = [
                dict(zip(ids, row, strict=True)) for row in values[name].astype(np.float64).round(6).tolist()
            ]
        return [
            TaggedSentence(
                text=sentence,
                labels={name: labels[name][row] for name in labels},
                probabilities={name: shown[name][row] for name in shown},
                truncated=truncated[row],
            )
            for row, sentence in enumerate(sentences)
        ]

    def split(self, text: str) -> list[str]:
        """The sentences of a text."""
        if self._splitter is None:
            self._splitter = SentenceSplitter()
        return self._splitter.split(text)


def run_network(
    backend: Backend, windows: Sequence[EncodedWindow], pad_id: int, output_sizes: Mapping[str, int]
) -> Logits:
    """Logits of all sentences, in input order, computed in batches of windows of similar length; equal windows are computed once.

    Args:
        windows: Holding n sentences.
        output_sizes: Task id → number of labels.

    Returns:
        Task id → float32 (n, n_labels).
    """
    places: dict[tuple[int, ...], int] = {}
    place_of = [places.setdefault((*window.input_ids, *window.starts), len(places)) for window in windows]
    different = [windows[i] for i in np.unique(place_of, return_index=True)[1]]
    computed: list[dict[str, np.ndarray]] = [{}] * len(different)

    def compute(rows: np.ndarray) -> None:
        logits = backend.logits(pad([different[row] for row in rows], pad_id))
        for i, row in enumerate(rows):
            count = len(different[row].starts)
            computed[row] = {name: values[i, :count] for name, values in logits.items()}

    batches = token_batches(np.array([len(window.input_ids) for window in different], dtype=np.int64), BATCH_TOKENS)
    with ThreadPoolExecutor(min(backend.streams, max(len(batches), 1))) as pool:
        list(pool.map(compute, batches))
    out = {name: np.empty((sentence_count(windows), size), dtype=np.float32) for name, size in output_sizes.items()}
    start = 0
    for place in place_of:
        count = len(different[place].starts)
        for name, values in out.items():
            values[start : start + count] = computed[place][name]
        start += count
    return out


def token_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Indices of inputs, longest first, cut so that a padded batch has at most `batch_tokens` tokens (or one input)."""
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def _group(sentences: Sequence[str], document_ids: Sequence[Any] | None) -> list[list[str]]:
    if isinstance(sentences, str):
        raise TypeError("sentences must be a list of sentences. Got one string; use predict_document for a text.")
    if document_ids is None:
        return [[sentence] for sentence in sentences]
    pairs = zip(document_ids, sentences, strict=True)
    return [[sentence for _, sentence in run] for _, run in groupby(pairs, key=lambda pair: pair[0])]
