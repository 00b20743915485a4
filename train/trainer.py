"""`train(config)`: labelled sentences → a finished checkpoint, around `transformers.Trainer`."""

import logging
import math
import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    ProgressCallback,
    TrainingArguments,
    set_seed,
)

from policy_tagger.inference.checkpoint import MANIFEST
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.decision import Decision, decide, probabilities
from policy_tagger.inference.encoding import SentenceEncoding
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import read_json, write_json
from policy_tagger.inference.schema import nearest
from policy_tagger.inference.tagger import run_network
from policy_tagger.train.calibration import fit_decision
from policy_tagger.train.config import TaskConfig, TrainConfig
from policy_tagger.train.data import (
    SPLITS,
    LabelledData,
    LabelledSentence,
    read_labelled,
    split_by_document,
    texts_by_document,
)
from policy_tagger.train.distillation import soft_labels
from policy_tagger.train.evaluation import label_vectors
from policy_tagger.train.export import round_to_half
from policy_tagger.train.finish import finish
from policy_tagger.train.loop import (
    COMPLETE,
    LABELS,
    BarOnly,
    Collator,
    MarkComplete,
    PrintEvaluations,
    TaggerTrainer,
    stopped_early,
)
from policy_tagger.train.metrics import flatten, task_metrics
from policy_tagger.train.model import (
    NOT_ANNOTATED,
    TaggerModel,
    TaskLoss,
    TorchBackend,
    label_weights,
    load_encoder,
)

STEPS = "steps"  # below the output: states to resume from; removed when the checkpoint is finished
RUN_INPUTS = "inputs.json"  # in STEPS: what the run began with


