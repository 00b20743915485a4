"""Training targets from labels and a teacher."""

from collections.abc import Sequence

import numpy as np

from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.tagger import PolicyTagger
from policy_tagger.train.config import DistillationConfig
from policy_tagger.train.data import LabelledSentence
from policy_tagger.train.evaluation import label_vectors
from policy_tagger.train.model import NOT_ANNOTATED


def soft_labels(
    settings: DistillationConfig, sentences: Sequence[LabelledSentence], codebook: Codebook
) -> dict[str, np.ndarray]:
    """Label vectors mixed with the teacher's calibrated probabilities.

    Cross-entropy is linear in its target, so a mixed target has the loss of Hinton, Vinyals & Dean 2015 at temperature 1.

    Args:
        sentences: n sentences in document order.

    Returns:
        Task id → float32 (n, n_labels) in [0, 1].

    Raises:
        InputError: the teacher cannot be loaded, or has other tasks or labels.
    """
    teacher = PolicyTagger.from_pretrained(settings.teacher)
    shape = {name: (task.kind, task.label_ids) for name, task in codebook.tasks.items()}
    its_shape = {name: (task.kind, task.label_ids) for name, task in teacher.codebook.tasks.items()}
    if shape != its_shape:
        raise InputError(
            f"distillation.teacher: {settings.teacher} must have the tasks and labels of codebook {codebook.name}. "
            f"It has codebook {teacher.codebook.name} {teacher.codebook.version}; name a teacher trained on the same one."
        )
    found = teacher.predict_proba([s.text for s in sentences], [s.document_id for s in sentences])
    mixed = {}
    for name, labels in label_vectors(sentences, codebook).items():
        both = (1 - settings.weight) * labels + settings.weight * found[name]
        mixed[name] = np.where(labels == NOT_ANNOTATED, found[name], both).astype(np.float32)
    return mixed
