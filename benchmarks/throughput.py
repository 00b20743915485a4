"""How fast `predict` is beside what a user would write first, on this machine, as Markdown.

Run: python benchmarks/throughput.py [--rounds 3] [--seconds 20] [--growth 1000,10000,100000] [-o FOLDER for growth.png].
Every contestant works in a process of its own, in turns, on the same sentences of the shipped corpus; a process says how long it took to
load, then tags for about `--seconds`. Random weights do for speed. ONNX Runtime, CTranslate2 and the pipeline take single sentences, ours
takes windows, which is what it always does. The outputs of contestants with the same network are compared before anything is printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from policy_tagger.inference.checkpoint import MODELS_FOLDER

NETWORKS = {
    "klue/bert-base shape": (12, 768, 12),
    "default": None,
}  # layers, width, heads; None: the shipped checkpoint
CONTESTANTS = {
    "pipeline, batch 1": "classifier",
    "pipeline, batch 32": "classifier",
    "PyTorch, sorted batches": "classifier",
    "ONNX Runtime int8, sorted batches": "classifier",
    "CTranslate2 int8, sorted batches": "classifier",
    "ours, fp32": "tagger",
    "ours, bf16": "tagger",
    "ours, int8": "tagger",
}
SAMPLE = 64  # sentences whose outputs are compared
BATCH_TOKENS = 4096


def documents() -> list[list[str]]:
    """The test articles, as lists of sentences."""
    found: dict[str, list[str]] = {}
    for line in Path("data/corpus/test.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["document_id"], []).append(row["text"])
    return list(found.values())


# --- networks, written once -----------------------------------------------------------------------------------------------------


def write_networks(shape: tuple[int, int, int], folder: Path) -> None:
    """A classifier for the other tools and a tagger for ours, of one shape, with random weights."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    from policy_tagger.inference.checkpoint import write_manifest
    from policy_tagger.inference.codebook import Codebook
    from policy_tagger.inference.decision import Decision
    from policy_tagger.inference.encoding import EncodingSettings, SentenceEncoding
    from policy_tagger.train.export import round_to_half, write_checkpoint
    from policy_tagger.train.model import TaggerModel
    from policy_tagger.train.quantise import write_int8_graph

    layers, width, heads = shape
    tokenizer_file = MODELS_FOLDER / "encoder" / "tokenizer.json"
    codebook = Codebook.load("policy")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32_000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=sum(codebook.output_sizes.values()),
        position_embedding_type="absolute",  # CTranslate2's converter asks for it
    )
    BertForSequenceClassification(config).save_pretrained(folder / "classifier")
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder / "classifier")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    encoding = SentenceEncoding(tokenizer, EncodingSettings(), 2)
    model = TaggerModel(BertModel(config, add_pooling_layer=False), codebook.output_sizes)
    round_to_half(model)
    windows = encoding.encode_documents(documents())
    write_checkpoint(
        folder / "tagger", model, tokenizer, codebook, Decision.neutral(codebook), encoding, windows[:SAMPLE]
    )
    write_int8_graph(folder / "tagger", windows, encoding.pad_id)
    write_manifest(folder / "tagger")


# --- contestants: loaded in a process of their own, they give a function from sentences to outputs ------------------------------


def load(name: str, folder: Path) -> Callable[[list[list[str]]], np.ndarray]:
    """What tags documents: lists of sentences → float (sentences, labels)."""
    if name.startswith("ours"):
        return _ours(name.partition(", ")[2], folder / "tagger")
    return {
        "pipeline, batch 1": lambda f: _pipeline(f, 1),
        "pipeline, batch 32": lambda f: _pipeline(f, 32),
        "PyTorch, sorted batches": _torch,
        "ONNX Runtime int8, sorted batches": _onnxruntime,
        "CTranslate2 int8, sorted batches": _ctranslate2,
    }[name](folder / "classifier")


def _ours(precision: Any, checkpoint: Path) -> Callable[[list[list[str]]], np.ndarray]:
    from policy_tagger.inference.tagger import PolicyTagger

    tagger = PolicyTagger.from_pretrained(checkpoint, precision)

    def tag(given: list[list[str]]) -> np.ndarray:
        values = tagger.probabilities(tagger.encoding.encode_documents(given))
        return np.concatenate(list(values.values()), axis=1)

    return tag