@dataclass(frozen=True)
class _Material:
    """What training works on, all derived from the config."""

    codebook: Codebook
    data: LabelledData
    tokenizer: Tokenizer
    encoding: SentenceEncoding
    model: TaggerModel


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Train, calibrate, export and evaluate.

    Args:
        resume: Go on from the last complete state below `config.output`; from the start where there is none.

    Returns:
        `config.output`, a finished checkpoint.

    Raises:
        InputError: config, codebook, data or encoder do not fit, or the output exists and `resume` is not given.
    """
    output = Path(config.output)
    if (output / MANIFEST).exists() and not (output / STEPS).exists():
        raise InputError(f"output: {output} holds a finished checkpoint. Choose another output, or remove it first.")
    if (output / STEPS / RUN_INPUTS).exists() and not resume:
        raise InputError(f"output: {output} holds an unfinished run. Go on with --resume, or choose another output.")
    _quiet_libraries()
    set_seed(config.training.seed)
    material = _prepare(config)
    inputs = {
        **config.model_dump(),
        "codebook": material.codebook.content_hash,
        "data": [config.data.model_dump(), material.data.hashes],
    }
    state = _state_to_resume(output, inputs)
    train_sentences, validation = material.data.select("train"), material.data.select("validation")
    _check_metric(config.training.metric, material.codebook, validation)
    started = time.monotonic()
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(output / "tensorboard"))
    trainer = _build_trainer(config, material, train_sentences, validation)
    if trainer.is_world_process_zero():
        write_json(output / STEPS / RUN_INPUTS, inputs)
        _announce(config, material)
    if state and stopped_early(state, config.training.patience):
        trainer.load_best_of(state)
    else:
        trainer.train(resume_from_checkpoint=str(state) if state else None)
    if not trainer.is_world_process_zero():
        return output
    # Trainer leaves the forward pass wrapped in bf16 autocast; calibration and export want the network itself.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    round_to_half(model)
    windows = material.encoding.encode_documents(texts_by_document(validation))
    backend = TorchBackend(model, str(trainer.args.device))
    logits = run_network(backend, windows, material.encoding.pad_id, material.codebook.output_sizes)
    decision = fit_decision(material.codebook, logits, label_vectors(validation, material.codebook))
    record = {
        "config": config.model_dump(),
        "seconds": round(time.monotonic() - started),
        "epochs": trainer.state.epoch,
        "best_metric": trainer.state.best_metric,
    }
    finish(
        output, model, material.tokenizer, material.encoding, material.codebook, decision, config, material.data, record
    )
    shutil.rmtree(output / STEPS)
    return output


def last_complete_state(output: Path) -> Path | None:
    """The newest state that was written to its end, or None."""
    states = [path.parent for path in (output / STEPS).glob(f"checkpoint-*/{COMPLETE}")]
    return max(states, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _state_to_resume(output: Path, inputs: dict[str, Any]) -> Path | None:
    if not (output / STEPS / RUN_INPUTS).exists():
        return None
    before = read_json(output / STEPS / RUN_INPUTS)
    changed = [name for name in inputs if inputs[name] != before.get(name)]
    if changed:
        raise InputError(
            f"--resume: {', '.join(changed)} changed since the run in {output} began. Restore it, or choose another output."
        )
    return last_complete_state(output)


def _prepare(config: TrainConfig) -> _Material:
    codebook = Codebook.load(config.codebook)
    unknown = [name for name in config.tasks if name not in codebook.tasks]
    if unknown:
        raise InputError(f"tasks: {', '.join(unknown)} not in the codebook. It has {', '.join(codebook.tasks)}.")
    settings = config.data
    data = split_by_document(
        read_labelled(settings.files, codebook),
        settings.validation_fraction,
        settings.test_fraction,
        config.training.seed,
    )
    encoder, tokenizer = load_encoder(config.encoder_source, config.encoder.dropout)
    longest = getattr(encoder.config, "max_position_embeddings", config.encoding.max_length)
    if encoder.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest -= encoder.config.pad_token_id + 1  # where their positions begin
    if config.encoding.max_length > longest:
        raise InputError(
            f"encoding.max_length must be at most {longest}, the encoder's longest input. Got {config.encoding.max_length}."
        )
    model = TaggerModel(encoder, codebook.output_sizes, config.encoder.head_dropout)
    encoding = SentenceEncoding(tokenizer, config.encoding, getattr(encoder.config, "type_vocab_size", 0))
    return _Material(codebook, data, tokenizer, encoding, model)


def _announce(config: TrainConfig, material: _Material) -> None:
    parts = [f"{len(material.data.select(split)):,} {split}" for split in SPLITS]
    parameters = sum(weight.numel() for weight in material.model.parameters())
    print(f"{parameters / 1e6:.1f}M parameters; sentences: {', '.join(parts)}; output: {config.output}", flush=True)


def _build_trainer(
    config: TrainConfig,
    material: _Material,
    train_sentences: list[LabelledSentence],
    validation: list[LabelledSentence],
) -> TaggerTrainer:
    settings = config.training
    codebook = material.codebook
    labels = label_vectors(train_sentences, codebook)
    material.model.start_from_frequencies(labels, {name: task.kind for name, task in codebook.tasks.items()})
    targets = soft_labels(config.distillation, train_sentences, codebook) if config.distillation else labels
    train_set = _dataset(train_sentences, targets, material)
    devices = int(os.environ.get("WORLD_SIZE", 0)) or max(1, torch.cuda.device_count())
    steps_an_epoch = math.ceil(len(train_set) / (settings.batch_size * devices))
    evaluate_every = max(1, steps_an_epoch // settings.evaluations_per_epoch)
    total_steps = steps_an_epoch * settings.epochs
    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(Path(config.output) / STEPS),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=4 * settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_ratio * total_steps),
        lr_scheduler_type="linear",
        eval_strategy="steps",
        eval_steps=evaluate_every,
        save_strategy="steps",
        save_steps=evaluate_every,
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model="eval_" + settings.metric,
        greater_is_better=settings.metric != "loss" and not settings.metric.endswith("calibration_error"),
        logging_strategy="steps",
        logging_steps=evaluate_every,
        use_cpu=not cuda,
        bf16=_use_bf16(settings.precision, cuda),
        seed=settings.seed,
        data_seed=settings.seed,
        label_names=[LABELS + task for task in codebook.tasks],
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        disable_tqdm=not sys.stderr.isatty(),
        report_to=["tensorboard"] if find_spec("tensorboard") else [],
    )
    trainer = TaggerTrainer(
        losses=_losses(config, codebook, train_sentences),
        model=material.model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=_dataset(validation, label_vectors(validation, codebook), material),
        data_collator=Collator(material.encoding.pad_id),
        compute_metrics=lambda prediction: _metrics_of(prediction, codebook),
        optimizers=(_optimizer(config, material.model), None),
        callbacks=[MarkComplete(), PrintEvaluations(), EarlyStoppingCallback(settings.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    if sys.stderr.isatty():
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(BarOnly())
    return trainer


def _dataset(sentences: list[LabelledSentence], targets: dict[str, np.ndarray], material: _Material) -> Dataset:
    windows = material.encoding.encode_documents(texts_by_document(sentences))
    columns: dict[str, Any] = {
        name: [getattr(window, name) for window in windows]
        for name in ("input_ids", "token_type_ids", "starts", "ends")
    }
    borders = np.cumsum([len(window.starts) for window in windows])[:-1]
    for name, vectors in targets.items():
        columns[LABELS + name] = [rows.tolist() for rows in np.split(vectors, borders)]
    return Dataset.from_dict(columns)


def _losses(config: TrainConfig, codebook: Codebook, sentences: list[LabelledSentence]) -> dict[str, TaskLoss]:
    losses = {}
    for name, labels in label_vectors(sentences, codebook).items():
        settings = config.tasks.get(name, TaskConfig())
        kind = codebook.tasks[name].kind
        weights = label_weights(labels[labels[:, 0] != NOT_ANNOTATED], kind, settings.balance)
        losses[name] = TaskLoss(kind, weights, settings.weight)
    return losses


def _optimizer(config: TrainConfig, model: TaggerModel) -> torch.optim.AdamW:
    settings = config.training
    encoder = list(model.encoder.parameters())
    heads = [weight for name, weight in model.named_parameters() if not name.startswith("encoder.")]
    groups: list[dict[str, Any]] = []
    for parameters, rate in ((encoder, settings.learning_rate), (heads, settings.head_learning_rate)):
        groups.append(
            {"params": [p for p in parameters if p.ndim > 1], "lr": rate, "weight_decay": settings.weight_decay}
        )
        groups.append({"params": [p for p in parameters if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def _metrics_of(prediction: EvalPrediction, codebook: Codebook) -> dict[str, float]:
    tasks = list(codebook.tasks)
    logits, labels = (
        dict(zip(tasks, values if isinstance(values, tuple | list) else (values,), strict=True))
        for values in (prediction.predictions, prediction.label_ids)
    )
    # Windows have fewer sentences than the longest: NOT_ANNOTATED within a batch, below that where Trainer joins batches.
    rows = {name: values.reshape(-1, values.shape[2]) for name, values in labels.items()}
    real = {name: vectors[:, 0] > NOT_ANNOTATED for name, vectors in rows.items()}
    return validation_metrics(
        codebook,
        {name: values.reshape(-1, values.shape[2])[real[name]] for name, values in logits.items()},
        {name: vectors[real[name]] for name, vectors in rows.items()},
    )


def validation_metrics(
    codebook: Codebook, logits: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> dict[str, float]:
    """`task.metric` → value with the decision fitted on the same sentences, and `mean_f1` over the tasks.

    `mean_f1` averages micro-F1 of multi_label and macro-F1 of single_label tasks.
    """
    decision: Decision = fit_decision(codebook, logits, labels)
    metrics = {}
    for name, task in codebook.tasks.items():
        annotated = labels[name][:, 0] != NOT_ANNOTATED
        if annotated.any():
            fitted = decision.tasks[name]
            values = probabilities(logits[name][annotated], task, fitted.temperature)
            true = labels[name][annotated].astype(np.int64)
            metrics[name] = task_metrics(
                task.kind, decide(values, task, fitted).astype(np.int64), true, values, task.label_ids
            )
    flat = flatten(metrics)
    main = [flat[f"{n}.{'micro_f1' if codebook.tasks[n].kind == 'multi_label' else 'macro_f1'}"] for n in metrics]
    return {**flat, "mean_f1": float(np.mean(main))}


def _check_metric(metric: str, codebook: Codebook, validation: list[LabelledSentence]) -> None:
    labels = label_vectors(validation, codebook)
    unannotated = [name for name, vectors in labels.items() if (vectors[:, 0] == NOT_ANNOTATED).all()]
    if unannotated:
        raise InputError(
            f"The validation sentences must have labels for every task. {', '.join(unannotated)} has none."
        )
    known = [*validation_metrics(codebook, {name: np.zeros_like(v) for name, v in labels.items()}, labels), "loss"]
    if metric not in known:
        guess = nearest(metric, known)
        shown = ", ".join(name for name in known if ".labels." not in name)
        raise InputError(
            f"training.metric: there is no {metric}. " + (f"Did you mean {guess}?" if guess else f"There are {shown}.")
        )


def _use_bf16(precision: str, cuda: bool) -> bool:
    if precision != "auto":
        return precision == "bf16"
    return torch.cuda.is_bf16_supported() if cuda else torch.cpu._is_avx512_bf16_supported()


def _quiet_libraries() -> None:
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
