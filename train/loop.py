"""What `transformers.Trainer` is given: the order of windows, batches, the loss, and what happens at an evaluation."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from policy_tagger.inference.encoding import EncodedWindow, pad
from policy_tagger.train.model import NOT_ANNOTATED, TaskLoss

COMPLETE = "complete"  # written last into a state
LABELS = "labels_"  # prefix of a task's label vectors in a batch


class TaggerTrainer(Trainer):
    """`transformers.Trainer` with a loss per task and batches of similar length in an order that only the seed decides."""

    def __init__(self, losses: dict[str, TaskLoss], **options: Any):
        super().__init__(**options)
        self._losses = losses
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum of the tasks' losses; with `return_outputs` also the logits by task."""
        network_inputs = {name: tensor for name, tensor in inputs.items() if not name.startswith(LABELS)}
        logits = model(**network_inputs)
        loss = torch.stack([self._losses[task](logits[task], inputs[LABELS + task]) for task in self._losses]).sum()
        return (loss, logits) if return_outputs else loss

    def load_best_of(self, state: Path) -> None:
        """Take over the best weights of a run that had ended when `state` was written."""
        self.state = TrainerState.load_from_json(str(state / "trainer_state.json"))
        self._load_best_model()

    def _get_train_sampler(self, train_dataset: Any = None) -> "LengthGroupedOrder":
        dataset: Any = self.train_dataset
        lengths = [len(ids) for ids in dataset["input_ids"]]
        return LengthGroupedOrder(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)


class LengthGroupedOrder(torch.utils.data.Sampler[int]):
    """Indices in batches of similar length, batches shuffled; depends on seed and epoch alone, so a run can be resumed."""

    MEGABATCH = 50  # batches that are sorted together, as in transformers' LengthGroupedSampler

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        order = rng.permutation(len(self))
        size = self._batch_size * self.MEGABATCH
        batches = []
        for start in range(0, len(order), size):
            group = order[start : start + size]
            group = group[np.argsort(-self._lengths[group], kind="stable")]
            batches += [group[at : at + self._batch_size] for at in range(0, len(group), self._batch_size)]
        # The one short batch stays last: anywhere else it would shift the ones behind it across batch borders.
        short = [batch for batch in batches if len(batch) < self._batch_size]
        full = [batch for batch in batches if len(batch) == self._batch_size]
        for place in rng.permutation(len(full)):
            yield from (int(index) for index in full[place])
        for batch in short:
            yield from (int(index) for index in batch)


class Collator:
    """Rows of the dataset, windows with their label vectors → padded tensors, through the one padding there is."""

    def __init__(self, pad_id: int):
        self._pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        windows = [
            EncodedWindow(row["input_ids"], row["token_type_ids"], row["starts"], row["ends"], []) for row in rows
        ]
        batch = {name: torch.from_numpy(array) for name, array in pad(windows, self._pad_id).items()}
        most = batch["starts"].shape[1]
        for name in (name for name in rows[0] if name.startswith(LABELS)):
            vectors = torch.full((len(rows), most, len(rows[0][name][0])), NOT_ANNOTATED)
            for row, content in enumerate(rows):
                vectors[row, : len(content[name])] = torch.tensor(content[name])
            batch[name] = vectors
        return batch


class MarkComplete(TrainerCallback):
    """Marks a state once all its files are written, then removes those that are neither the newest nor the best.

    A kill at any moment leaves a marked state whole: the marker is the last file written and the first one removed.
    """

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has written its part
        if not state.is_world_process_zero:
            return
        newest = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        (newest / COMPLETE).touch()
        best = Path(state.best_model_checkpoint or newest)
        for old in newest.parent.glob("checkpoint-*"):
            if old.name not in (newest.name, best.name):
                (old / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(old)


def stopped_early(state: Path, patience: int) -> bool:
    """Whether training had ended for want of progress when a state was written."""
    saved = TrainerState.load_from_json(str(state / "trainer_state.json"))
    attributes = saved.stateful_callbacks.get("EarlyStoppingCallback", {}).get("attributes", {})
    return bool(attributes.get("early_stopping_patience_counter", 0) >= patience)


class PrintEvaluations(TrainerCallback):
    """One line an evaluation."""

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        if state.is_world_process_zero:
            shown = {name.removeprefix("eval_"): value for name, value in metrics.items() if ".labels." not in name}
            wanted = ("loss", "mean_f1", "micro_f1", "macro_f1", "accuracy")
            parts = [f"{name} {value:.4f}" for name, value in shown.items() if name.rpartition(".")[2] in wanted]
            print(f"epoch {state.epoch:.2f}: validation {' · '.join(parts)}", flush=True)


class BarOnly(ProgressCallback):
    """The progress bar without the log lines; evaluations have their own."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        return
