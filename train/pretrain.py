"""A Korean BERT encoder from raw text: masked language modelling in slices that resume exactly."""

import math
import signal
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import read_json, write_json
from policy_tagger.inference.schema import Schema
from policy_tagger.train.corpus import (
    PAD,
    PackedCorpus,
    mask_words,
    ppmi_embeddings,
    read_texts,
    train_tokenizer,
    write_shard,
)

EASY_LENGTH = 32  # tokens


class SourceConfig(Schema):
    files: str
    """File pattern below `corpus.folder`; JSON lines with a `text`, plain or .xz."""
    repeats: Annotated[int, Field(ge=1)] = 1
    """How often an epoch shows this source; above 1 gives it more weight."""


class CorpusConfig(Schema):
    folder: str
    """Folder with the raw text."""
    sources: dict[str, SourceConfig]
    """Name of each source → its files."""


class TokenizerConfig(Schema):
    vocab_size: Annotated[int, Field(ge=1000, le=65536)]
    """Word pieces, special tokens included."""
    characters_a_source: Annotated[int, Field(ge=1000)]
    """How many characters of each source the tokenizer is trained on."""


class EncoderShape(Schema):
    layers: Annotated[int, Field(ge=1)]
    """Transformer layers."""
    hidden_size: Annotated[int, Field(ge=8)]
    """Width of the token vectors."""
    heads: Annotated[int, Field(ge=1)]
    """Attention heads in a layer."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Longest input the encoder will accept, in tokens."""


class PretrainingConfig(Schema):
    total_tokens: Annotated[int, Field(ge=1)]
    """Tokens to see before the run is done."""
    sequence_length: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    """Tokens in a packed sequence."""
    batch_sequences: Annotated[int, Field(ge=1)]
    """Sequences in a step."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Peak of the schedule: linear warm-up, constant, linear decay to zero."""
    warmup_tokens: Annotated[int, Field(ge=0)]
    """Tokens over which the learning rate rises."""
    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of `total_tokens` at the end over which the learning rate falls to zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Expected share of words (or tokens) to predict."""
    easy_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens at the start with an easier task, which shortens the first plateau: sequences of 32, single tokens masked."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Arithmetic of the matrix products; weights are fp32 throughout."""
    embedding_tokens: Annotated[int, Field(ge=0)] = 20_000_000
    """Tokens whose counts initialise word embeddings and output biases; 0 for random embeddings."""
    save_minutes: Annotated[float, Field(gt=0)] = 5.0
    """Minutes between saved states."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of order, masks and initial weights."""


class PretrainConfig(Schema):
    """One pretraining run."""

    output: str
    """Folder for shards, state and, at the end, `encoder/`."""
    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    encoder: EncoderShape
    pretraining: PretrainingConfig


class MaskedLanguageModel(nn.Module):
    """BERT encoder with a tied masked-token head that is computed at the chosen positions only."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.transform = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size), nn.GELU(), nn.LayerNorm(config.hidden_size, eps=1e-12)
        )
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        positions = self.encoder.embeddings.position_embeddings.weight
        with torch.no_grad():
            positions.copy_(sinusoidal_positions(*positions.shape))

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Inputs of shape (n, length), chosen bool → logits (number of chosen positions, vocab_size)."""
        hidden = self.encoder(input_ids, position_ids=position_ids).last_hidden_state[chosen]
        return functional.linear(self.transform(hidden), self.encoder.embeddings.word_embeddings.weight, self.bias)


def sinusoidal_positions(count: int, width: int) -> torch.Tensor:
    """Where the position embeddings start from (Vaswani et al. 2017): an offset looks the same wherever it occurs, so that
    attention to neighbours is learnt once and not for each position; (count, width), standard deviation 0.04.
    """
    frequencies = 1000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * frequencies
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).reshape(count, -1)[:, :width]
    waves = waves - waves.mean(dim=0)
    return waves * (0.04 / waves.std())


def learning_rate(config: PretrainingConfig, tokens: int) -> float:
    """Warm-up, constant, decay to zero, as a function of the tokens seen."""
    decay_tokens = config.decay_fraction * config.total_tokens
    rising = tokens / config.warmup_tokens if config.warmup_tokens else 1.0
    falling = (config.total_tokens - tokens) / decay_tokens if decay_tokens else 1.0
    return config.learning_rate * max(0.0, min(1.0, rising, falling))


