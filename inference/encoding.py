"""Sentences of a document → token ids: the only such path, at training and at serving time."""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from policy_tagger.inference.schema import Schema


def normalise(text: str) -> str:
    """NFC, without surrounding blanks; control characters and lone surrogates become blanks."""
    cleaned = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    return unicodedata.normalize("NFC", cleaned).strip()


class EncodingSettings(Schema):
    """How the sentences of a document become inputs; stored in every checkpoint."""

    max_length: Annotated[int, Field(ge=8, le=4096)] = 128
    """Longest window in tokens, special tokens included; a sentence that does not fit into one alone is truncated."""
    window_sentences: Annotated[int, Field(ge=1)] = 64
    """Most sentences in a window; 1 turns context off."""


class EncodedWindow(NamedTuple):
    """Neighbouring sentences of one document as one input of the network; they are each other's context."""

    input_ids: list[int]
    token_type_ids: list[int]
    """0 and 1 by turns, sentence by sentence (Liu & Lapata 2019)."""
    starts: list[int]
    """For each sentence the place of its first token."""
    ends: list[int]
    """For each sentence the place of the separator behind it."""
    truncated: list[bool]
    """For each sentence whether its end did not fit."""


class SentenceEncoding:
    """Turns the sentences of documents into windows.

    All sentences of a window are computed in one pass (Cohan et al. 2019), so that context costs no token twice. Windows follow from the
    document alone, never from its neighbours in a batch.

    Args:
        tokenizer: With a post-processor that puts tokens before and behind a text (every BERT, RoBERTa and ELECTRA tokenizer has one).
        token_types: How many segment ids the encoder knows; with fewer than 2 all are 0.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncodingSettings, token_types: int):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.settings = settings
        self._types = min(max(token_types, 1), 2)
        template = tokenizer.encode("가")
        owners: list[int | None] = template.sequence_ids
        first, last = owners.index(0), len(owners) - 1 - owners[::-1].index(0)
        self._before, self._behind = template.ids[:first], template.ids[last + 1 :]
        self.pad_id = next((i for token in ("[PAD]", "<pad>") if (i := tokenizer.token_to_id(token)) is not None), 0)

    @classmethod
    def from_file(cls, path: Path, settings: EncodingSettings, token_types: int) -> "SentenceEncoding":
        """Read `tokenizer.json`."""
        return cls(Tokenizer.from_file(str(path)), settings, token_types)

    def encode_documents(self, documents: Sequence[Sequence[str]]) -> list[EncodedWindow]:
        """Encode all sentences of all documents.

        Returns:
            Windows that hold every sentence once, in order.
        """
        texts = [normalise(sentence) for document in documents for sentence in document]
        pieces = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        windows = []
        start = 0
        for document in documents:
            sentences = pieces[start : start + len(document)]
            windows += [self._assemble(sentences[part]) for part in self._cuts([len(ids) for ids in sentences])]
            start += len(document)
        return windows

    def _cuts(self, lengths: Sequence[int]) -> Iterator[slice]:
        """As few windows as possible, and those of about the same length, so that no sentence is left with little context."""
        room = self.settings.max_length - len(self._before)
        costs = [min(length + len(self._behind), room) for length in lengths]
        fewest = len(_fill(costs, room, self.settings.window_sentences))
        low, high = max(costs, default=0), room
        while low < high:
            middle = (low + high) // 2
            fits = len(_fill(costs, middle, self.settings.window_sentences)) <= fewest
            low, high = (low, middle) if fits else (middle + 1, high)
        start = 0
        for count in _fill(costs, low, self.settings.window_sentences):
            yield slice(start, start + count)
            start += count

    def _assemble(self, sentences: Sequence[list[int]]) -> EncodedWindow:
        window = EncodedWindow([*self._before], [0] * len(self._before), [], [], [])
        room = self.settings.max_length - len(self._before) - len(self._behind)
        for number, ids in enumerate(sentences):
            kept = ids[:room]
            window.starts.append(len(window.input_ids))
            window.input_ids.extend(kept)
            window.ends.append(len(window.input_ids))
            window.input_ids.extend(self._behind)
            window.token_type_ids.extend([number % self._types] * (len(kept) + len(self._behind)))
            window.truncated.append(len(ids) > room)
        return window


def _fill(costs: Sequence[int], room: int, most: int) -> list[int]:
    """Sentences in each window where each takes as many as go in."""
    counts: list[int] = []
    used = room + 1
    for cost in costs:
        if used + cost > room or counts[-1] == most:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += cost
    return counts


def sentence_count(windows: Sequence[EncodedWindow]) -> int:
    """How many sentences the windows hold."""
    return sum(len(window.starts) for window in windows)


def pad(windows: Sequence[EncodedWindow], pad_id: int) -> dict[str, np.ndarray]:
    """Network inputs of equal length.

    Returns:
        input_ids, attention_mask, token_type_ids: int64 (n, longest of the batch).
        starts, ends: int64 (n, most sentences of the batch); 0 where a window has fewer.
    """
    tokens = (len(windows), max(len(window.input_ids) for window in windows))
    sentences = (len(windows), max(len(window.starts) for window in windows))
    arrays = {
        "input_ids": np.full(tokens, pad_id, dtype=np.int64),
        "attention_mask": np.zeros(tokens, dtype=np.int64),
        "token_type_ids": np.zeros(tokens, dtype=np.int64),
        "starts": np.zeros(sentences, dtype=np.int64),
        "ends": np.zeros(sentences, dtype=np.int64),
    }
    for row, window in enumerate(windows):
        length, count = len(window.input_ids), len(window.starts)
        arrays["input_ids"][row, :length] = window.input_ids
        arrays["attention_mask"][row, :length] = 1
        arrays["token_type_ids"][row, :length] = window.token_type_ids
        arrays["starts"][row, :count] = window.starts
        arrays["ends"][row, :count] = window.ends
    return arrays
