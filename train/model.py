"""The network: any Hugging Face encoder with one head per task."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from policy_tagger.inference.backends import Logits
from policy_tagger.inference.errors import InputError

OUTSIDE = -1e4  # added to the attention of tokens outside the sentence; their share is then 0 in every precision
NOT_ANNOTATED = -1.0  # in a row of label vectors: the task was not annotated; masked out of the loss


class Head(nn.Module):
    """Logits of one task: a linear layer on the sentence as a whole, plus what each label finds in the tokens.

    Every label has attention of its own over the tokens (CAML, Mullenbach et al. 2018), which see the encoder's output beside their
    word embeddings: one telling word is enough, and is found after fewer labelled sentences than a mean over all words asks for.

    Args:
        hidden_size: Width of the encoder's output.
        embedding_size: Width of its word embeddings.
        labels: Number of labels.
        dropout: Of the features.
    """

    def __init__(self, hidden_size: int, embedding_size: int, labels: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.whole = nn.Linear(2 * hidden_size, labels)
        self.attention = nn.Linear(hidden_size + embedding_size, labels, bias=False)
        self.found = nn.Linear(hidden_size + embedding_size, labels, bias=False)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.02) if weight.ndim > 1 else nn.init.zeros_(weight)

    def forward(self, whole: torch.Tensor, tokens: torch.Tensor, in_sentence: torch.Tensor) -> torch.Tensor:
        """whole (n, sentences, 2 × hidden_size), tokens (n, length, hidden_size + embedding_size), in_sentence 0 or 1
        (n, sentences, length) → logits (n, sentences, labels)."""
        tokens = self.dropout(tokens)
        outside = (1 - in_sentence).unsqueeze(3) * OUTSIDE
        shares = (self.attention(tokens).unsqueeze(1) + outside).softmax(dim=2)
        logits: torch.Tensor = self.whole(self.dropout(whole)) + (shares * self.found(tokens).unsqueeze(1)).sum(dim=2)
        return logits


class TaggerModel(nn.Module):
    """One pass of the encoder for all sentences of a window and all tasks.

    The heads see of each sentence the separator behind it beside the mean over its tokens, and the tokens themselves.

    Args:
        encoder: Any model whose output has `last_hidden_state`.
        output_sizes: Task id → number of labels.
        dropout: In the heads.
    """

    def __init__(self, encoder: PreTrainedModel, output_sizes: Mapping[str, int], dropout: float = 0.0):
        super().__init__()
        self.encoder = encoder
        word_embeddings: Any = encoder.get_input_embeddings()
        embedding_size = word_embeddings.weight.shape[1]
        self.embedding_norm = nn.LayerNorm(embedding_size)
        hidden_size = encoder.config.hidden_size
        self.heads = nn.ModuleList(Head(hidden_size, embedding_size, size, dropout) for size in output_sizes.values())
        self._tasks = list(output_sizes)
        self._takes_types = "token_type_ids" in inspect.signature(encoder.forward).parameters

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        starts: torch.Tensor,
        ends: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Inputs as `encoding.pad` makes them → task id → logits (n, sentences, n_labels)."""
        types = {"token_type_ids": token_type_ids} if self._takes_types else {}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        inside = (places >= starts.unsqueeze(2)) & (places < ends.unsqueeze(2))
        in_sentence = inside.to(hidden.dtype)
        mean = in_sentence @ hidden / in_sentence.sum(dim=2, keepdim=True).clamp(min=1)
        separators = hidden.gather(1, ends.unsqueeze(2).expand(-1, -1, hidden.shape[2]))
        words = self.embedding_norm(self.encoder.get_input_embeddings()(input_ids))
        tokens = torch.cat([hidden, words.to(hidden.dtype)], dim=2)
        whole = torch.cat([separators, mean], dim=2)
        return {task: head(whole, tokens, in_sentence) for task, head in zip(self._tasks, self.heads, strict=True)}

    def start_from_frequencies(self, labels: Mapping[str, np.ndarray], kinds: Mapping[str, str]) -> None:
        """Set the heads' biases so that an untrained network gives each label its frequency (Lin et al. 2017, section 4.1);
        otherwise the first epoch goes into learning that most labels are rare.

        Args:
            labels: Task id → float32 (n, n_labels) label vectors of the training sentences; rows of -1 are not annotated.
            kinds: Task id → multi_label or single_label.
        """
        for task, head in zip(self._tasks, self.heads, strict=True):
            annotated = labels[task][labels[task][:, 0] != NOT_ANNOTATED]
            frequency = (annotated.sum(axis=0) + 1) / (len(annotated) + 2)
            odds = frequency / (1 - frequency) if kinds[task] == "multi_label" else frequency
            with torch.no_grad():
                head.get_parameter("whole.bias").copy_(torch.from_numpy(np.log(odds)))


