"""The model card, as the Hub reads it."""

from policy_tagger.inference.checkpoint import Checkpoint
from policy_tagger.train.config import TrainConfig
from policy_tagger.train.data import LabelledData
from policy_tagger.train.evaluation import Evaluation, counts, metrics_markdown
from policy_tagger.train.quantise import Quantised

_TEMPLATE = """---
language: ko
library_name: policy-tagger
pipeline_tag: text-classification
tags: [korean, policy, multi-label, openvino]
---

# {name}

Tags sentences with the labels of the codebook `{codebook}` {version}: {tasks}. The encoder sees {context}.

```python
from policy_tagger.inference import PolicyTagger

tagger = PolicyTagger.from_pretrained("{name}")  # this folder's path, or its Hub id
for sentence in tagger.predict_document("산업부는 수출 상담창구를 늘리겠다고 밝혔다."):
    print(sentence.labels, sentence.text)
```

## Training

Encoder: `{encoder}`{teacher}. Data: {files}; {sentences} sentences. Temperatures and thresholds are fitted on the validation
sentences. Weights are stored in half precision; the OpenVINO graph holds the same numbers as `model.safetensors`.
{quantised}
The full configuration, hashes of the data and versions are in `run.json`.

{evaluations}
## Intended use and limits

For counting and finding themes and speakers in corpora of text like the training data. A single sentence's label can be
wrong: do not publish what a person is said to have stated on the strength of a label alone. Figures on text of another
kind are lower; measure on a sample of your own with `policy-tagger evaluate`.
"""


def model_card(
    checkpoint: Checkpoint,
    config: TrainConfig,
    data: LabelledData,
    evaluations: dict[str, Evaluation],
    quantised: Quantised,
) -> str:
    """The card's Markdown."""
    codebook, length = checkpoint.codebook, config.encoding.max_length
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
        context=f"neighbouring sentences of a document together, in windows of up to {length} tokens"
        if config.encoding.window_sentences > 1
        else f"each sentence by itself, up to {length} tokens of it",
        encoder=config.encoder.model,
        teacher=f", taught by `{config.distillation.teacher}`" if config.distillation else "",
        files=", ".join(f"`{file}`" for file in data.hashes),
        sentences=", ".join(f"{len(data.select(split)):,} {split}" for split in ("train", "validation", "test")),
        evaluations="\n".join(parts),
        quantised=_quantised_sentence(quantised),
    )


def _quantised_sentence(quantised: Quantised) -> str:
    moved = ", ".join(f"{name} {value:.4f} → {quantised.int8[name]:.4f}" for name, value in quantised.fp32.items())
    kept = (
        "The int8 graph beside it is what `predict` takes unless told otherwise"
        if quantised.accepted
        else "There is no int8 graph: it lost too much"
    )
    return (
        f"{kept} (validation, fp32 → int8: {moved}; other labels for {quantised.changed_labels:,} of "
        f"{quantised.sentences:,} sentences)."
    )
