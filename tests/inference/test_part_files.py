"""Folders of part files: whole or absent, gone on with after a kill, never mixed with another run."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from policy_tagger.inference import batch, part_files
from policy_tagger.inference.cli import main
from tests.conftest import TINY_SENTENCES

TEXTS = [text for _, text, _, _ in TINY_SENTENCES]
RUN_IN_SMALL_PARTS = """
import sys
from policy_tagger.inference import batch
from policy_tagger.inference.cli import main
batch.PART_ROWS = batch.GROUP_SENTENCES = 4
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "PART_ROWS", 6)
    monkeypatch.setattr(batch, "GROUP_SENTENCES", 4)
    rows = [{"id": i, "text": None if i % 11 == 5 else " ".join(TEXTS[i % 8 :][:2])} for i in range(40)]
    write("in.jsonl", rows)


@pytest.fixture
def predict(tiny_checkpoint: Path) -> Any:
    return lambda *arguments: main(["predict", "-m", str(tiny_checkpoint), *map(str, arguments)])


def write(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def break_off(monkeypatch: pytest.MonkeyPatch, predict: Any, parts: int, *arguments: str) -> None:
    """Run until some parts are there, as if the machine had failed while the next was written."""
    write_rows = part_files.PartFiles.write

    def fail(self: part_files.PartFiles, rows: list[dict[str, Any]]) -> None:
        if len(self.parts) == parts:
            raise RuntimeError("power cut")
        write_rows(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(part_files.PartFiles, "write", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            predict(*arguments)


def test_parts_of_a_folder_hold_what_one_file_holds(predict: Any) -> None:
    assert predict("in.jsonl", "-o", "out.jsonl") == 0
    assert predict("in.jsonl", "-o", "parts", "--output-format", "jsonl") == 0
    names = sorted(content("parts"))
    assert names[0] == "manifest.json"
    assert names[1:] == [f"part-{i:05}.jsonl" for i in range(len(names) - 1)]
    assert b"".join(content("parts")[name] for name in names[1:]) == Path("out.jsonl").read_bytes()
    manifest = json.loads(Path("parts/manifest.json").read_text(encoding="utf-8"))
    assert manifest["complete"]
    assert sum(part["rows"] for part in manifest["parts"]) == len(Path("out.jsonl").read_text("utf-8").splitlines())
    assert not list(Path().glob("out.jsonl.parts"))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_joined_parts_read_back_as_the_rows_of_one_run(
    predict: Any, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    assert predict("in.jsonl", "-o", f"parts.{ending}") == 0
    monkeypatch.setattr(batch, "PART_ROWS", 10_000)
    assert predict("in.jsonl", "-o", f"whole.{ending}") == 0
    if ending == "parquet":
        assert pq.read_table("parts.parquet").equals(pq.read_table("whole.parquet"))
    else:
        assert Path(f"parts.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes()


def test_folder_of_parquet_becomes_a_folder_of_parquet(predict: Any) -> None:
    assert predict("in.jsonl", "-o", "first") == 0
    assert predict("first", "--unit", "sentence", "-o", "second") == 0
    tables = [pq.read_table(sorted(Path(name).glob("*.parquet"))).to_pylist() for name in ("first", "second")]
    assert [row["text"] for row in tables[0]] == [row["text"] for row in tables[1]]


@pytest.mark.parametrize("parts", [0, 1, 3])
@pytest.mark.parametrize("output", ["out", "out.parquet", "out.csv"])
def test_resumed_run_writes_the_same_bytes(
    predict: Any, monkeypatch: pytest.MonkeyPatch, output: str, parts: int
) -> None:
    assert predict("in.jsonl", "-o", output, "--errors", "errors") == 0
    results = ["errors", output] if Path(output).is_file() else ["errors"]
    expected = [Path(name).read_bytes() for name in results] + [content("out") if output == "out" else {}]
    for name in ("errors", output):
        Path(name).rename(f"expected-{name}")
    break_off(monkeypatch, predict, parts, "in.jsonl", "-o", output, "--errors", "errors")
    with Path("errors").open("ab") as file:
        file.write(b"rows of the part that was lost\n")
    assert predict("in.jsonl", "-o", output, "--errors", "errors", "--resume") == 0
    found = [Path(name).read_bytes() for name in results] + [content("out") if output == "out" else {}]
    assert found == expected


def test_summary_of_a_resumed_run_is_that_of_the_whole(
    predict: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert predict("in.jsonl", "-o", "whole") == 0
    expected = capsys.readouterr().err.replace("whole", "out")
    break_off(monkeypatch, predict, 2, "in.jsonl", "-o", "out")
    capsys.readouterr()
    for _ in range(2):  # a finished run can be asked to go on, too
        assert predict("in.jsonl", "-o", "out", "--resume") == 0
        assert capsys.readouterr().err == expected


def test_torn_journal_and_unfinished_part_do_no_harm(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predict("in.jsonl", "-o", "whole") == 0
    break_off(monkeypatch, predict, 3, "in.jsonl", "-o", "out")
    journal = Path("out/journal")
    journal.write_bytes(journal.read_bytes()[:-20])
    Path("out/.unfinished-part-00003.parquet-1").write_bytes(b"PAR1")
    assert predict("in.jsonl", "-o", "out", "--resume") == 0
    assert content("out") == content("whole")


def test_run_that_broke_off_is_not_written_over(
    predict: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    break_off(monkeypatch, predict, 2, "in.jsonl", "-o", "out")
    assert predict("in.jsonl", "-o", "out") == 2
    assert "out holds a run that broke off. Go on with it: --resume, or remove the folder" in capsys.readouterr().err
    assert predict("in.jsonl", "-o", "out", "--resume") == 0
    assert predict("in.jsonl", "-o", "out") == 2
    assert "out holds finished predictions" in capsys.readouterr().err


def test_changed_run_is_not_gone_on_with(
    predict: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    break_off(monkeypatch, predict, 2, "in.jsonl", "-o", "out")
    before = content("out")
    assert predict("in.jsonl", "-o", "out", "--resume", "--unit", "sentence", "--output-format", "csv") == 2
    error = capsys.readouterr().err
    assert "unit was document, now it is sentence" in error
    assert "format was parquet, now it is csv" in error
    write("other.jsonl", [{"text": "가."}])
    assert predict("in.jsonl", "other.jsonl", "-o", "out", "--resume") == 2
    assert "the inputs were in.jsonl, now they are in.jsonl, other.jsonl" in capsys.readouterr().err
    assert main(["predict", "in.jsonl", "-o", "out", "--resume"]) == 2
    assert "model was checkpoint@" in capsys.readouterr().err
    with Path("in.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "하나 더."}\n')
    assert predict("in.jsonl", "-o", "out", "--resume") == 2
    assert "the content of in.jsonl has changed" in capsys.readouterr().err
    assert content("out") == before


def test_folder_of_something_else_is_left_alone(predict: Any, capsys: pytest.CaptureFixture) -> None:
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("x", encoding="utf-8")
    assert predict("in.jsonl", "-o", "notes") == 2
    assert "notes must be empty or a run's own folder. Found mine.txt" in capsys.readouterr().err
    assert list(content("notes")) == ["mine.txt"]


def test_second_job_on_a_folder_is_refused(predict: Any, capsys: pytest.CaptureFixture) -> None:
    from filelock import FileLock

    Path("out").mkdir()
    with FileLock("out/.lock"):
        assert predict("in.jsonl", "-o", "out") == 2
    assert "out is being written by another run" in capsys.readouterr().err


def test_full_disk_is_one_line_and_can_be_gone_on_with(
    predict: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert predict("in.jsonl", "-o", "whole") == 0
    capsys.readouterr()
    real, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert predict("in.jsonl", "-o", "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("policy-tagger: error: out could not be written: No space left on device. Make room. ")
    assert "rows are safe in out; go on with the same command and --resume." in error
    assert predict("in.jsonl", "-o", "out", "--resume") == 0
    assert content("out") == content("whole")


def kill_again_and_again(checkpoint: Path, kills: int, seed: int) -> int:
    """Run in small parts, kill each run at a random moment once it has begun to write, go on until done; returns the kills."""
    rng = random.Random(seed)
    command = [sys.executable, "-c", RUN_IN_SMALL_PARTS, "predict", "-m", str(checkpoint), "in.jsonl", "-o", "out"]
    command += ["--errors", "errors", "--resume"]
    killed = 0
    while True:
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        if killed == kills:
            assert run.wait() == 0
            return killed
        journal = Path("out/journal")
        before = journal.stat().st_size if journal.exists() else 0
        while run.poll() is None and (journal.stat().st_size if journal.exists() else 0) == before:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.01)
        run.send_signal(signal.SIGKILL)
        if run.wait() == 0:
            return killed
        killed += 1


def expect_same_after_kills(predict: Any, checkpoint: Path, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", [{"id": i, "text": None if i % 11 == 5 else TEXTS[i % 8]} for i in range(40 * kills + 400)])
    monkeypatch.setattr(batch, "PART_ROWS", 4)
    monkeypatch.setattr(batch, "GROUP_SENTENCES", 4)
    assert predict("in.jsonl", "-o", "whole", "--errors", "all-errors") == 0
    assert kill_again_and_again(checkpoint, kills, seed=kills) == kills
    manifests = [json.loads((Path(folder) / "manifest.json").read_text("utf-8")) for folder in ("whole", "out")]
    assert manifests[0].pop("run") == {**manifests[1].pop("run"), "errors": "all-errors"}
    assert manifests[0] == manifests[1]
    whole, out = content("whole"), content("out")
    assert {**whole, "manifest.json": b""} == {**out, "manifest.json": b""}
    assert Path("errors").read_bytes() == Path("all-errors").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_run_goes_on_to_the_same_bytes(
    predict: Any, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_same_after_kills(predict, tiny_checkpoint, 3, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_run_killed_sixty_times_goes_on_to_the_same_bytes(
    predict: Any, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_same_after_kills(predict, tiny_checkpoint, 60, monkeypatch)
