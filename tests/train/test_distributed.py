"""Several devices through torchrun; here two processes on the CPU."""

import subprocess
import sys
from pathlib import Path

import pytest

from policy_tagger.inference.tagger import PolicyTagger
from tests.conftest import TINY_SENTENCES


@pytest.mark.slow
def test_two_processes_write_one_checkpoint(tiny_config: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517"]
    command += ["-m", "policy_tagger.inference.cli", "train", str(tiny_config), "--set", f"output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Finished:") == 1
    found = PolicyTagger.from_pretrained(tmp_path / "out").predict([text for _, text, _, _ in TINY_SENTENCES])
    assert sum(s.labels["voice"] == voice for s, (*_, voice) in zip(found, TINY_SENTENCES, strict=True)) >= 6
