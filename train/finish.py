"""What happens once the network is trained: checkpoint, parity with the exported graph, int8, evaluation, model card."""

import os
import platform
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from policy_tagger.inference.checkpoint import CARD, RUN, write_manifest
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision
from policy_tagger.inference.encoding import SentenceEncoding
from policy_tagger.inference.files import write_json
from policy_tagger.inference.tagger import PolicyTagger
from policy_tagger.train.card import model_card
from policy_tagger.train.config import TrainConfig
from policy_tagger.train.data import SPLITS, LabelledData, texts_by_document
from policy_tagger.train.evaluation import Evaluation, counts, evaluate, label_vectors
from policy_tagger.train.export import versions, write_checkpoint
from policy_tagger.train.model import TaggerModel
from policy_tagger.train.quantise import quantise

PARITY_WINDOWS = 100


def finish(
    output: Path,
    model: TaggerModel,
    tokenizer: Tokenizer,
    encoding: SentenceEncoding,
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
    train, validation = (
        encoding.encode_documents(texts_by_document(data.select(split))) for split in ("train", "validation")
    )
    samples = validation[:PARITY_WINDOWS]
    parity = write_checkpoint(output, model, tokenizer, codebook, decision, encoding, samples)
    labels = label_vectors(data.select("validation"), codebook)
    quantised = quantise(output, train, validation, labels, encoding.pad_id, codebook, decision)
    write_manifest(output)
    tagger = PolicyTagger.from_pretrained(output)
    splits = ("validation", "test") if config.data.measure_test and data.select("test") else ("validation",)
    evaluations = {split: evaluate(tagger, data.select(split)) for split in splits}
    write_json(
        output / RUN,
        {
            **record,
            "codebook": codebook.identity,
            "data": {
                "files": data.hashes,
                "sentences": {split: len(data.select(split)) for split in SPLITS},
            },
            "parity": vars(parity),
            "quantisation": quantised.to_dict(),
            "metrics": {split: evaluation.to_dict() for split, evaluation in evaluations.items()},
            "versions": versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        },
    )
    (output / CARD).write_text(model_card(tagger.checkpoint, config, data, evaluations, quantised), encoding="utf-8")
    for split, evaluation in evaluations.items():
        print(f"{split} ({counts(evaluation)}): {headline(evaluation)}", flush=True)
    print(f"Finished: {output} ({tagger.checkpoint.model_id})", flush=True)


def headline(evaluation: Evaluation) -> str:
    """The main figures in a line."""
    shown = ("micro_f1", "macro_f1", "exact_match", "accuracy")
    return " · ".join(
        f"{task} {name} {result.metrics[name]:.3f}"
        for task, result in evaluation.tasks.items()
        for name in shown
        if name in result.metrics
    )
