"""The training verbs of `policy-tagger`; what they need is imported when they run."""

import argparse
import sys
from typing import Any

from policy_tagger.inference.cli import EXIT_BAD_INPUT, EXIT_GATE_MISSED, EXIT_OK


def add_commands(commands: Any) -> None:
    """Add check, train, evaluate and pretrain to the parser of `policy-tagger`."""
    check = commands.add_parser("check", help="find every problem of labelled data", description=_check.__doc__)
    check.add_argument("data", nargs="+", metavar="DATA", help="labelled JSONL, CSV, TSV or Parquet files")
    check.add_argument("--codebook", default="policy", help="codebook file or name (default: policy)")
    check.set_defaults(command=_check)

    train = commands.add_parser("train", help="train a checkpoint on labelled data", description=_train.__doc__)
    train.add_argument("config", metavar="CONFIG", help="YAML file, or a shipped config: small, klue-bert-base, …")
    train.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field; repeatable")
    train.add_argument("--resume", action="store_true", help="go on from the last complete state of this run")
    train.set_defaults(command=_train)

    evaluate = commands.add_parser(
        "evaluate", help="measure a checkpoint; a gate for CI", description=_evaluate.__doc__
    )
    evaluate.add_argument("model", metavar="CHECKPOINT", help="checkpoint folder, Hub id, or default")
    evaluate.add_argument("data", nargs="+", metavar="DATA", help="labelled files")
    evaluate.add_argument("-o", "--output", required=True, metavar="DIR", help="where metrics, summary and plots go")
    evaluate.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="rows to use (default: test where there are splits, else all)",
    )
    evaluate.add_argument(
        "--min", action="append", default=[], metavar="TASK.METRIC=X", help="required least value; repeatable"
    )
    evaluate.set_defaults(command=_evaluate)

    pretrain = commands.add_parser("pretrain", help="train an encoder on raw text", description=_pretrain.__doc__)
    pretrain.add_argument("config", metavar="CONFIG", help="YAML file, or a shipped config: small")
    pretrain.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field; repeatable")
    pretrain.add_argument("--minutes", type=float, help="stop after this many minutes; run again to go on")
    pretrain.set_defaults(command=_pretrain)


def _check(options: argparse.Namespace) -> int:
    """Report every problem of labelled files: errors (exit 2) and warnings (exit 0)."""
    from policy_tagger.inference.codebook import Codebook
    from policy_tagger.train.data import check, read_labelled

    codebook = Codebook.load(options.codebook)
    data = read_labelled(options.data, codebook)
    findings = check(data, codebook)
    for finding in findings:
        print(f"{finding.severity}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in findings)
    documents = len({sentence.document_id for sentence in data.sentences})
    print(
        f"{len(data.sentences):,} usable sentences of {documents:,} documents; "
        f"{errors:,} errors, {len(findings) - errors:,} warnings."
    )
    return EXIT_BAD_INPUT if errors else EXIT_OK


def _train(options: argparse.Namespace) -> int:
    """Train, calibrate on validation, export, and evaluate on the test split."""
    from policy_tagger.train.config import load_train_config

    config = load_train_config(options.config, options.set)
    from policy_tagger.train.trainer import train

    train(config, resume=options.resume)
    return EXIT_OK


def _evaluate(options: argparse.Namespace) -> int:
    """Write metrics.json, summary.md and plots; exit 1 when a minimum is missed."""
    from pathlib import Path

    from policy_tagger.inference.errors import InputError
    from policy_tagger.inference.tagger import PolicyTagger
    from policy_tagger.train.data import read_labelled
    from policy_tagger.train.evaluation import counts, evaluate, missed_minima, parse_minima, write_report
    from policy_tagger.train.finish import headline

    if not options.output or Path(options.output).is_file():
        raise InputError(f"-o must name a folder. Got '{options.output}'.")
    tagger = PolicyTagger.from_pretrained(options.model)
    minima = parse_minima(options.min, tagger.codebook)
    data = read_labelled(options.data, tagger.codebook)
    if data.errors:
        raise InputError([*data.errors, "Mend these rows, then run again (policy-tagger check lists everything)."])
    has_splits = any(sentence.split for sentence in data.sentences)
    split = options.split or ("test" if has_splits else None)
    sentences = data.select(split) if split else data.sentences
    if not sentences:
        raise InputError(f"The data must have rows with split {split}. Found none; name another with --split.")
    evaluation = evaluate(tagger, sentences)
    missed = missed_minima(evaluation, minima)
    write_report(evaluation, Path(options.output))
    rows = f"split {split}" if split else "all rows"
    print(f"{evaluation.model_id} on {rows} ({counts(evaluation)}): {headline(evaluation)}")
    print(f"Written to {options.output}: metrics.json, summary.md and plots.")
    for line in missed:
        print(f"MISSED: {line}", file=sys.stderr)
    return EXIT_GATE_MISSED if missed else EXIT_OK


def _pretrain(options: argparse.Namespace) -> int:
    """Train an encoder by masked language modelling, in slices that resume exactly."""
    from policy_tagger.inference.schema import load_yaml
    from policy_tagger.train.config import shipped_config
    from policy_tagger.train.pretrain import PretrainConfig, pretrain

    config = load_yaml(shipped_config("pretrain", options.config), PretrainConfig, options.set)
    pretrain(config, options.minutes)
    return EXIT_OK
