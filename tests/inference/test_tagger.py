"""The public face: shapes, order, and results that do not depend on the batch."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from policy_tagger.inference.backends import Logits, Precision, computes_bf16
from policy_tagger.inference.checkpoint import write_manifest
from policy_tagger.inference.errors import InputError
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


@pytest.mark.parametrize("batch_tokens", [1, 300, 4096])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_order_and_batches_do_not_change_results(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, batch_tokens: int
) -> None:
    tagger = PolicyTagger.from_pretrained(tiny_checkpoint, precision)
    rng = random.Random(0)
    documents = [[" ".join(rng.sample(TEXTS, rng.randint(1, 3))) for _ in range(rng.randint(1, 9))] for _ in range(400)]
    assert sum(map(len, documents)) > 1900
    expected = tagger.predict_documents(documents)
    monkeypatch.setattr("policy_tagger.inference.tagger.BATCH_TOKENS", batch_tokens)
    order = rng.sample(range(400), 400)
    found = iter(tagger.predict_documents([documents[i] for i in order]))
    shuffled = {i: [next(found) for _ in documents[i]] for i in order}
    for one, other in zip(expected, (s for i in range(400) for s in shuffled[i]), strict=True):
        assert (one.text, one.labels) == (other.text, other.labels)
        for task in one.probabilities:
            assert one.probabilities[task] == pytest.approx(other.probabilities[task], abs=1e-5)


def test_equal_windows_are_computed_once(tiny_tagger: PolicyTagger) -> None:
    rows = []

    class Counting:
        name, streams = "counting", 1

        def logits(self, inputs: dict[str, np.ndarray]) -> Logits:
            rows.append(len(inputs["input_ids"]))
            return tiny_tagger.backend.logits(inputs)

    counting = PolicyTagger(tiny_tagger.checkpoint, Counting())
    repeated = counting.predict_proba([*TEXTS, *TEXTS, TEXTS[0]])["topic"]
    assert sum(rows) == len(TEXTS)
    np.testing.assert_array_equal(repeated[:8], repeated[8:16])
    np.testing.assert_allclose(repeated[:8], tiny_tagger.predict_proba(TEXTS)["topic"], atol=1e-6)


def test_precision_that_is_not_there_is_one_clear_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    for name in ("openvino_int8.xml", "openvino_int8.bin"):
        (copy / name).unlink()
    write_manifest(copy)
    with pytest.raises(InputError, match="has no int8 graph"):
        PolicyTagger.from_pretrained(copy, "int8")
    assert PolicyTagger.from_pretrained(copy).backend.name.endswith(" fp32")
    assert " int8 " in PolicyTagger.from_pretrained(tiny_checkpoint).backend.name
    if not computes_bf16():
        with pytest.raises(InputError, match="needs a CPU that computes in bf16"):
            PolicyTagger.from_pretrained(copy, "bf16")


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


def test_threads_may_share_a_backend_from_its_first_batch_on(tiny_checkpoint: Path) -> None:
    script = f"""
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from policy_tagger.inference.tagger import PolicyTagger
tagger = PolicyTagger.from_pretrained({str(tiny_checkpoint)!r})
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
def tag(_):
    together.wait()
    return tagger.predict(["정부는 수출 기업을 돕겠다고 밝혔다."])
with ThreadPoolExecutor(8) as pool:
    assert len({{str(found) for found in pool.map(tag, range(8))}}) == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
