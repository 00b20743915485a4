"""From config to checkpoint: what is written, what is learnt, and that a killed run ends like one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import TrainerState

from policy_tagger.inference.checkpoint import Checkpoint
from policy_tagger.inference.cli import main
from policy_tagger.inference.tagger import PolicyTagger
from policy_tagger.train import quantise
from policy_tagger.train.loop import stopped_early
from tests.conftest import TINY_SENTENCES

CHECKPOINT_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "codebook.yaml",
    "decision.json",
    "openvino_model.xml",
    "openvino_model.bin",
    "openvino_int8.xml",
    "openvino_int8.bin",
    "manifest.json",
    "run.json",
    "README.md",
}


def test_checkpoint_has_exactly_these_files(tiny_checkpoint: Path) -> None:
    assert {path.name for path in tiny_checkpoint.iterdir()} == CHECKPOINT_FILES


def test_eight_sentences_are_learnt_by_heart(tiny_tagger: PolicyTagger) -> None:
    document_ids, texts, topics, voices = zip(*TINY_SENTENCES, strict=True)
    found = tiny_tagger.predict(texts, document_ids)
    assert [sentence.labels["topic"] for sentence in found] == list(topics)
    assert [sentence.labels["voice"] for sentence in found] == list(voices)


def test_torch_and_exported_graph_agree(tiny_checkpoint: Path) -> None:
    reference = PolicyTagger.from_pretrained(tiny_checkpoint, library="torch")
    exported_tagger = PolicyTagger.from_pretrained(tiny_checkpoint, "fp32")
    assert reference.backend.name.startswith("torch")
    texts = [text for _, text, _, _ in TINY_SENTENCES] + ["처음 보는 문장 " * n for n in range(1, 40)]
    ids = ["one document"] * len(texts)
    expected, exported = reference.predict_proba(texts, ids), exported_tagger.predict_proba(texts, ids)
    for task in expected:
        np.testing.assert_allclose(exported[task], expected[task], atol=1e-4)
    assert [s.labels for s in exported_tagger.predict(texts, ids)] == [s.labels for s in reference.predict(texts, ids)]


def test_int8_that_decides_worse_is_not_kept(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "MOST_LOST", -0.001)  # nothing is better than all right
    checkpoint = Checkpoint.open(tiny_checkpoint)
    encoding = PolicyTagger.from_pretrained(tiny_checkpoint).encoding
    _, texts, topics, voices = zip(*TINY_SENTENCES, strict=True)
    tasks = checkpoint.codebook.tasks
    labels = {
        "topic": np.stack([tasks["topic"].vector(labels) for labels in topics]),
        "voice": np.stack([tasks["voice"].vector([label]) for label in voices]),
    }
    for name in ("openvino_model.xml", "openvino_model.bin"):
        shutil.copy(tiny_checkpoint / name, tmp_path)
    windows = encoding.encode_documents([[text] for text in texts])
    found = quantise.quantise(
        tmp_path, windows, windows, labels, encoding.pad_id, checkpoint.codebook, checkpoint.decision
    )
    assert not found.accepted
    assert found.fp32.keys() == found.int8.keys() == {"topic.micro_f1", "voice.accuracy"}
    assert not list(tmp_path.glob("openvino_int8*"))
    run = json.loads((tiny_checkpoint / "run.json").read_text(encoding="utf-8"))
    assert run["quantisation"]["accepted"]
    assert "int8 graph beside it" in (tiny_checkpoint / "README.md").read_text(encoding="utf-8")


def test_run_json_records_config_data_and_metrics(tiny_checkpoint: Path, tiny_data: Path) -> None:
    run = json.loads((tiny_checkpoint / "run.json").read_text(encoding="utf-8"))
    assert run["data"]["files"].keys() == {tiny_data.as_posix()}
    assert run["data"]["sentences"] == {"train": 80, "validation": 8, "test": 8}
    assert run["metrics"]["test"]["tasks"]["voice"]["accuracy"] == 1.0
    assert run["parity"]["changed_labels"] == 0
    assert run["codebook"]["content_hash"] == Checkpoint.open(tiny_checkpoint).codebook.content_hash


def test_finished_output_is_not_overwritten(
    tiny_checkpoint: Path, tiny_config: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["train", str(tiny_config)]) == 2
    assert "holds a finished checkpoint" in capsys.readouterr().err


def test_run_that_had_stopped_early_is_known_as_such(tmp_path: Path) -> None:
    state = TrainerState(
        stateful_callbacks={"EarlyStoppingCallback": {"attributes": {"early_stopping_patience_counter": 3}}}
    )
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    assert stopped_early(tmp_path, patience=3)
    assert not stopped_early(tmp_path, patience=4)


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, tiny_config: Path) -> None:
    short = ["--set", "training.epochs=6"]
    whole = tmp_path / "whole"
    assert main(["train", str(tiny_config), *short, "--set", f"output={whole}"]) == 0

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "policy_tagger.inference.cli", "train", str(tiny_config), *short]
    command += ["--set", f"output={killed}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy())
    deadline = time.monotonic() + 120
    while not list((killed / "steps").glob("checkpoint-*/complete")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "manifest.json").exists(), "the run ended before it could be killed"
    newest = max((killed / "steps").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    torn = newest.with_name("checkpoint-9999")  # a later state, killed while it was written
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"torn")

    assert main(["train", str(tiny_config), *short, "--set", f"output={killed}"]) == 2  # only with --resume
    other_inputs = [*short, "--set", "training.seed=7", "--set", f"output={killed}", "--resume"]
    assert main(["train", str(tiny_config), *other_inputs]) == 2  # only the same run
    assert main(["train", str(tiny_config), *short, "--set", f"output={killed}", "--resume"]) == 0
    expected, resumed = load_file(whole / "model.safetensors"), load_file(killed / "model.safetensors")
    assert expected.keys() == resumed.keys()
    for name in expected:
        np.testing.assert_array_equal(resumed[name], expected[name], err_msg=name)


def test_student_learns_from_the_teacher_what_it_has_no_labels_for(
    tiny_checkpoint: Path, tiny_config: Path, tiny_data: Path, tmp_path: Path
) -> None:
    unlabelled = tmp_path / "unlabelled.jsonl"
    rows = [json.loads(line) for line in tiny_data.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if row["split"] == "train":
            row |= {"topic": None, "voice": None}
    unlabelled.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    options = [f"output={tmp_path / 'student'}", f"data.files=[{unlabelled}]", "training.seed=7"]
    teacher = f"distillation={{teacher: {tiny_checkpoint}}}"
    assert main(["train", str(tiny_config), *(part for o in [*options, teacher] for part in ("--set", o))]) == 0
    run = json.loads((tmp_path / "student" / "run.json").read_text(encoding="utf-8"))
    assert run["metrics"]["test"]["tasks"]["voice"]["accuracy"] == 1.0
    assert run["metrics"]["test"]["tasks"]["topic"]["micro_f1"] == 1.0


def test_teacher_of_another_codebook_is_refused(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = [f"output={tmp_path / 'student'}", "distillation={teacher: default}"]
    assert main(["train", str(tiny_config), *(part for o in options for part in ("--set", o))]) == 2
    assert "distillation.teacher: default must have the tasks and labels of codebook tiny" in capsys.readouterr().err
