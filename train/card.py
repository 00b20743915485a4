"""The model card, as the Hub reads it."""

from policy_tagger.inference.checkpoint import Checkpoint
from policy_tagger.train.config import TrainConfig
from policy_tagger.train.data import LabelledData
from policy_tagger.train.evaluation import Evaluation, counts, metrics_markdown

_TEMPLATE = """---
language: ko
library_name: policy-tagger
pipeline_tag: text-classification
tags: [korean, policy, multi-label, openvino]
---

# {name}

Tags sentences with the labels of the codebook `{codebook}` {version}: {tasks}. The encoder sees the sentence and up to
{context} sentences before it, {max_length} tokens in all.

```python
from policy_tagger.inference import PolicyTagger

tagger = PolicyTagger.from_pretrained("{name}")  # this folder's path, or its Hub id
for sentence in tagger.predict_document("산업부는 수출 상담창구를 늘리겠다고 밝혔다."):
    print(sentence.labels, sentence.text)
```

## Training

Encoder: `{encoder}`{teacher}. Data: {files}; {sentences} sentences. Temperatures and thresholds are fitted on the validation
sentences. Weights are stored in half precision; the OpenVINO graph holds the same numbers as `model.safetensors`.
The full configuration, hashes of the data and versions are in `run.json`.

{evaluations}
## Intended use and limits

For counting and finding themes and speakers in corpora of text like the training data. A single sentence's label can be
wrong: do not publish what a person is said to have stated on the strength of a label alone. Figures on text of another
kind are lower; measure on a sample of your own with `policy-tagger evaluate`.
"""


def model_card(
    checkpoint: Checkpoint, config: TrainConfig, data: LabelledData, evaluations: dict[str, Evaluation]
) -> str:
    """The card's Markdown."""
    codebook = checkpoint.codebook
    parts = []
    for split, evaluation in evaluations.items():
        fitted = (
            " (thresholds and the best epoch were chosen here, so these figures flatter)"
            if split == "validation"
            else ""
        )
        parts += [f"## Results on {split}: {counts(evaluation)}{fitted}", "", metrics_markdown(evaluation), ""]
    return _TEMPLATE.format(
        name=checkpoint.folder.resolve().name,
        codebook=codebook.name,
        version=codebook.version,
        tasks=", ".join(f"`{name}` ({task.kind}, {len(task.labels)} labels)" for name, task in codebook.tasks.items()),
        context=config.encoding.context_sentences,
        max_length=config.encoding.max_length,
        encoder=config.encoder.model,
        teacher=f", taught by `{config.distillation.teacher}`" if config.distillation else "",
        files=", ".join(f"`{file}`" for file in data.hashes),
        sentences=", ".join(f"{len(data.select(split)):,} {split}" for split in ("train", "validation", "test")),
        evaluations="\n".join(parts),
    )
