"""The `policy-tagger` command: arguments → one call → what to print."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from typing import Any

from policy_tagger.inference.errors import InputError

TRAIN_EXTRA = (
    "accelerate",
    "datasets",
    "evaluate",
    "matplotlib",
    "nncf",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
)
EXIT_OK, EXIT_GATE_MISSED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a required minimum was missed, 2 usage or input."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a CP949 console cannot show every sign of a message
    try:
        options = build_parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except InputError as error:
        for problem in error.problems:
            print(f"policy-tagger: error: {problem}", file=sys.stderr)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = "ray" if package == "ray" else "train" if package in TRAIN_EXTRA else None
        if extra is None:
            raise
        print(
            f"policy-tagger: error: this command needs the extra `{extra}` ({error.name} is missing). "
            f"Install it with: pip install 'policy-tagger[{extra}]'",
            file=sys.stderr,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print("policy-tagger: interrupted.", file=sys.stderr)
    except OSError as error:
        print(f"policy-tagger: error: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
    return EXIT_BAD_INPUT


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs, those of the training package included."""
    parser = argparse.ArgumentParser(
        prog="policy-tagger",
        description="Tags every sentence of Korean policy and industry reporting with policy themes and the speaker's role.",
    )
    parser.add_argument("--version", action="version", version=f"policy-tagger {version('policy-tagger')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_show(commands)
    for entry in entry_points(group="policy_tagger.commands"):
        entry.load()(commands)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number <= sys.maxsize:
        raise argparse.ArgumentTypeError(f"must be 1 or more. Got {text}")
    return number


def _count(text: str) -> int:
    return _positive(text) if text != "0" else 0


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="tag articles or sentences", description=_predict.__doc__)
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="text, JSONL, CSV, TSV or Parquet files, folders, or -"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="-",
        metavar="OUT",
        help="JSONL, CSV, TSV or Parquet file, a folder for part files, or - (default)",
    )
    parser.add_argument(
        "-m", "--model", default="default", help="checkpoint folder or Hub id (default: the embedded model)"
    )
    parser.add_argument(
        "--unit",
        choices=("document", "sentence"),
        default="document",
        help="what a table's row holds: a document to be split (default), or one sentence",
    )
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column with the text (default: text)")
    parser.add_argument("--input-format", choices=("text", "jsonl", "csv", "tsv", "parquet"), help="of standard input")
    parser.add_argument(
        "--output-format",
        choices=("jsonl", "csv", "tsv", "parquet"),
        help="of standard output (default: jsonl) or part files (default: parquet)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with a run that broke off")
    parser.add_argument("--errors", metavar="FILE", help="JSON lines file for copies of the rows with an `error`")
    parser.add_argument("--max-errors", type=_count, metavar="N", help="stop after more rows with an `error` than N")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8"),
        default="auto",
        help="of the network (default: int8 where the checkpoint has it, else fp32)",
    )
    parser.add_argument(
        "--backend",
        choices=("openvino", "torch"),
        default="openvino",
        help="what computes: OpenVINO on the CPU (default), or PyTorch, on the GPU where there is one",
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine (default), or a Ray cluster"
    )
    parser.add_argument("--num-workers", type=_positive, default=2, metavar="N", help="of --engine ray (default: 2)")
    parser.add_argument("--address", help="of a running Ray cluster (default: start one on this machine)")
    parser.set_defaults(command=_predict)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="print predictions as a table", description=_show.__doc__)
    parser.add_argument("predictions", metavar="PREDICTIONS", help="a file that `predict` wrote")
    parser.add_argument("-n", "--rows", type=_positive, default=40, help="rows to print (default: 40)")
    parser.add_argument("--codebook", default="policy", help="where the labels' names come from (default: policy)")
    parser.add_argument("--language", choices=("ko", "en"), default="ko", help="of the labels' names (default: ko)")
    parser.set_defaults(command=_show)


def _predict(options: argparse.Namespace) -> int:
    """Tag every sentence; one row a sentence, in input order."""
    from policy_tagger.inference.batch import PredictOptions, predict_files
    from policy_tagger.inference.cluster import predict_on_cluster
    from policy_tagger.inference.progress import sentence_counter
    from policy_tagger.inference.sentences import SentenceSplitter
    from policy_tagger.inference.tagger import PolicyTagger

    settings = PredictOptions(
        inputs=options.inputs,
        output=options.output,
        unit=options.unit,
        text_column=options.text_column,
        input_format=options.input_format,
        output_format=options.output_format,
        resume=options.resume,
        errors=options.errors,
        max_errors=options.max_errors,
    )
    if options.unit == "document" and options.engine == "local":
        SentenceSplitter.load_in_background()
    tagger = PolicyTagger.from_pretrained(options.model, options.precision, options.backend)
    with sentence_counter() as report:
        if options.engine == "ray":
            summary = predict_on_cluster(
                tagger, options.precision, settings, options.num_workers, options.address, report
            )
        else:
            summary = predict_files(tagger, settings, report)
    print(
        f"Tagged {summary.sentences:,} sentences in {summary.documents:,} document{'s' * (summary.documents != 1)} with {tagger.checkpoint.model_id}"
        + (f"; {summary.truncated:,} too long for the model and truncated" if summary.truncated else "")
        + (f"; {summary.errors:,} rows with an `error`" if summary.errors else "")
        + (f". Output: {options.output}" if options.output != "-" else "."),
        file=sys.stderr,
    )
    return EXIT_OK


def _show(options: argparse.Namespace) -> int:
    """Print the first rows of a prediction file as a readable table."""
    from policy_tagger.inference.codebook import Codebook
    from policy_tagger.inference.show import print_predictions

    print_predictions(options.predictions, Codebook.load(options.codebook), options.rows, options.language)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