class TorchBackend:
    """The network in PyTorch: the reference that exported graphs are compared with, and the one for GPUs."""

    streams = 1

    def __init__(self, model: TaggerModel, device: str = "cpu"):
        self._model = model.to(device).eval()
        self._device = device
        self.name = f"torch {torch.__version__} {device} fp32"

    def logits(self, inputs: Mapping[str, np.ndarray]) -> Logits:
        """See `policy_tagger.inference.backends.Backend.logits`."""
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
            return {task: logits.float().cpu().numpy() for task, logits in self._model(**tensors).items()}


class TaskLoss:
    """The loss of one task, averaged over the sentences that are annotated for it.

    Args:
        kind: multi_label (binary cross-entropy) or single_label (cross-entropy).
        label_weights: float32 (n_labels,): positive weights for multi_label, class weights for single_label.
        weight: Factor of the task in the sum.
    """

    def __init__(self, kind: str, label_weights: torch.Tensor, weight: float):
        self._kind, self._label_weights, self._weight = kind, label_weights, weight

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits and label vectors (or probabilities of a teacher), both (…, n_labels) → scalar; 0 where no sentence is annotated."""
        annotated = labels[..., 0] != NOT_ANNOTATED
        logits, labels = logits.float()[annotated], labels[annotated]
        if not len(labels):
            return logits.sum() * 0.0
        weights = self._label_weights.to(logits.device)
        if self._kind == "multi_label":
            loss = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
        else:
            loss = functional.cross_entropy(logits, labels, weight=weights)
        return self._weight * loss


def label_weights(labels: np.ndarray, kind: str, balance: float) -> torch.Tensor:
    """Weights from label frequencies, to the power `balance` (0: all 1; 1: inverse frequency).

    Args:
        labels: float32 (n, n_labels) label vectors of the training sentences that are annotated for the task.
    """
    positives = np.maximum(labels.sum(axis=0), 1.0)
    if kind == "multi_label":
        ratio = np.maximum(len(labels) - positives, 1.0) / positives
    else:
        ratio = len(labels) / (labels.shape[1] * positives)
    return torch.tensor(ratio**balance, dtype=torch.float32)


def load_encoder(source: str, dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    """An encoder and its tokenizer from a folder or the Hub; weights as safetensors, no remote code.

    Raises:
        InputError: neither a folder nor a model that the Hub could give, or not an encoder with a fast tokenizer.
    """
    try:
        config = AutoConfig.from_pretrained(source)
        for field in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if hasattr(config, field):
                setattr(config, field, dropout)
        options = {"add_pooling_layer": False} if config.model_type in _WITH_POOLER else {}
        encoder = AutoModel.from_pretrained(source, config=config, use_safetensors=True, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
    except (OSError, ValueError, SafetensorError) as error:
        kind = "folder" if Path(source).exists() else "model that the Hub could give"
        raise InputError(
            f"encoder.model: {source} is not a {kind} with config.json, model.safetensors and tokenizer.json "
            f"({str(error).splitlines()[0]}). Offline, train with the embedded encoder: policy-tagger train small."
        ) from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise InputError(
            f"encoder.model: {source} has no fast tokenizer (tokenizer.json). Choose an encoder that has one."
        )
    return encoder, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder of a config's shape with random weights, to load a checkpoint's weights into."""
    options = {"add_pooling_layer": False} if config.model_type in _WITH_POOLER else {}
    return AutoModel.from_config(config, **options)


_WITH_POOLER = ("bert", "roberta", "xlm-roberta", "camembert")  # their pooler is not used and would be dead weight
