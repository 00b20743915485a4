"""TF-IDF of character 2- to 4-grams + logistic regression on the shipped corpus: what a tagger has to beat.

Run from the repository's root: python benchmarks/baselines.py. The threshold for themes is chosen on validation.
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from policy_tagger.inference.codebook import Codebook
from policy_tagger.train.calibration import best_threshold
from policy_tagger.train.data import read_labelled
from policy_tagger.train.evaluation import label_vectors
from policy_tagger.train.metrics import task_metrics

codebook = Codebook.load("policy")
data = read_labelled(["data/sentences.jsonl"], codebook)
splits = {name: data.select(name) for name in ("train", "validation", "test")}
labels = {name: label_vectors(sentences, codebook) for name, sentences in splits.items()}
vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True)
vectorizer.fit([sentence.text for sentence in splits["train"]])
features = {name: vectorizer.transform([s.text for s in sentences]) for name, sentences in splits.items()}

print("| split | themes micro-F1 | themes macro-F1 | role accuracy | role macro-F1 |\n|---|---|---|---|---|")
themes = OneVsRestClassifier(LogisticRegression(C=10, class_weight="balanced", max_iter=500))
themes.fit(features["train"], labels["train"]["themes"])
roles = LogisticRegression(C=10, max_iter=500).fit(features["train"], labels["train"]["role"].argmax(axis=1))
threshold = best_threshold(themes.predict_proba(features["validation"]).ravel(), labels["validation"]["themes"].ravel())
for split in ("validation", "test"):
    values = themes.predict_proba(features[split])
    theme, role = codebook.tasks["themes"], codebook.tasks["role"]
    true = {name: vectors.astype(int) for name, vectors in labels[split].items()}
    found = task_metrics(theme.kind, (values >= threshold).astype(int), true["themes"], values, theme.label_ids)
    shares = roles.predict_proba(features[split])
    spoken = task_metrics(
        role.kind, np.eye(len(role.labels), dtype=int)[shares.argmax(1)], true["role"], shares, role.label_ids
    )
    figures = (found["micro_f1"], found["macro_f1"], spoken["accuracy"], spoken["macro_f1"])
    print(f"| {split} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
