"""What happens once the network is trained: checkpoint, parity with the exported graph, evaluation, model card."""

import os
import platform
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from policy_tagger.inference.backends import OpenVINOBackend
from policy_tagger.inference.checkpoint import CARD, GRAPH, RUN, Checkpoint, write_json
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision
from policy_tagger.inference.encoding import SentenceEncoding
from policy_tagger.inference.tagger import PolicyTagger
from policy_tagger.train.card import model_card
from policy_tagger.train.config import TrainConfig
from policy_tagger.train.data import LabelledData, documents_of
from policy_tagger.train.evaluation import Evaluation, counts, evaluate
from policy_tagger.train.export import check_parity, versions, write_checkpoint
from policy_tagger.train.model import TaggerModel

PARITY_DOCUMENTS = 20


def finish(
    output: Path,
    model: TaggerModel,
    tokenizer: Tokenizer,
    codebook: Codebook,
    decision: Decision,
    config: TrainConfig,
    data: LabelledData,
    record: dict[str, Any],
) -> None:
    """Write a complete checkpoint and print how good it is.

    Args:
        record: What `run.json` says about the training so far; data, parity, metrics and versions are added.
    """
    write_checkpoint(output, model, tokenizer, codebook, decision, config.encoding)
    checkpoint = Checkpoint.open(output)
    encoding = SentenceEncoding(tokenizer, config.encoding, checkpoint.token_types)
    documents = documents_of(data.select("validation"))[:PARITY_DOCUMENTS]
    encoded = encoding.encode_documents([[sentence.text for sentence in document] for document in documents])
    parity = check_parity(model, output / GRAPH, encoded, encoding.pad_id, codebook, decision)
    tagger = PolicyTagger(checkpoint, OpenVINOBackend(output / GRAPH))
    splits = ("validation", "test") if config.data.measure_test and data.select("test") else ("validation",)
    evaluations = {split: evaluate(tagger, data.select(split)) for split in splits}
    write_json(
        output / RUN,
        {
            **record,
            "codebook": {"name": codebook.name, "version": codebook.version, "content_hash": codebook.content_hash},
            "data": {
                "files": data.hashes,
                "sentences": {split: len(data.select(split)) for split in ("train", "validation", "test")},
            },
            "parity": vars(parity),
            "metrics": {split: evaluation.to_dict() for split, evaluation in evaluations.items()},
            "versions": versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        },
    )
    (output / CARD).write_text(model_card(checkpoint, config, data, evaluations), encoding="utf-8")
    for split, evaluation in evaluations.items():
        print(f"{split} ({counts(evaluation)}): {headline(evaluation)}", flush=True)
    print(f"Finished: {output} ({checkpoint.model_id})", flush=True)


def headline(evaluation: Evaluation) -> str:
    """The main figures in a line."""
    shown = ("micro_f1", "macro_f1", "exact_match", "accuracy")
    return " · ".join(
        f"{task} {name} {result.metrics[name]:.3f}"
        for task, result in evaluation.tasks.items()
        for name in shown
        if name in result.metrics
    )
