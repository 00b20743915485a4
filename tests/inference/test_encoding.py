"""Sentences of a document → windows of token ids."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from policy_tagger.inference.encoding import EncodedWindow, EncodingSettings, SentenceEncoding, pad
from tests.conftest import TINY_SENTENCES

TEXTS = [text for _, text, _, _ in TINY_SENTENCES]


def encoding(encoder: Path, max_length: int = 48, window: int = 64, token_types: int = 2) -> SentenceEncoding:
    settings = EncodingSettings(max_length=max_length, window_sentences=window)
    return SentenceEncoding.from_file(encoder / "tokenizer.json", settings, token_types)


def sentences_of(windows: list[EncodedWindow]) -> list[list[int]]:
    return [w.input_ids[start:end] for w in windows for start, end in zip(w.starts, w.ends, strict=True)]


def test_one_sentence_is_what_the_tokenizer_itself_makes(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    (window,) = encoding(tiny_encoder).encode_documents([TEXTS[:1]])
    assert window.input_ids == tokenizer.encode(TEXTS[0]).ids


def test_window_joins_neighbours_with_separators_and_types_by_turns(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    one, two, three = (tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS[:3])
    (window,) = encoding(tiny_encoder).encode_documents([TEXTS[:3]])
    assert window.input_ids == [2, *one, 3, *two, 3, *three, 3]
    assert window.token_type_ids == [0] * (len(one) + 2) + [1] * (len(two) + 1) + [0] * (len(three) + 1)
    assert sentences_of([window]) == [one, two, three]
    assert [window.input_ids[end] for end in window.ends] == [3, 3, 3]


def test_encoder_with_one_type_gets_one(tiny_encoder: Path) -> None:
    (window,) = encoding(tiny_encoder, token_types=1).encode_documents([TEXTS[:3]])
    assert set(window.token_type_ids) == {0}


@pytest.mark.parametrize("max_length", [12, 20, 48])
@pytest.mark.parametrize("most", [1, 2, 64])
def test_windows_hold_every_sentence_once_and_keep_to_their_length(
    tiny_encoder: Path, max_length: int, most: int
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    documents = [TEXTS, [], TEXTS[3:5] * 7]
    windows = encoding(tiny_encoder, max_length, most).encode_documents(documents)
    expected = [tokenizer.encode(text, add_special_tokens=False).ids[: max_length - 2] for d in documents for text in d]
    assert sentences_of(windows) == expected
    assert all(len(window.input_ids) <= max_length and len(window.starts) <= most for window in windows)


def test_windows_are_few_and_of_about_the_same_length(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    length = len(tokenizer.encode(TEXTS[2], add_special_tokens=False).ids) + 1
    windows = encoding(tiny_encoder, max_length=1 + 4 * length).encode_documents([[TEXTS[2]] * 9])
    assert [len(window.starts) for window in windows] == [3, 3, 3]  # not 4, 4, 1


def test_windows_do_not_cross_documents(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    together = made.encode_documents([TEXTS[:2], TEXTS[2:4]])
    assert together == made.encode_documents([TEXTS[:2]]) + made.encode_documents([TEXTS[2:4]])


@pytest.mark.parametrize("spare", [-1, 0, 1, 2])
def test_truncated_only_when_the_sentence_itself_does_not_fit(tiny_encoder: Path, spare: int) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    length = len(tokenizer.encode(TEXTS[3]).ids)
    windows = encoding(tiny_encoder, max_length=length + spare).encode_documents([TEXTS[2:4]])
    assert windows[-1].truncated[-1] == (spare < 0)
    assert len(windows[-1].input_ids) <= length + spare


def test_decomposed_hangul_and_odd_characters_are_one_with_clean_text(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    odd = [unicodedata.normalize("NFD", TEXTS[0]), TEXTS[0].replace(" ", "\x00\ud800 ")]
    assert made.encode_documents([[text] for text in odd]) == made.encode_documents([[TEXTS[0]]]) * 2


def test_padding_is_masked(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    windows = made.encode_documents([TEXTS, TEXTS[:1]])
    arrays = pad(windows, made.pad_id)
    np.testing.assert_array_equal(arrays["attention_mask"].sum(axis=1), [len(window.input_ids) for window in windows])
    tokens, sentences = ((len(windows), max(len(w[field]) for w in windows)) for field in (0, 2))
    assert {name: array.shape for name, array in arrays.items()} == {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), tokens),
        **dict.fromkeys(("starts", "ends"), sentences),
    }
