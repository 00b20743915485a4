"""What a tagger has to beat on the shipped corpus: the majority, and TF-IDF of character n-grams + logistic regression.

Run from the repository's root: python benchmarks/baselines.py. The threshold for themes is chosen on validation.
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from policy_tagger.inference.codebook import Codebook
from policy_tagger.train.calibration import best_threshold
from policy_tagger.train.data import SPLITS, read_labelled
from policy_tagger.train.evaluation import label_vectors
from policy_tagger.train.metrics import bootstrap_intervals, task_metrics

codebook = Codebook.load("policy")
data = read_labelled(["data/corpus"], codebook)
splits = {name: data.select(name) for name in SPLITS}
labels = {name: label_vectors(sentences, codebook) for name, sentences in splits.items()}


def majority() -> dict[str, dict[str, np.ndarray]]:
    """The most frequent theme, and the most frequent role, for every sentence."""
    shares = {task: vectors.mean(axis=0) for task, vectors in labels["train"].items()}
    return {
        split: {
            task: np.tile(np.eye(len(share))[share.argmax()], (len(sentences), 1)) for task, share in shares.items()
        }
        for split, sentences in splits.items()
        if split != "train"
    }


def tfidf() -> dict[str, dict[str, np.ndarray]]:
    """Character 2- to 4-grams inside words, one logistic regression a theme and one for the roles."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True)
    vectorizer.fit([sentence.text for sentence in splits["train"]])
    features = {name: vectorizer.transform([s.text for s in sentences]) for name, sentences in splits.items()}
    themes = OneVsRestClassifier(LogisticRegression(C=10, class_weight="balanced", max_iter=500))
    themes.fit(features["train"], labels["train"]["themes"])
    roles = LogisticRegression(C=10, max_iter=500).fit(features["train"], labels["train"]["role"].argmax(axis=1))
    values = {split: themes.predict_proba(features[split]) for split in SPLITS[1:]}
    threshold = best_threshold(values["validation"].ravel(), labels["validation"]["themes"].ravel())
    every_role = np.eye(len(codebook.tasks["role"].labels))
    return {
        split: {"themes": values[split] >= threshold, "role": every_role[roles.predict(features[split])]}
        for split in SPLITS[1:]
    }


print(
    "| split | baseline | themes micro-F1 | themes macro-F1 | role accuracy | role macro-F1 |\n|---|---|---|---|---|---|"
)
for name, predict in (("majority", majority), ("TF-IDF + logistic regression", tfidf)):
    for split, predictions in predict().items():
        figures = []
        for task, main in (("themes", "micro_f1"), ("role", "accuracy")):
            kind, ids = codebook.tasks[task].kind, codebook.tasks[task].label_ids
            predicted, true = predictions[task].astype(int), labels[split][task].astype(int)
            metrics = task_metrics(kind, predicted, true, predicted.astype(float), ids)
            intervals = bootstrap_intervals(kind, predicted, true, [s.document_id for s in splits[split]])
            figures += [f"{metrics[m]:.3f} ({intervals[m][0]:.3f}–{intervals[m][1]:.3f})" for m in (main, "macro_f1")]
        print(f"| {split} | {name} | " + " | ".join(figures) + " |")
