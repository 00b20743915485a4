"""Masked language modelling against replaced-token detection (ELECTRA, Clark et al. 2020) at equal compute, as Markdown.

Run: python benchmarks/objectives.py RUN --minutes 20 [--set section.field=value of configs/pretrain/small.yaml]. RUN is the output of a
pretraining run whose learning rate has begun to fall. Both objectives go on from its weights before that, for as many minutes of processor
time each; for replaced-token detection the frozen network itself proposes the replacements. Then both encoders are fine-tuned alike on
the sentences that are annotated twice; figures are on validation.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from runs import HEADER, VALIDATION_ONLY, annotated_twice, cells, run
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from policy_tagger.inference.schema import load_yaml
from policy_tagger.train.config import shipped_config
from policy_tagger.train.corpus import mask_words
from policy_tagger.train.pretrain import (
    MaskedLanguageModel,
    PretrainConfig,
    adamw,
    bert_config,
    prepare,
    write_encoder,
)

LEARNING_RATES = {"masked language modelling": 1e-3, "replaced-token detection": 5e-4}
WARM_UP, DECAY = 0.05, 0.5  # shares of the time
UNSEEN = 100_000  # batches from here on were in no run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    overrides = [f"output={arguments.run}", *arguments.set]
    config = load_yaml(shipped_config("pretrain", "small"), PretrainConfig, overrides)
    print(f"| objective | tokens {HEADER}\n|---|---|---|---|---|---|")
    for name in LEARNING_RATES:
        with tempfile.TemporaryDirectory() as scratch:
            tokens = go_on(name, config, arguments.minutes * 60, Path(scratch) / "encoder")
            print(f"| {name} | {tokens / 1e6:.1f}M | {fine_tuned(Path(scratch))} |", flush=True)


def go_on(objective: str, config: PretrainConfig, seconds: float, output: Path) -> int:
    """Train for some seconds of processor time and write the encoder; returns the tokens seen."""
    tokenizer, corpus = prepare(config)
    settings = config.pretraining
    pieces = [tokenizer.id_to_token(i) or "" for i in range(tokenizer.get_vocab_size())]
    is_continuation = np.array([piece.startswith("##") for piece in pieces])
    model, generator = (begun(config, tokenizer) for _ in range(2))
    width = config.encoder.hidden_size
    detector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
    detecting = objective == "replaced-token detection"
    trained = nn.ModuleList([model.encoder, detector]) if detecting else model
    optimizer = adamw(trained, settings)
    positions = torch.arange(settings.sequence_length).expand(settings.batch_sequences, -1)
    tokens = 0
    for step, share in enumerate(shares_of(seconds)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATES[objective] * min(1.0, share / WARM_UP, (1 - share) / DECAY)
        ids = corpus.batch(UNSEEN + step, settings.batch_sequences)
        rng = np.random.default_rng((settings.seed, 1, UNSEEN + step))
        masked, chosen = mask_words(ids, is_continuation, settings.mask_rate, rng)
        inputs, true, at = torch.from_numpy(masked), torch.from_numpy(ids), torch.from_numpy(chosen)
        if detecting:
            with torch.inference_mode():
                proposed = torch.distributions.Categorical(logits=generator(inputs, positions, at)).sample()
            replaced = true.clone()
            replaced[at] = proposed.clone()
            hidden = model.encoder(replaced, position_ids=positions).last_hidden_state
            is_replaced = (replaced != true).float()
            loss = functional.binary_cross_entropy_with_logits(detector(hidden).squeeze(-1), is_replaced)
        else:
            loss = functional.cross_entropy(model(inputs, positions, at), true[at])
        loss.backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += ids.size
    write_encoder(output, model.encoder, tokenizer, config, tokens)
    return tokens


def shares_of(seconds: float) -> Iterator[float]:
    """The share of the processor time that is over, again and again until all of it is."""
    started = time.process_time()
    while (share := (time.process_time() - started) / seconds) < 1:
        yield share


def begun(config: PretrainConfig, tokenizer: Tokenizer) -> MaskedLanguageModel:
    """The network of the run as it was before its learning rate fell."""
    model = MaskedLanguageModel(bert_config(config, tokenizer))
    state = load_file(Path(config.output) / "before-decay.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    model.load_state_dict(weights, strict=False)
    return model


def fine_tuned(work: Path) -> str:
    overrides = [f"encoder.model={work / 'encoder'}", annotated_twice(Path("data/corpus")), VALIDATION_ONLY]
    return cells(run(work / "tagger", overrides)["validation"])


if __name__ == "__main__":
    main()
