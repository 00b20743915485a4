"""Plots of an evaluation; Korean label ids need a Korean font (`fonts-nanum` on Debian), else labels are numbered."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policy_tagger.train.metrics import calibration_bins

if TYPE_CHECKING:
    from policy_tagger.train.evaluation import Evaluation, TaskResult

KOREAN_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
)
BLUE, GREY = "#0072b2", "#999999"  # of Okabe & Ito's colour-blind safe palette


def write_plots(evaluation: "Evaluation", folder: Path) -> list[Path]:
    """Per task: F1 of each label, reliability, and for single-label tasks the confusion; returns the PNG files."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import font_manager, pyplot

    installed = set(font_manager.get_font_names())
    mpl.rcParams["font.family"] = [*(font for font in KOREAN_FONTS if font in installed), "DejaVu Sans"]

    paths = []
    for name, result in evaluation.tasks.items():
        kind = evaluation.codebook.tasks[name].kind
        drawings = {f"{name}_f1": _draw_f1, f"{name}_reliability": _draw_reliability}
        if kind == "single_label":
            drawings[f"{name}_confusion"] = _draw_confusion
        for stem, draw in drawings.items():
            height = 0.3 * len(result.metrics["labels"]) + 1.5
            size = {"f1": (7, height), "confusion": (1.5 * height + 2, 1.3 * height + 1.5), "reliability": (4.5, 4.5)}
            figure, axes = pyplot.subplots(figsize=size[stem.rpartition("_")[2]], layout="constrained")
            draw(axes, result, kind)
            axes.set_title(f"{_drawable([name])[0]} · {evaluation.model_id}", fontsize=9)
            paths.append(folder / f"{stem}.png")
            figure.savefig(paths[-1], dpi=120)
            pyplot.close(figure)
    return paths


def _drawable(names: list[str]) -> list[str]:
    """The names, or their numbers in the codebook's order where no installed font can draw them."""
    from matplotlib import font_manager, rcParams
    from matplotlib.ft2font import FT2Font

    known = {
        sign for family in rcParams["font.family"] for sign in FT2Font(font_manager.findfont(family)).get_charmap()
    }
    drawable = all(ord(sign) in known for name in names for sign in name)
    return names if drawable else [f"#{number}" for number in range(1, len(names) + 1)]


def _draw_f1(axes: Any, result: "TaskResult", kind: str) -> None:
    labels = result.metrics["labels"]
    names = [
        f"{name} ({values['support']})" for name, values in zip(_drawable(list(labels)), labels.values(), strict=True)
    ]
    f1 = [values["f1"] for values in labels.values()]
    axes.barh(names, f1, color=[BLUE if values["support"] else GREY for values in labels.values()])
    for row, value in enumerate(f1):
        axes.text(min(value + 0.01, 0.93), row, f"{value:.2f}", va="center", fontsize=8)
    axes.set(xlim=(0, 1), xlabel="F1 (sentences with the label in brackets)")
    axes.invert_yaxis()


def _draw_reliability(axes: Any, result: "TaskResult", kind: str) -> None:
    bins = calibration_bins(kind, result.probabilities, result.true)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    sizes = 15 + 12 * np.log10([count for *_, count in bins])
    axes.plot([mean for mean, *_ in bins], [share for _, share, _ in bins], color=BLUE, linewidth=1)
    axes.scatter([mean for mean, *_ in bins], [share for _, share, _ in bins], s=sizes, color=BLUE)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean probability", ylabel="share correct", aspect="equal")


def _draw_confusion(axes: Any, result: "TaskResult", kind: str) -> None:
    matrix = np.array(result.metrics["confusion"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = _drawable(list(result.metrics["labels"]))
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="annotated")
    for row, column in zip(*np.nonzero(matrix), strict=True):
        dark = shares[row, column] > 0.5
        axes.text(
            column, row, matrix[row, column], ha="center", va="center", color="white" if dark else "black", fontsize=8
        )