def pretrain(config: PretrainConfig, minutes: float | None = None) -> Path:
    """Run (or go on with) pretraining.

    Every random choice depends on the seed and the step alone, so a run in slices equals one in one piece.

    Args:
        minutes: Stop after this many, with the state saved; None to run to the end.

    Returns:
        The encoder's folder, complete only when all tokens have been seen.

    Raises:
        InputError: no text where the config says, or another run's state in `output`.
    """
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    _require_same_run(folder, config)
    tokenizer, corpus = prepare(config)
    settings = config.pretraining
    tokens_a_step = settings.batch_sequences * settings.sequence_length
    last_step = math.ceil(settings.total_tokens / tokens_a_step)
    decay_start = math.floor((1 - settings.decay_fraction) * settings.total_tokens / tokens_a_step)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    model = MaskedLanguageModel(bert_config(config, tokenizer)).to(device).train()
    optimizer = adamw(model, settings)
    step = _restore(folder, model, optimizer, decay_start)
    if step == 0 and settings.embedding_tokens:
        _initialise_from_counts(model, config, corpus)

    is_continuation = np.array(
        [(tokenizer.id_to_token(i) or "").startswith("##") for i in range(tokenizer.get_vocab_size())]
    )
    started = saved = reported = time.monotonic()
    first_step, losses, hits = step, [], []
    with _Interruption() as interrupted:
        while step < last_step and not interrupted.asked:
            ids = corpus.batch(step, settings.batch_sequences)
            positions = np.broadcast_to(np.arange(settings.sequence_length), ids.shape)
            easy = step * tokens_a_step < settings.easy_tokens
            if easy:  # each piece keeps its positions, so that all of them are learnt
                ids, positions = ids.reshape(-1, EASY_LENGTH), positions.reshape(-1, EASY_LENGTH)
            rng = np.random.default_rng((settings.seed, 1, step))
            inputs, chosen = mask_words(ids, is_continuation & (not easy), settings.mask_rate, rng)
            labels = torch.from_numpy(ids[chosen]).to(device)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step * tokens_a_step)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
                logits = model(*(torch.tensor(array, device=device) for array in (inputs, positions, chosen)))
            loss = functional.cross_entropy(logits.float(), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            losses.append(loss.detach())
            hits.append((logits.detach().argmax(-1) == labels).float().mean())
            now = time.monotonic()
            if now - reported > 30 or step == last_step:
                rate = (step - first_step) * tokens_a_step / (now - started)
                left = (last_step - step) * tokens_a_step / rate / 60
                print(
                    f"{step * tokens_a_step / 1e6:.2f}M of {last_step * tokens_a_step / 1e6:.1f}M tokens · {rate:,.0f} tokens/s · "
                    f"loss {torch.stack(losses).mean():.3f} · masked accuracy {torch.stack(hits).mean():.3f} · "
                    f"{left:.0f} min left",
                    flush=True,
                )
                reported, losses, hits = now, [], []
            if step == decay_start:
                _save(folder, "before-decay", step, model, optimizer, decay_start)
            if now - saved > settings.save_minutes * 60:
                _save(folder, "state", step, model, optimizer, decay_start)
                saved = now
            if minutes is not None and now - started > minutes * 60:
                break
    _save(folder, "state", step, model, optimizer, decay_start)
    if step == last_step:
        write_encoder(folder / "encoder", model.encoder, tokenizer, config, step * tokens_a_step)
    return folder / "encoder"


def prepare(config: PretrainConfig) -> tuple[Tokenizer, PackedCorpus]:
    """The tokenizer and the packed corpus; made on the first call, read from `output` afterwards.

    Raises:
        InputError: no file of a source is found.
    """
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    text_folder = Path(config.corpus.folder)
    tokenizer_path = folder / "tokenizer.json"
    if not tokenizer_path.exists():
        samples = [read_texts(source.files, text_folder) for source in config.corpus.sources.values()]
        tokenizer = train_tokenizer(samples, config.tokenizer.vocab_size, config.tokenizer.characters_a_source)
        tokenizer.save(str(tokenizer_path))
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    shards = []
    for name, source in config.corpus.sources.items():
        path = folder / f"{name}.tokens"
        if not path.exists():
            tokens = write_shard(read_texts(source.files, text_folder), tokenizer, path)
            print(f"{name}: {tokens / 1e6:.1f}M tokens, shown {source.repeats}× an epoch", flush=True)
        shards.append((path, source.repeats))
    return tokenizer, PackedCorpus(shards, config.pretraining.sequence_length, config.pretraining.seed)


def write_encoder(
    folder: Path, encoder: BertModel, tokenizer: Tokenizer, config: PretrainConfig, tokens_seen: int
) -> None:
    """Write the encoder as `transformers.AutoModel` and `AutoTokenizer` read it, with `pretraining.json` beside it."""
    transformers_logging.set_verbosity_error()
    encoder.cpu().half().save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=config.encoder.max_length,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    record = {"tokens_seen": tokens_seen, "config": config.model_dump(exclude={"output": True, "corpus": {"folder"}})}
    write_json(folder / "pretraining.json", record)


class _Interruption:
    """Inside it, SIGINT and SIGTERM only ask for a stop after the current step."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "_Interruption":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        self.asked = True


def bert_config(config: PretrainConfig, tokenizer: Tokenizer) -> BertConfig:
    """The network's shape.

    Raises:
        InputError: the width is no multiple of the number of attention heads.
    """
    shape = config.encoder
    if shape.hidden_size % shape.heads:
        raise InputError(
            f"encoder.hidden_size must be a multiple of encoder.heads. Got {shape.hidden_size} and {shape.heads}."
        )
    return BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden_size,
        max_position_embeddings=shape.max_length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
    )


def adamw(model: nn.Module, settings: PretrainingConfig) -> torch.optim.AdamW:
    """AdamW without decay of biases and norms; its second moment forgets faster than usual (RoBERTa, Liu et al. 2019)."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _initialise_from_counts(model: MaskedLanguageModel, config: PretrainConfig, corpus: PackedCorpus) -> None:
    """Word embeddings from co-occurrences and output biases from frequencies, instead of learning both from nothing."""
    started = time.monotonic()
    sample = corpus.sample(config.pretraining.embedding_tokens)
    vocab_size = len(model.bias)
    vectors = ppmi_embeddings(sample, vocab_size, config.encoder.hidden_size, config.pretraining.seed)
    frequencies = np.bincount(sample.ravel(), minlength=vocab_size) + 1.0
    with torch.no_grad():
        model.encoder.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors))
        model.bias.copy_(torch.from_numpy(np.log(frequencies / frequencies.sum())))
    print(f"initial embeddings from {sample.size / 1e6:.1f}M tokens in {time.monotonic() - started:.0f} s", flush=True)


