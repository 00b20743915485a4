"""`PolicyTagger`: the public face of a trained checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from policy_tagger.inference.backends import Backend, Logits, OpenVINOBackend
from policy_tagger.inference.checkpoint import DEFAULT_MODEL, GRAPH, TOKENIZER, Checkpoint
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import decide, probabilities
from policy_tagger.inference.encoding import EncodedSentence, SentenceEncoding, pad
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.sentences import SentenceSplitter

BATCH_TOKENS = 4096


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
        backend: What computes the network; the exported graph on the CPU where None.
    """

    def __init__(self, checkpoint: Checkpoint, backend: Backend | None = None):
        self.checkpoint = checkpoint
        self.codebook: Codebook = checkpoint.codebook
        self._backend = backend or OpenVINOBackend(checkpoint.folder / GRAPH)
        self._encoding = SentenceEncoding.from_file(
            checkpoint.folder / TOKENIZER, checkpoint.encoding, checkpoint.token_types
        )
        self._splitter: SentenceSplitter | None = None

    @classmethod
    def from_pretrained(cls, model: str | Path = DEFAULT_MODEL) -> "PolicyTagger":
        """Load a checkpoint directory, the embedded `default`, or a Hub id (`user/name`).

        Raises:
            InputError: not a checkpoint, or files are missing or changed.
        """
        checkpoint = Checkpoint.open(model)
        try:
            return cls(checkpoint)
        except InputError:
            raise
        except Exception as error:  # the tokenizer's and OpenVINO's own kinds, all meaning: not a file they can read
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{checkpoint.folder} cannot be loaded: {reason}. Copy the checkpoint again.") from None

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
        return self._probabilities(self._encoding.encode_documents(_group(sentences, document_ids)))

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
        encoded = self._encoding.encode_documents(documents)
        values = self._probabilities(encoded)
        given = {
            name: decide(values[name], task, self.checkpoint.decision.tasks[name])
            for name, task in self.codebook.tasks.items()
        }
        sentences = [sentence for document in documents for sentence in document]
        return [
            TaggedSentence(
                text=sentence,
                labels={name: self._label_ids(name, given[name][row]) for name in given},
                probabilities={
                    name: dict(zip(task.label_ids, (round(float(p), 6) for p in values[name][row]), strict=True))
                    for name, task in self.codebook.tasks.items()
                },
                truncated=encoded[row].truncated,
            )
            for row, sentence in enumerate(sentences)
        ]

    def split(self, text: str) -> list[str]:
        """The sentences of a text."""
        if self._splitter is None:
            self._splitter = SentenceSplitter()
        return self._splitter.split(text)

    def _label_ids(self, task_name: str, given: np.ndarray) -> list[str] | str:
        task = self.codebook.tasks[task_name]
        ids = [label for label, is_given in zip(task.label_ids, given, strict=True) if is_given]
        return ids if task.kind == "multi_label" else ids[0]

    def _probabilities(self, encoded: list[EncodedSentence]) -> dict[str, np.ndarray]:
        logits = run_network(self._backend, encoded, self._encoding.pad_id, self.codebook.output_sizes)
        decisions = self.checkpoint.decision.tasks
        return {
            name: probabilities(logits[name], task, decisions[name].temperature)
            for name, task in self.codebook.tasks.items()
        }


def run_network(
    backend: Backend, encoded: Sequence[EncodedSentence], pad_id: int, output_sizes: Mapping[str, int]
) -> Logits:
    """Logits of all inputs, in input order, computed in batches of similar length.

    Args:
        output_sizes: Task id → number of labels.

    Returns:
        Task id → float32 (n, n_labels).
    """
    out = {name: np.empty((len(encoded), size), dtype=np.float32) for name, size in output_sizes.items()}
    lengths = np.array([len(item.input_ids) for item in encoded], dtype=np.int64)
    for rows in token_batches(lengths, BATCH_TOKENS):
        logits = backend.logits(pad([encoded[row] for row in rows], pad_id))
        for name in out:
            out[name][rows] = logits[name]
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
