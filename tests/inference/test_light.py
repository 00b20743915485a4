"""Prediction needs nothing of the training extra; the help is there at once."""

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "transformers", "datasets", "sklearn", "scipy", "pandas", "evaluate", "accelerate", "matplotlib"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running `code`."""
    script = f"import sys\n{code}\nprint('MODULES', *{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_predict_loads_nothing_heavy(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("정부는 수출을 돕겠다고 밝혔다.", encoding="utf-8")
    arguments = ["predict", "-m", str(tiny_checkpoint), str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.parquet")]
    loaded = modules_after(f"from policy_tagger.inference.cli import main\nassert main({arguments}) == 0")
    assert "openvino" in loaded
    assert not loaded & (HEAVY - {"pandas"})  # pyarrow looks for pandas and takes it where it is installed


def test_public_names_load_nothing_heavy() -> None:
    assert not modules_after("from policy_tagger.inference import Codebook, PolicyTagger, TaggedSentence") & HEAVY


def test_check_needs_no_torch(tiny_data: Path, tiny_codebook: Path) -> None:
    arguments = ["check", str(tiny_data), "--codebook", str(tiny_codebook)]
    loaded = modules_after(f"from policy_tagger.inference.cli import main\nmain({arguments})")
    assert not loaded & HEAVY


def test_help_loads_no_third_party_module() -> None:
    code = "from policy_tagger.inference.cli import build_parser\nbuild_parser().format_help()"
    assert not modules_after(code) & {*HEAVY, "numpy", "pydantic", "openvino", "pyarrow", "tokenizers", "rich", "yaml"}


def test_inference_never_names_train() -> None:
    for path in (Path(__file__).parents[2] / "inference").glob("*.py"):
        assert "policy_tagger.train" not in path.read_text(encoding="utf-8"), path.name
