"""The embedded encoder on KLUE-TC (YNAT) v1.1, through `policy-tagger train`: what its pretraining is worth.

Run: python benchmarks/ynat.py FOLDER, with ynat_train.jsonl.xz and ynat_validation.jsonl.xz in FOLDER (JSON lines with `text` and
`label`; CC BY-SA 4.0, KLUE; not part of this project). The published validation set is the test: epoch and temperature are chosen on
5% of the training titles.
"""

import json
import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from runs import run, write_unpretrained
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

SETTINGS = [
    "tasks={}",
    "encoding={max_length: 48, window_sentences: 1}",
    "training.epochs=3",
    "training.batch_size=64",
    "training.metric=topic.macro_f1",
]


def main(folder: Path) -> None:
    titles = {split: _read(folder / f"ynat_{split}.jsonl.xz") for split in ("train", "validation")}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        _write_data(titles, work)
        write_unpretrained(work / "unpretrained")
        rows = [("TF-IDF of character 1- to 4-grams + linear SVM", _tfidf(titles))]
        for name, model in (("same shape, not pretrained", work / "unpretrained"), ("embedded encoder", "embedded")):
            rows.append((name, _train(f"encoder.model={model}", work, work / f"checkpoint-{len(rows)}")))
    print(f"\n| YNAT validation, {len(titles['validation']):,} titles | macro-F1 |\n|---|---|")
    for name, figure in rows:
        print(f"| {name} | {figure:.3f} |")


def _read(path: Path) -> list[dict[str, str]]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write_data(titles: dict[str, list[dict[str, str]]], work: Path) -> None:
    labels = sorted({row["label"] for row in titles["train"]})
    topic = {"kind": "single_label", "labels": [{"id": label} for label in labels]}
    codebook = {"name": "ynat", "version": "1.1", "tasks": {"topic": topic}}
    (work / "ynat.yaml").write_text(yaml.safe_dump(codebook, allow_unicode=True), encoding="utf-8")
    held_out = np.random.default_rng(0).random(len(titles["train"])) < 0.05
    rows = [
        {"text": row["text"], "topic": row["label"], "split": "validation" if out else "train"}
        for row, out in zip(titles["train"], held_out, strict=True)
    ]
    rows += [{"text": row["text"], "topic": row["label"], "split": "test"} for row in titles["validation"]]
    (work / "ynat.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def _tfidf(titles: dict[str, list[dict[str, str]]]) -> float:
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform([row["text"] for row in titles["train"]])
    model = LinearSVC(C=0.5).fit(features, [row["label"] for row in titles["train"]])
    found = model.predict(vectorizer.transform([row["text"] for row in titles["validation"]]))
    return float(f1_score([row["label"] for row in titles["validation"]], found, average="macro"))


def _train(encoder: str, work: Path, output: Path) -> float:
    files = [f"codebook={work / 'ynat.yaml'}", f"data.files=[{work / 'ynat.jsonl'}]"]
    return float(run(output, [*files, encoder, *SETTINGS])["test"]["topic"]["macro_f1"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
