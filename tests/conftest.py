"""Tiny models and files, built once a session; nothing is downloaded."""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from policy_tagger.inference.cli import main
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.tagger import PolicyTagger

FIXTURES = Path(__file__).parent / "fixtures"
SENTENCES = FIXTURES / "sentences.jsonl"

TINY_CODEBOOK = """
name: tiny
version: "1"
tasks:
  topic:
    kind: multi_label
    labels: [{id: 수출}, {id: 규제}, {id: 고용}]
  voice:
    kind: single_label
    labels: [{id: official}, {id: firm}, {id: reporter}]
"""

# Text with a pattern that eight sentences are enough to learn.
TINY_SENTENCES = [
    ("a", "정부는 수출 기업을 돕겠다고 밝혔다.", ["수출"], "official"),
    ("a", "회사 대표는 규제를 풀어 달라고 말했다.", ["규제"], "firm"),
    ("a", "행사는 오후에 끝났다.", [], "reporter"),
    ("b", "정부는 규제를 고치고 고용을 늘리겠다고 밝혔다.", ["규제", "고용"], "official"),
    ("b", "회사 대표는 수출 판로가 좁다고 말했다.", ["수출"], "firm"),
    ("c", "고용은 두 달째 줄었다.", ["고용"], "reporter"),
    ("c", "정부는 수출과 고용을 함께 보겠다고 밝혔다.", ["수출", "고용"], "official"),
    ("d", "회의장은 한산했다.", [], "reporter"),
]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 2 layers × 32 with a WordPiece tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from policy_tagger.train.corpus import PAD, train_tokenizer

    folder = tmp_path_factory.mktemp("encoder")
    texts = [text for _, text, _, _ in TINY_SENTENCES] * 10
    tokenizer = train_tokenizer([iter(texts)], vocab_size=200, characters_a_source=10**6)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=PAD,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_codebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codebook") / "tiny.yaml"
    path.write_text(TINY_CODEBOOK, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight sentences, ten times for training and once for validation and test: meant to be learnt by heart."""
    path = tmp_path_factory.mktemp("data") / "tiny.jsonl"
    rows = [
        {"document_id": f"{split}-{copy}{document}", "text": text, "topic": topics, "voice": voice, "split": split}
        for split, copies in (("train", 10), ("validation", 1), ("test", 1))
        for copy in range(copies)
        for document, text, topics, voice in TINY_SENTENCES
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_config(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, tiny_codebook: Path, tiny_data: Path
) -> Path:
    """A config that learns the eight sentences by heart in seconds."""
    folder = tmp_path_factory.mktemp("config")
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
output: {folder / "checkpoint"}
codebook: {tiny_codebook}
data: {{files: [{tiny_data}]}}
encoder: {{model: {tiny_encoder}, dropout: 0.1}}
encoding: {{max_length: 48, window_sentences: 3}}
training:
  {{epochs: 10, batch_size: 2, learning_rate: 0.003, head_learning_rate: 0.01, patience: 20, metric: loss, precision: fp32}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_config: Path) -> Path:
    """A checkpoint trained through the command line."""
    assert main(["train", str(tiny_config)]) == 0
    return tiny_config.parent / "checkpoint"


@pytest.fixture(scope="session")
def tiny_tagger(tiny_checkpoint: Path) -> PolicyTagger:
    return PolicyTagger.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="session")
def policy_codebook() -> Codebook:
    return Codebook.load("policy")