def _pipeline(folder: Path, batch_size: int) -> Callable[[list[list[str]]], np.ndarray]:
    from transformers import pipeline

    run = pipeline(
        "text-classification", model=str(folder), batch_size=batch_size, top_k=None, function_to_apply="none"
    )
    label_of = run.model.config.label2id

    def tag(given: list[list[str]]) -> np.ndarray:
        found = run([text for document in given for text in document])
        out = np.zeros((len(found), len(label_of)))
        for row, scores in enumerate(found):
            for one in scores:
                out[row, label_of[one["label"]]] = one["score"]
        return out

    return tag


def _in_sorted_batches(
    folder: Path, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Callable[[list[list[str]]], np.ndarray]:
    """Tokenise, sort by length, compute ids and mask in batches of BATCH_TOKENS, restore the order."""
    from tokenizers import Tokenizer

    from policy_tagger.inference.tagger import token_batches

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def tag(given: list[list[str]]) -> np.ndarray:
        encoded = [e.ids for e in tokenizer.encode_batch([text for document in given for text in document])]
        out: list[Any] = [None] * len(encoded)
        for rows in token_batches(np.array([len(ids) for ids in encoded]), BATCH_TOKENS):
            ids = np.zeros((len(rows), len(encoded[rows[0]])), dtype=np.int64)
            mask = np.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : len(encoded[row])], mask[i, : len(encoded[row])] = encoded[row], 1
            for row, values in zip(rows, compute(ids, mask), strict=True):
                out[row] = values
        return np.stack(out)

    return tag