def _save(
    folder: Path, name: str, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, decay_start: int
) -> None:
    """Weights, moments and step in one file, put in place atomically."""
    names: dict[torch.Tensor, str] = {weight: key for key, weight in model.named_parameters()}
    tensors = {f"model.{key}": weight.detach().contiguous() for key, weight in model.named_parameters()}
    for weight, moments in optimizer.state.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{names[weight]}"] = moments[moment].contiguous()
    unfinished = folder / f"{name}.unfinished"
    save_file(tensors, unfinished, metadata={"step": str(step), "decay_start": str(decay_start)})
    unfinished.replace(folder / f"{name}.safetensors")


def _restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, decay_start: int) -> int:
    """Load the last saved state into model and optimizer; returns its step, 0 where there is none.

    A run that has reached the decay of an earlier, smaller `total_tokens` goes on from before that decay.
    """
    path, before_decay = folder / "state.safetensors", folder / "before-decay.safetensors"
    if not path.exists():
        return 0
    step, its_decay_start = _progress(path)
    if its_decay_start < min(step, decay_start) and before_decay.exists():
        path, (step, _) = before_decay, _progress(before_decay)
    tensors = load_file(path)
    for key, weight in model.named_parameters():
        with torch.no_grad():
            weight.copy_(tensors[f"model.{key}"])
        optimizer.state[weight] = {
            "step": torch.tensor(float(step), device=weight.device),
            "exp_avg": tensors[f"exp_avg.{key}"].to(weight.device, copy=True),
            "exp_avg_sq": tensors[f"exp_avg_sq.{key}"].to(weight.device, copy=True),
        }
    return step


def _progress(path: Path) -> tuple[int, int]:
    """The step a state was saved at, and the step at which its run was to begin the decay."""
    with safe_open(path, framework="pt") as state:
        return int(state.metadata()["step"]), int(state.metadata()["decay_start"])


def _require_same_run(folder: Path, config: PretrainConfig) -> None:
    """A state goes on only under what it began with; lengthening the run, where it lies and the
    arithmetic of the machine at hand may change.

    Raises:
        InputError: naming what changed.
    """
    free: Any = {
        "output": True,
        "corpus": {"folder"},
        "pretraining": {"total_tokens", "decay_fraction", "save_minutes", "precision"},
    }
    now = config.model_dump(exclude=free)
    path = folder / "inputs.json"
    if not path.exists():
        write_json(path, now)
        return
    before = read_json(path)
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed since the run in {folder} began. Restore it, or choose another output."
        )
