"""The training configuration: every key that a config file may have, with its unit."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from policy_tagger.inference.checkpoint import MODELS_FOLDER
from policy_tagger.inference.encoding import EncodingSettings
from policy_tagger.inference.schema import Schema, load_yaml

CONFIG_FOLDER = Path(__file__).parent.parent / "configs"
EMBEDDED_ENCODER = "embedded"


class DataConfig(Schema):
    files: Annotated[list[str], Field(min_length=1)]
    """Labelled sentences: JSONL, CSV, TSV or Parquet."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of documents for validation; used only where the files have no `split` column."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of documents for the test; used only where the files have no `split` column."""
    measure_test: bool = True
    """Measure on the test split at the end. Turn it off while choosing between configs: a test opened often is no test."""

    @model_validator(mode="after")
    def _something_left_to_train_on(self) -> "DataConfig":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("must leave documents to train on: validation_fraction + test_fraction must be below 1")
        return self


class EncoderConfig(Schema):
    model: str
    """`embedded`, a folder, or a Hub id of any encoder that `transformers.AutoModel` reads."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout inside the encoder."""
    head_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of what the heads see."""


class TaskConfig(Schema):
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the task's loss in the sum."""
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Up-weights rare labels: 0 not at all, 1 fully (pos_weight = negatives/positives, class weight ∝ 1/frequency)."""


class DistillationConfig(Schema):
    """A larger model's probabilities as training targets (Hinton, Vinyals & Dean 2015)."""

    teacher: str
    """Checkpoint folder or Hub id of a finished tagger with the same codebook; its tokenizer and encoder may be others."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the teacher in the targets; sentences without labels have the teacher's alone."""


class TrainingConfig(Schema):
    epochs: Annotated[int, Field(ge=1)] = 5
    """Passes over the training sentences, at most."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 8
    """Windows in a step, per device; a window holds neighbouring sentences of one document."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate of the encoder; linear warm-up and linear decay to zero."""
    head_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate of the heads."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rates rise."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    metric: str = "mean_f1"
    """What picks the best epoch: `mean_f1`, `loss`, or TASK.METRIC such as `themes.micro_f1`."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Evaluations without a better metric before training stops."""
    evaluations_per_epoch: Annotated[int, Field(ge=1)] = 1
    """How often in an epoch to evaluate and to save a state to resume from."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic; auto takes bf16 where the hardware computes it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the split, the order, the heads and dropout."""


class TrainConfig(Schema):
    """One training run."""

    output: str
    """Folder of the finished checkpoint; states to resume from are in `steps/` below it."""
    codebook: str
    """A codebook file, or a shipped codebook by its name (`policy`)."""
    data: DataConfig
    encoder: EncoderConfig
    encoding: EncodingSettings = EncodingSettings()
    """How the sentences of a document become inputs."""
    tasks: dict[str, TaskConfig] = {}
    """Task of the codebook → its loss; the defaults for tasks not named here."""
    distillation: DistillationConfig | None = None
    """A teacher to learn from besides the labels."""
    training: TrainingConfig = TrainingConfig()

    @property
    def encoder_source(self) -> str:
        """Where `transformers` finds the encoder."""
        embedded = self.encoder.model == EMBEDDED_ENCODER
        return str(MODELS_FOLDER / "encoder") if embedded else self.encoder.model


def load_train_config(path_or_name: str, overrides: list[str]) -> TrainConfig:
    """Read a config file, or a shipped one by its name (`small`, `klue-bert-base`, …).

    Raises:
        InputError: listing every problem of the file.
    """
    return load_yaml(shipped_config("train", path_or_name), TrainConfig, overrides)


def shipped_config(kind: Literal["train", "pretrain"], path_or_name: str) -> Path:
    """The path of a config: shipped ones go by their name, others by their path."""
    shipped = CONFIG_FOLDER / kind / f"{path_or_name}.yaml"
    return shipped if shipped.exists() else Path(path_or_name)
