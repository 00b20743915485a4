"""Sentence + context → token ids: the only such path, at training and at serving time."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from policy_tagger.inference.schema import Schema

MAX_CONTEXT = 32  # sentences; pieces of a very long document carry so many over


def normalise(text: str) -> str:
    """NFC, without surrounding blanks; control characters and lone surrogates become blanks."""
    cleaned = "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    return unicodedata.normalize("NFC", cleaned).strip()


class EncodingSettings(Schema):
    """How a sentence and its context become one input; stored in every checkpoint."""

    max_length: Annotated[int, Field(ge=8, le=4096)] = 192
    """Longest input in tokens, special tokens included; the sentence has precedence over its context."""
    context_sentences: Annotated[int, Field(ge=0, le=MAX_CONTEXT)] = 3
    """How many preceding sentences of the document the encoder may see; 0 turns context off."""


class EncodedSentence(NamedTuple):
    """One input of the network."""

    input_ids: list[int]
    token_type_ids: list[int]
    truncated: bool
    """The sentence itself (not only its context) did not fit."""


class SentenceEncoding:
    """Turns the sentences of a document into network inputs.

    The first segment is the sentence, the second its preceding sentences, the oldest tokens dropped first.

    Args:
        tokenizer: With a post-processor that knows pairs (every BERT, RoBERTa and ELECTRA tokenizer does).
        token_types: How many segment ids the encoder knows; with fewer than 2 all are 0.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncodingSettings, token_types: int):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.settings = settings
        single, pair = _Template.of(tokenizer, "가"), _Template.of(tokenizer, "가", "나")
        self._single, self._pair = (t if token_types > 1 else t.without_types() for t in (single, pair))
        self.pad_id = next((i for token in ("[PAD]", "<pad>") if (i := tokenizer.token_to_id(token)) is not None), 0)

    @classmethod
    def from_file(cls, path: Path, settings: EncodingSettings, token_types: int) -> "SentenceEncoding":
        """Read `tokenizer.json`."""
        return cls(Tokenizer.from_file(str(path)), settings, token_types)

    def encode_documents(
        self, documents: Sequence[Sequence[str]], contexts: Sequence[Sequence[str]] | None = None
    ) -> list[EncodedSentence]:
        """Encode all sentences of all documents, each with its own document's preceding sentences.

        Every sentence is tokenised once, however many neighbours see it.

        Args:
            contexts: For each document the sentences before its first, where it is a piece of a longer one.

        Returns:
            One input a sentence, in order.
        """
        most = self.settings.context_sentences
        befores = [list(before)[len(before) - min(most, len(before)) :] for before in contexts or [()] * len(documents)]
        runs = [[*before, *document] for before, document in zip(befores, documents, strict=True)]
        texts = [normalise(sentence) for run in runs for sentence in run]
        pieces = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        encoded = []
        start = 0
        for before, run in zip(befores, runs, strict=True):
            for position in range(start + len(before), start + len(run)):
                first = max(start, position - most)
                encoded.append(self._assemble(pieces[position], pieces[first:position]))
            start += len(run)
        return encoded

    def _assemble(self, sentence: list[int], context: list[list[int]]) -> EncodedSentence:
        room = self.settings.max_length - self._pair.length - len(sentence)
        preceding = [token for ids in context for token in ids][-room:] if room > 0 else []
        if preceding:
            return EncodedSentence(*self._pair.fill(sentence, preceding), truncated=False)
        room = self.settings.max_length - self._single.length
        return EncodedSentence(*self._single.fill(sentence[:room], []), truncated=len(sentence) > room)


class _Template(NamedTuple):
    """The special tokens before, between and after the segments, as (token id, segment id) each."""

    before: list[tuple[int, int]]
    between: list[tuple[int, int]]
    after: list[tuple[int, int]]
    segment_types: tuple[int, int]

    @classmethod
    def of(cls, tokenizer: Tokenizer, *segments: str) -> "_Template":
        encoding = tokenizer.encode(segments[0], segments[1] if len(segments) > 1 else None)
        owners: list[int | None] = encoding.sequence_ids
        tokens = list(zip(encoding.ids, encoding.type_ids, strict=True))
        first, last = owners.index(0), len(owners) - 1 - owners[::-1].index(0)
        if len(segments) == 1:
            return cls(tokens[:first], [], tokens[last + 1 :], (tokens[first][1], 0))
        second, end = owners.index(1), len(owners) - 1 - owners[::-1].index(1)
        types = (tokens[first][1], tokens[second][1])
        return cls(tokens[:first], tokens[last + 1 : second], tokens[end + 1 :], types)

    def without_types(self) -> "_Template":
        zeroed = [[(token, 0) for token, _ in part] for part in self[:3]]
        return _Template(zeroed[0], zeroed[1], zeroed[2], (0, 0))

    @property
    def length(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def fill(self, sentence: list[int], context: list[int]) -> tuple[list[int], list[int]]:
        tokens = [
            *self.before,
            *((token, self.segment_types[0]) for token in sentence),
            *self.between,
            *((token, self.segment_types[1]) for token in context),
            *self.after,
        ]
        return [token for token, _ in tokens], [segment for _, segment in tokens]


def pad(batch: Sequence[EncodedSentence], pad_id: int) -> dict[str, np.ndarray]:
    """Inputs of equal length.

    Returns:
        input_ids, attention_mask, token_type_ids: int64 (n, longest of the batch).
    """
    shape = (len(batch), max(len(item.input_ids) for item in batch))
    arrays = {
        "input_ids": np.full(shape, pad_id, dtype=np.int64),
        "attention_mask": np.zeros(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    for row, item in enumerate(batch):
        length = len(item.input_ids)
        arrays["input_ids"][row, :length] = item.input_ids
        arrays["attention_mask"][row, :length] = 1
        arrays["token_type_ids"][row, :length] = item.token_type_ids
    return arrays
