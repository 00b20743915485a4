"""Pretraining: a run in slices equals one in one piece, and the encoder it writes can be fine-tuned."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from policy_tagger.inference.cli import main
from policy_tagger.inference.schema import load_yaml
from policy_tagger.train.corpus import MASK, PackedCorpus, mask_words, ppmi_embeddings, train_tokenizer, write_shard
from policy_tagger.train.model import load_encoder
from policy_tagger.train.pretrain import PretrainConfig, learning_rate
from tests.conftest import TINY_SENTENCES


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [{"text": " ".join(text for _, text, _, _ in TINY_SENTENCES[n % 8 :])} for n in range(300)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "text.jsonl").write_text(lines, encoding="utf-8")
    path = tmp_path / "pretrain.yaml"
    path.write_text(
        f"""
output: {tmp_path / "whole"}
corpus: {{folder: {tmp_path}, sources: {{news: {{files: text.jsonl, repeats: 2}}}}}}
tokenizer: {{vocab_size: 1000, characters_a_source: 100000}}
encoder: {{layers: 1, hidden_size: 32, heads: 2, max_length: 64}}
pretraining: {{total_tokens: 30000, sequence_length: 64, batch_sequences: 8, learning_rate: 0.003, warmup_tokens: 3000,
  easy_tokens: 5000, precision: fp32, embedding_tokens: 10000}}
""",
        encoding="utf-8",
    )
    return path


def test_slices_equal_one_piece_and_the_encoder_loads(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["pretrain", str(config)]) == 0
    assert "masked accuracy" in capsys.readouterr().out
    for _ in range(200):
        assert main(["pretrain", str(config), "--set", f"output={tmp_path / 'sliced'}", "--minutes", "0.002"]) == 0
        if (tmp_path / "sliced" / "encoder").exists():
            break
    else:
        pytest.fail("200 slices did not finish the run")
    whole, sliced = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("whole", "sliced"))
    for name in whole:
        np.testing.assert_array_equal(sliced[name], whole[name], err_msg=name)
    encoder, tokenizer = load_encoder(str(tmp_path / "whole" / "encoder"), dropout=0.1)
    assert encoder.config.hidden_size == 32
    assert tokenizer.encode("정부", "기업").type_ids[-1] == 1
    record = json.loads((tmp_path / "whole" / "encoder" / "pretraining.json").read_text(encoding="utf-8"))
    assert record["tokens_seen"] >= 30000


def test_longer_run_goes_on_from_before_the_decay_and_equals_one_from_the_start(config: Path, tmp_path: Path) -> None:
    longer = ["--set", "pretraining.total_tokens=60000"]
    assert main(["pretrain", str(config)]) == 0
    record = tmp_path / "whole" / "encoder" / "pretraining.json"
    for _ in range(200):  # in slices, each of which must go on from the one before
        assert main(["pretrain", str(config), *longer, "--minutes", "0.002"]) == 0
        if json.loads(record.read_text(encoding="utf-8"))["tokens_seen"] >= 60000:
            break
    assert main(["pretrain", str(config), *longer, "--set", f"output={tmp_path / 'fresh'}"]) == 0
    extended, fresh = (load_file(tmp_path / name / "encoder" / "model.safetensors") for name in ("whole", "fresh"))
    for name in fresh:
        np.testing.assert_array_equal(extended[name], fresh[name], err_msg=name)


def test_another_config_does_not_go_on_with_an_old_state(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrain", str(config), "--minutes", "0"]) == 0
    assert main(["pretrain", str(config), "--set", "pretraining.batch_sequences=16"]) == 2
    assert "pretraining changed since the run" in capsys.readouterr().err


def test_missing_corpus_says_where_it_looked(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["pretrain", str(config), "--set", "corpus.folder=/nowhere"]) == 2
    assert "no file matches /nowhere/text.jsonl" in capsys.readouterr().err


def test_learning_rate_rises_stays_and_falls_to_zero(config: Path) -> None:
    settings = load_yaml(config, PretrainConfig).pretraining
    rates = [learning_rate(settings, tokens) for tokens in (0, 1500, 3000, 22500, 26250, 30000)]
    assert rates == pytest.approx([0, 0.0015, 0.003, 0.003, 0.0015, 0])


def test_whole_words_are_masked_together() -> None:
    ids = np.tile(np.array([[2, 10, 11, 12, 13, 14, 15, 3]]), (2000, 1))
    is_continuation = np.zeros(20, dtype=bool)
    is_continuation[[11, 12, 14]] = True  # words: 10-12, 13-14, 15
    inputs, chosen = mask_words(ids, is_continuation, 0.3, np.random.default_rng(0))
    assert (chosen[:, 1] == chosen[:, 2]).all()
    assert (chosen[:, 1] == chosen[:, 3]).all()
    assert (chosen[:, 4] == chosen[:, 5]).all()
    assert not chosen[:, [0, 7]].any()
    assert chosen[:, 1:7].mean() == pytest.approx(0.3, abs=0.03)
    assert (inputs[~chosen] == ids[~chosen]).all()
    assert (inputs[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.03)


def test_packed_sequences_show_every_token_as_often_as_its_source_repeats(tmp_path: Path) -> None:
    texts = [text for _, text, _, _ in TINY_SENTENCES]
    tokenizer: Tokenizer = train_tokenizer([iter(texts * 10)], vocab_size=200, characters_a_source=10**6)
    shards = []
    for name, repeats in (("once", 1), ("twice", 2)):
        write_shard(iter(texts * 20), tokenizer, tmp_path / name)
        shards.append((tmp_path / name, repeats))
    corpus = PackedCorpus(shards, sequence_length=32, seed=0)
    epoch = corpus.batch(0, len(corpus))
    assert epoch.shape == (len(corpus), 32)
    rows, counts = np.unique(epoch, axis=0, return_counts=True)
    again = PackedCorpus(shards, sequence_length=32, seed=0)
    np.testing.assert_array_equal(np.concatenate([again.batch(0, 5), again.batch(1, 5)]), epoch[:10])
    assert counts.sum() == len(corpus)
    assert not np.array_equal(corpus.batch(1, len(corpus)), epoch)  # the next epoch has another order
    assert (np.unique(corpus.batch(1, len(corpus)), axis=0) == rows).all()


def test_words_of_like_company_get_like_vectors() -> None:
    rng = np.random.default_rng(0)
    # 10 and 11 keep the same company (20 to 24), 12 another (25 to 29).
    rows = [
        [(word := rng.choice([10, 11, 12])), *rng.choice(range(20, 25) if word < 12 else range(25, 30), 4)]
        for _ in range(3000)
    ]
    vectors = ppmi_embeddings(np.array(rows), vocab_size=40, dimensions=4, seed=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[10] @ unit[11] > 0.9
    assert unit[10] @ unit[12] < 0.3
