"""The public face: shapes, order, and results that do not depend on the batch."""

import random
from pathlib import Path

import numpy as np
import pytest

from policy_tagger.inference.tagger import PolicyTagger, token_batches
from tests.conftest import TINY_SENTENCES

TEXTS = [text for _, text, _, _ in TINY_SENTENCES]


def test_probabilities_have_the_documented_shapes(tiny_tagger: PolicyTagger) -> None:
    values = tiny_tagger.predict_proba(TEXTS)
    assert {name: (array.shape, array.dtype) for name, array in values.items()} == {
        "topic": ((8, 3), np.float32),
        "voice": ((8, 3), np.float32),
    }
    np.testing.assert_allclose(values["voice"].sum(axis=1), 1, atol=1e-6)


def test_empty_list_gives_empty_list(tiny_tagger: PolicyTagger) -> None:
    assert tiny_tagger.predict([]) == []
    assert tiny_tagger.predict_proba([])["topic"].shape == (0, 3)
    assert tiny_tagger.predict_document(" \n ") == []


def test_single_string_is_refused(tiny_tagger: PolicyTagger) -> None:
    with pytest.raises(TypeError, match="predict_document"):
        tiny_tagger.predict("문장 하나.")


def test_order_and_company_do_not_change_results(tiny_tagger: PolicyTagger) -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.sample(TEXTS, rng.randint(1, 3))) for _ in range(300)]
    expected = tiny_tagger.predict_proba(texts)
    order = rng.sample(range(300), 300)
    shuffled = tiny_tagger.predict_proba([texts[i] for i in order])
    alone = [tiny_tagger.predict_proba([text]) for text in texts[:20]]
    for task in expected:
        np.testing.assert_allclose(shuffled[task], expected[task][order], atol=1e-5)
        np.testing.assert_allclose(np.concatenate([one[task] for one in alone]), expected[task][:20], atol=1e-5)


def test_context_comes_from_the_same_document_only(tiny_tagger: PolicyTagger) -> None:
    together = tiny_tagger.predict_proba(TEXTS, ["a"] * 8)["topic"]
    apart = tiny_tagger.predict_proba(TEXTS, list("abcdefgh"))["topic"]
    np.testing.assert_allclose(together[0], apart[0], atol=1e-6)
    np.testing.assert_allclose(apart, tiny_tagger.predict_proba(TEXTS)["topic"], atol=1e-6)
    halves = [
        text[: len(text) // 2] for text in TEXTS
    ]  # the whole ones are known by heart, whatever stands before them
    moved = [tiny_tagger.predict_proba(halves, ids)["topic"] for ids in (["a"] * 8, list("abcdefgh"))]
    assert np.abs(moved[0][1:] - moved[1][1:]).max() > 1e-3


def test_labels_follow_from_probabilities_and_thresholds(tiny_tagger: PolicyTagger) -> None:
    thresholds = tiny_tagger.checkpoint.decision.tasks["topic"].thresholds
    for sentence in tiny_tagger.predict(TEXTS):
        probabilities = sentence.probabilities
        assert sentence.labels["topic"] == [name for name, p in probabilities["topic"].items() if p >= thresholds[name]]
        assert sentence.labels["voice"] == max(probabilities["voice"], key=probabilities["voice"].__getitem__)


def test_document_is_split_and_tagged(tiny_tagger: PolicyTagger) -> None:
    found = tiny_tagger.predict_document("정부는 수출을 돕겠다고 밝혔다. 행사는 오후에 끝났다.\n고용은 줄었다.")
    assert [sentence.text for sentence in found] == [
        "정부는 수출을 돕겠다고 밝혔다.",
        "행사는 오후에 끝났다.",
        "고용은 줄었다.",
    ]


def test_batches_keep_to_their_tokens_and_cover_everything() -> None:
    lengths = np.array([5, 500, 40, 40, 7, 9000, 128])
    batches = token_batches(lengths, 1000)
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert all(len(rows) == 1 or lengths[rows].max() * len(rows) <= 1000 for rows in batches)


def test_bundled_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PolicyTagger.from_pretrained().codebook.name == "policy"