def _torch(folder: Path) -> Callable[[list[list[str]]], np.ndarray]:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def compute(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()

    return _in_sorted_batches(folder, compute)


def _onnxruntime(folder: Path) -> Callable[[list[list[str]]], np.ndarray]:
    import onnxruntime
    import torch
    from onnxruntime.quantization import quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    quantised = folder / "int8.onnx"
    if not quantised.exists():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        example = torch.ones((2, 8), dtype=torch.int64)
        axes = {name: {0: "rows", 1: "length"} for name in ("input_ids", "attention_mask")}
        torch.onnx.export(
            model,
            (example, example),
            str(folder / "fp32.onnx"),
            input_names=list(axes),
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
        quantize_dynamic(folder / "fp32.onnx", quantised)
    session = onnxruntime.InferenceSession(quantised)
    return _in_sorted_batches(
        folder, lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    )


def _ctranslate2(folder: Path) -> Callable[[list[list[str]]], np.ndarray]:
    import ctranslate2
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoModelForSequenceClassification

    converted = folder / "ctranslate2"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    if not converted.exists():
        encoder = folder / "encoder"
        model.bert.save_pretrained(encoder)
        TransformersConverter(str(encoder)).convert(str(converted), quantization="int8")
    encoder = ctranslate2.Encoder(str(converted), intra_threads=os.cpu_count())

    def compute(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        lengths = mask.sum(axis=1).astype(np.int32)
        output = encoder.forward_batch(
            ctranslate2.StorageView.from_array(ids.astype(np.int32)), ctranslate2.StorageView.from_array(lengths)
        )
        with torch.inference_mode():
            pooled = torch.from_numpy(np.asarray(output.pooler_output))
            return model.classifier(pooled).numpy()

    return _in_sorted_batches(folder, compute)


def peak_memory() -> float:
    """MB that this process held at most; getrusage would count those of the process it came from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def contest(name: str, folder: Path, seconds: float) -> None:
    """Run one contestant in this process and print what it took, as JSON."""
    given = documents()
    started = time.perf_counter()
    tag = load(name, folder)
    loaded = time.perf_counter()
    sample = tag([[text] for document in given for text in document][:SAMPLE])
    np.save(folder / f"{name}.npy", sample)
    sentences, started_tagging, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started_tagging < seconds:
        for start in range(0, len(given), 4):  # a slow contestant need not see all documents
            if time.perf_counter() - started_tagging > seconds:
                break
            group = given[start : start + 4] if name.startswith("pipeline") else given
            tag(group)
            sentences += sum(map(len, group))
            if group is given:
                break
    spent = time.perf_counter() - started_tagging
    print(
        json.dumps(
            {
                "rate": sentences / spent,
                "load": loaded - started,
                "cpu": (time.process_time() - cpu) / sentences * 1000,
                "rss": peak_memory(),
            }
        )
    )


# --- the parent: turns, comparison, tables --------------------------------------------------------------------------------------


def compete(folder: Path, names: Iterable[str], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Contestant → medians over the rounds; those that cannot run here are named on standard error and left out."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in list(runs):
            command = [
                sys.executable,
                __file__,
                "--contestant",
                name,
                "--folder",
                str(folder),
                "--seconds",
                str(seconds),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name}: left out ({(done.stderr.strip().splitlines() or ['?'])[-1][:200]})", file=sys.stderr)
                del runs[name]
            else:
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: float(np.median([run[key] for run in found])) for key in found[0]} for name, found in runs.items()
    }


def largest_difference(folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Contestant → largest difference of an output from that of the first one with the same network."""
    first: dict[str, np.ndarray] = {}
    found = {}
    for name in names:
        values = np.load(folder / f"{name}.npy")
        found[name] = float(np.abs(values - first.setdefault(CONTESTANTS[name], values)).max())
    return found


def gemm_peak() -> float:
    """FLOP/s of a large matrix product on all cores: what the network could reach at best in fp32."""
    import torch

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


def flops_a_sentence(folder: Path) -> float:
    """Of ours: the matrix products of the encoder over a window's tokens, per sentence."""
    from policy_tagger.inference.tagger import PolicyTagger

    tagger = PolicyTagger.from_pretrained(folder / "tagger", "fp32")
    config = json.loads((folder / "tagger" / "config.json").read_text(encoding="utf-8"))
    layers, width, inner = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    windows = tagger.encoding.encode_documents(documents())
    lengths = np.array([len(window.input_ids) for window in windows], dtype=np.float64)
    products = layers * (lengths * (8 * width**2 + 4 * width * inner) + 4 * width * lengths**2)
    return float(products.sum() / sum(len(window.starts) for window in windows))


def table(title: str, folder: Path, rounds: int, seconds: float, reference: float | None) -> float:
    """Print one network's table; returns the rate of the pipeline with batch 32 (or the reference given)."""
    names = [name for name, kind in CONTESTANTS.items() if (folder / kind).exists()]
    found = compete(folder, names, rounds, seconds)
    differences = largest_difference(folder, found)
    reference = reference or found["pipeline, batch 32"]["rate"]
    peak, flops = gemm_peak(), flops_a_sentence(folder)
    print(f"\n**{title}**\n")
    print(
        "| | sentences/s | against the pipeline | CPU s per 1,000 | peak MB | load s | of GEMM peak | largest difference |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, values in found.items():
        share = f"{values['rate'] * flops / peak:.0%}" if name.startswith("ours") else ""
        print(
            f"| {name} | {values['rate']:,.1f} | {values['rate'] / reference:.1f}× | {values['cpu']:.2f} | {values['rss']:,.0f} | "
            f"{values['load']:.1f} | {share} | {differences[name]:.1e} |",
            flush=True,
        )
    return reference


def end_to_end(sizes: list[int], picture: Path | None) -> None:
    """`policy-tagger predict` from articles to Parquet: rate, memory, and where the time goes."""
    rows = []
    curves: dict[int, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            path = Path(scratch) / "articles.jsonl"
            write_articles(path, size)
            command = [
                sys.executable,
                "-m",
                "policy_tagger.inference.cli",
                "predict",
                str(path),
                "-o",
                f"{scratch}/out-{size}",
            ]
            started = time.perf_counter()
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            curves[size] = watch(process.pid, started)
            assert process.wait() == 0
            manifest = json.loads(Path(scratch, f"out-{size}", "manifest.json").read_text(encoding="utf-8"))
            spent = time.perf_counter() - started
            rows.append((manifest["sentences"], spent, max(memory for _, memory in curves[size])))
        shares = time_of_stages(path)
    print(
        "\n**From articles to Parquet, default model**\n\n| sentences | seconds | sentences/s | peak MB |\n|---|---|---|---|"
    )
    for count, spent, memory in rows:
        print(f"| {count:,} | {spent:,.1f} | {count / spent:,.0f} | {memory:,.0f} |")
    total = sum(shares.values())
    print(
        "\nOne after the other, the stages take: "
        + ", ".join(f"{name} {s / total:.0%}" for name, s in shares.items())
        + "."
    )
    if picture:
        plot(curves, picture)


def write_articles(path: Path, sentences: int) -> None:
    """Articles of the corpus again and again, each time in another order of its sentences, as JSON lines."""
    rng = np.random.default_rng(0)
    given = documents()
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < sentences:
            for document in given:
                texts = [document[i] for i in rng.permutation(len(document))][: sentences - written]
                written += len(texts)
                if texts:
                    file.write(json.dumps({"text": "\n".join(texts)}, ensure_ascii=False) + "\n")


def watch(pid: int, started: float) -> list[tuple[float, float]]:
    """(seconds, MB) of a process until it ends."""
    import psutil

    found: list[tuple[float, float]] = []
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            found.append((time.perf_counter() - started, process.memory_info().rss / 2**20))
            time.sleep(0.1)
    except psutil.NoSuchProcess:
        pass
    return found


def time_of_stages(path: Path) -> dict[str, float]:
    """Seconds of each stage on some articles, one stage after the other."""
    import io

    from policy_tagger.inference.batch import OutputColumns
    from policy_tagger.inference.documents import Document, Item
    from policy_tagger.inference.tagger import PolicyTagger
    from policy_tagger.inference.writers import open_writer

    tagger = PolicyTagger.from_pretrained()
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()[:200]]
    tagger.split(texts[0])
    seconds = {}
    started = time.perf_counter()
    split = [tagger.split(text) for text in texts]
    seconds["splitting"] = time.perf_counter() - started
    started = time.perf_counter()
    windows = tagger.encoding.encode_documents(split)
    seconds["tokenising"] = time.perf_counter() - started
    started = time.perf_counter()
    values = tagger.probabilities(windows)
    seconds["network"] = time.perf_counter() - started
    started = time.perf_counter()
    sentences = [sentence for document in split for sentence in document]
    found = tagger.label(sentences, windows, values)
    columns = OutputColumns(tagger, {})
    items = [Item(str(n), text, {}) for n, text in enumerate(sentences)]
    writer = open_writer(io.BytesIO(), "parquet", columns.types)
    writer.write(list(columns.rows([Document("d", items)], iter(found))))
    writer.close()
    seconds["writing"] = time.perf_counter() - started
    return seconds


def plot(curves: dict[int, list[tuple[float, float]]], path: Path) -> None:
    """Memory over the share of the run, one line a size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    for size, points in curves.items():
        axes.plot(
            [100 * t / points[-1][0] for t, _ in points], [memory for _, memory in points], label=f"{size:,} sentences"
        )
    axes.axhline(600, color="grey", linestyle=":", label="goal: 600 MB")
    axes.set(xlabel="% of the run", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--growth", default="1000,10000,100000")
    parser.add_argument("-o", "--output", type=Path, help="where memory.png goes")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        return contest(arguments.contestant, arguments.folder, arguments.seconds)
    reference = None
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in NETWORKS.items():
            folder = Path(scratch) / name.replace("/", "-")
            folder.mkdir()
            if shape:
                write_networks(shape, folder)
            else:
                (folder / "tagger").symlink_to(MODELS_FOLDER / "default", target_is_directory=True)
            reference = table(name, folder, arguments.rounds, arguments.seconds, reference)
    sizes = [int(size) for size in arguments.growth.split(",") if size]
    if sizes:
        end_to_end(sizes, arguments.output / "memory.png" if arguments.output else None)


if __name__ == "__main__":
    main()
