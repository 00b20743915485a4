"""The shipped config on the shipped corpus, through `policy-tagger train`: seeds, ablations and the learning curve, as Markdown.

Run from the repository's root: python benchmarks/quality.py seeds|ablations|curve [--set section.field=value]. `seeds` opens the test
split and says how far three runs differ; the other two stay on validation. Each run takes as long as `policy-tagger train small`.
`ablations` also takes other encoders, such as one pretrained without up-weighted policy text: --encoder NAME=FOLDER.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from runs import FIGURES, HEADER, VALIDATION_ONLY, annotated_twice, cells, run, write_unpretrained

from policy_tagger.train.data import SPLITS

CORPUS = Path("data/corpus")
SHARES = (0.1, 0.25, 0.5, 1.0)
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("seeds", "ablations", "curve"))
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override the shipped config")
    parser.add_argument(
        "--encoder", action="append", default=[], metavar="NAME=FOLDER", help="another row of ablations"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        if arguments.table == "seeds":
            seeds(work, arguments.set)
        elif arguments.table == "ablations":
            ablations(work, arguments.set, [text.split("=", 1) for text in arguments.encoder])
        else:
            curve(work, arguments.set)


def seeds(work: Path, overrides: list[str]) -> None:
    runs = {seed: run(work / f"seed-{seed}", [f"training.seed={seed}", *overrides]) for seed in SEEDS}
    for split in SPLITS[1:]:
        print(f"\n| {split} {HEADER}\n|---|---|---|---|---|")
        for seed, metrics in runs.items():
            print(f"| seed {seed} | {cells(metrics[split], with_intervals=True)} |")
        values = np.array([[runs[seed][split][task][metric] for task, metric in FIGURES] for seed in SEEDS])
        spread = [f"{mean:.3f} ± {std:.3f}" for mean, std in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        print(f"| mean ± standard deviation | {' | '.join(spread)} |")


def ablations(work: Path, overrides: list[str], encoders: list[list[str]]) -> None:
    unpretrained = work / "unpretrained"
    write_unpretrained(unpretrained)
    variants = [
        ("as shipped", []),
        ("without context", ["encoding.window_sentences=1", "training.batch_size=32"]),
        ("without pretraining", [f"encoder.model={unpretrained}"]),
        ("without the sentences annotated once", [annotated_twice(CORPUS)]),
        *((name, [f"encoder.model={folder}"]) for name, folder in encoders),
    ]
    print(f"| validation {HEADER}\n|---|---|---|---|---|")
    for number, (name, changes) in enumerate(variants):
        metrics = run(work / f"variant-{number}", [VALIDATION_ONLY, *changes, *overrides])
        print(f"| {name} | {cells(metrics['validation'])} |", flush=True)


def curve(work: Path, overrides: list[str]) -> None:
    rows = [json.loads(line) for path in sorted(CORPUS.glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    documents = sorted({row["document_id"] for row in rows if row["split"] == "train"})
    order = np.random.default_rng(0).permutation(documents)
    print(f"| share of the training documents | sentences {HEADER}\n|---|---|---|---|---|---|")
    for share in SHARES:
        chosen = set(order[: round(share * len(order))])
        kept = [row for row in rows if row["split"] != "train" or row["document_id"] in chosen]
        path = work / f"share-{share}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        metrics = run(work / f"run-{share}", [VALIDATION_ONLY, f"data.files=[{path}]", *overrides])
        sentences = sum(row["split"] == "train" for row in kept)
        print(f"| {share:.0%} | {sentences:,} | {cells(metrics['validation'])} |", flush=True)


if __name__ == "__main__":
    main()
