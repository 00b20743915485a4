"""Loss, label weights, and encoders of other families."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, ElectraConfig, RobertaConfig

from policy_tagger.inference.backends import OpenVINOBackend
from policy_tagger.train.export import export_graph, round_to_half
from policy_tagger.train.loop import LengthGroupedOrder
from policy_tagger.train.model import TaggerModel, TaskLoss, TorchBackend, label_weights

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 70,
}


@pytest.mark.parametrize("kind", ["multi_label", "single_label"])
def test_sentences_that_are_not_annotated_do_not_change_the_loss(kind: str) -> None:
    loss = TaskLoss(kind, torch.ones(3), weight=2.0)
    logits, labels = torch.randn(4, 3), torch.eye(3)[[0, 1, 2, 0]]
    masked = torch.cat([labels, torch.full((2, 3), -1.0)])
    torch.testing.assert_close(loss(torch.cat([logits, torch.randn(2, 3)]), masked), loss(logits, labels))
    nothing = loss(torch.randn(2, 3, requires_grad=True), torch.full((2, 3), -1.0))
    assert nothing.item() == 0
    nothing.backward()


def test_balance_goes_from_equal_to_inverse_frequency() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert label_weights(labels, "multi_label", 0.0).tolist() == [1, 1]
    assert label_weights(labels, "multi_label", 1.0).tolist() == pytest.approx([1 / 3, 3])
    assert label_weights(labels, "single_label", 1.0).tolist() == pytest.approx([2 / 3, 2])


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**SHAPE),
        RobertaConfig(**SHAPE, type_vocab_size=1, pad_token_id=1),
        ElectraConfig(**SHAPE, embedding_size=32),
    ],
    ids=lambda config: config.model_type,
)
def test_bert_roberta_and_electra_export_to_the_same_numbers(config: BertConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TaggerModel(AutoModel.from_config(config), {"topic": 4, "type": 2}).eval()
    round_to_half(model)
    export_graph(model, tmp_path / "graph.xml")
    torch_backend, graph = TorchBackend(model), OpenVINOBackend(tmp_path / "graph.xml")
    rng = np.random.default_rng(0)
    for rows, length in ((1, 3), (5, 20), (3, 60)):
        mask = (np.arange(length) < rng.integers(1, length + 1, (rows, 1))).astype(np.int64)
        inputs = {
            "input_ids": np.where(mask, rng.integers(5, 50, (rows, length)), config.pad_token_id),
            "attention_mask": mask,
            "token_type_ids": np.zeros((rows, length), dtype=np.int64),
            "starts": np.array([[0, length // 2, 0]] * rows),
            "ends": np.array([[length // 2, length - 1, 0]] * rows),  # the third is no sentence
        }
        expected, exported = torch_backend.logits(inputs), graph.logits(inputs)
        assert expected.keys() == exported.keys() == {"topic", "type"}
        for task in expected:
            assert exported[task].shape[:2] == (rows, 3)
            np.testing.assert_allclose(exported[task], expected[task], atol=1e-4)


def test_untrained_network_gives_labels_their_frequencies() -> None:
    model = TaggerModel(AutoModel.from_config(BertConfig(**SHAPE)), {"topic": 2, "voice": 3})
    topics = np.array([[1, 0]] * 30 + [[0, 0]] * 68 + [[-1, -1]] * 50, dtype=np.float32)  # 50 are not annotated
    voices = np.eye(3, dtype=np.float32)[[0] * 99 + [1] * 49]
    model.start_from_frequencies({"topic": topics, "voice": voices}, {"topic": "multi_label", "voice": "single_label"})
    topic, voice = (head.get_parameter("whole.bias").detach() for head in model.heads)
    assert topic.sigmoid().tolist() == pytest.approx([31 / 100, 1 / 100])
    assert voice.softmax(0).tolist() == pytest.approx([100 / 151, 50 / 151, 1 / 151])


def test_order_groups_lengths_covers_all_and_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 1003)
    order = LengthGroupedOrder(lengths, batch_size=16, seed=1)
    first = list(order)
    assert sorted(first) == list(range(1003))
    padded = sum(max(lengths[first[i : i + 16]]) * len(first[i : i + 16]) for i in range(0, 1003, 16))
    assert padded < 1.15 * lengths.sum()
    assert list(LengthGroupedOrder(lengths, batch_size=16, seed=1)) == first
    order.set_epoch(1)
    assert list(order) != first
