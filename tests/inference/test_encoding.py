"""Sentence + context → token ids."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from policy_tagger.inference.encoding import EncodingSettings, SentenceEncoding, pad
from tests.conftest import TINY_SENTENCES

TEXTS = [text for _, text, _, _ in TINY_SENTENCES]


def encoding(encoder: Path, max_length: int = 48, context: int = 2, token_types: int = 2) -> SentenceEncoding:
    settings = EncodingSettings(max_length=max_length, context_sentences=context)
    return SentenceEncoding.from_file(encoder / "tokenizer.json", settings, token_types)


def test_pair_is_what_the_tokenizer_itself_makes(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    first, second, third = encoding(tiny_encoder).encode_documents([TEXTS[:3]])
    assert first.input_ids == tokenizer.encode(TEXTS[0]).ids
    expected = tokenizer.encode(TEXTS[1], TEXTS[0])
    assert (second.input_ids, second.token_type_ids) == (expected.ids, expected.type_ids)
    assert third.input_ids == tokenizer.encode(TEXTS[2], f"{TEXTS[0]} {TEXTS[1]}").ids


def test_roberta_template_has_two_separators_and_no_types(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = SentenceEncoding(tokenizer, EncodingSettings(max_length=48, context_sentences=1), token_types=1)
    _, second = made.encode_documents([TEXTS[:2]])
    assert second.input_ids == tokenizer.encode(TEXTS[1], TEXTS[0]).ids
    assert set(second.token_type_ids) == {0}


def test_context_does_not_cross_documents(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    assert made.encode_documents([TEXTS[:2], TEXTS[2:4]])[2] == made.encode_documents([TEXTS[2:3]])[0]


def test_no_context_when_turned_off(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder, context=0)
    assert made.encode_documents([TEXTS]) == made.encode_documents([[text] for text in TEXTS])


def test_sentence_has_precedence_and_oldest_context_goes_first(tiny_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    sentence = tokenizer.encode(TEXTS[1], add_special_tokens=False).ids
    context = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    made = encoding(tiny_encoder, max_length=len(sentence) + 3 + 2).encode_documents([TEXTS[:2]])[1]
    assert made.input_ids[1 : 1 + len(sentence)] == sentence
    assert made.input_ids[-3:-1] == context[-2:]
    assert not made.truncated


@pytest.mark.parametrize("spare", [-1, 0, 1, 2])
def test_truncated_only_when_the_sentence_itself_does_not_fit(tiny_encoder: Path, spare: int) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json"))
    length = len(tokenizer.encode(TEXTS[3]).ids)
    made = encoding(tiny_encoder, max_length=length + spare).encode_documents([TEXTS[2:4]])[1]
    assert made.truncated == (spare < 0)
    assert len(made.input_ids) <= length + spare


def test_decomposed_hangul_and_odd_characters_are_one_with_clean_text(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    odd = [unicodedata.normalize("NFD", TEXTS[0]), TEXTS[0].replace(" ", "\x00\ud800 ")]
    assert made.encode_documents([[text] for text in odd]) == made.encode_documents([[TEXTS[0]]]) * 2


def test_padding_is_masked(tiny_encoder: Path) -> None:
    made = encoding(tiny_encoder)
    items = made.encode_documents([TEXTS])
    arrays = pad(items, made.pad_id)
    np.testing.assert_array_equal(arrays["attention_mask"].sum(axis=1), [len(item.input_ids) for item in items])
    assert {array.shape for array in arrays.values()} == {(8, max(len(item.input_ids) for item in items))}
