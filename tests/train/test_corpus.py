"""The shipped corpus: readable, without findings, and the same for `datasets` as for our own readers."""

from pathlib import Path

import datasets
import pytest

from policy_tagger.inference.codebook import Codebook
from policy_tagger.train.data import LabelledSentence, check, read_labelled

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def sentences(policy_codebook: Codebook) -> list[LabelledSentence]:
    return read_labelled([str(DATA / "corpus")], policy_codebook).sentences


def test_nothing_is_wrong_with_it(policy_codebook: Codebook) -> None:
    findings = check(read_labelled([str(DATA / "corpus")], policy_codebook), policy_codebook)
    assert [finding.message for finding in findings] == []


def test_gate_fixture_shares_no_sentence_with_it(policy_codebook: Codebook, sentences: list[LabelledSentence]) -> None:
    fixture = read_labelled([str(DATA.parent / "tests" / "fixtures" / "sentences.jsonl")], policy_codebook).sentences
    assert not {sentence.text for sentence in fixture} & {sentence.text for sentence in sentences}


def test_datasets_reads_the_folder_as_it_stands(
    sentences: list[LabelledSentence], policy_codebook: Codebook, tmp_path: Path
) -> None:
    corpus = datasets.load_dataset(str(DATA), cache_dir=str(tmp_path))
    assert list(corpus) == ["train", "validation", "test"]
    for split, rows in corpus.items():
        ours = [sentence for sentence in sentences if sentence.split == split]
        assert rows["text"] == [sentence.text for sentence in ours]
        assert rows["themes"] == [sentence.labels["themes"] for sentence in ours]
        assert rows["themes_may"] == [sentence.may["themes"] for sentence in ours]
    files = [str(DATA / "corpus" / f"{split}.jsonl") for split in corpus]
    annotated_twice = read_labelled(files, policy_codebook).sentences
    passes = datasets.load_dataset(str(DATA), "annotations", cache_dir=str(tmp_path))
    for name in ("first", "second"):
        assert sorted(passes[name]["text"]) == sorted(sentence.text for sentence in annotated_twice)
    assert set(passes["single"]["text"]) <= {sentence.text for sentence in sentences}
