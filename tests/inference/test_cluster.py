"""Ray on a cluster of two nodes: the rows of one machine, also where a worker is killed."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from policy_tagger.inference.cli import main
from tests.conftest import TINY_SENTENCES

TEXTS = [text for _, text, _, _ in TINY_SENTENCES]


@pytest.fixture
def predict(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main(["predict", "-m", str(tiny_checkpoint), *map(str, arguments)])


def rows_of(folder: str) -> list[dict[str, Any]]:
    lines = [line for path in sorted(Path(folder).glob("part-*")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-o", "out"], "Name them instead of standard input and output"),
        (["in", "-o", "out.jsonl"], "--engine ray writes a folder of part files. Got -o out.jsonl"),
        (["in", "-o", "out", "--max-errors", "3"], "--errors and --max-errors are for one machine"),
    ],
)
def test_what_only_one_machine_can_do_is_refused(
    predict: Any, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert predict(*arguments, "--engine", "ray") == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_two_nodes_write_the_rows_of_one_machine_though_a_worker_is_killed(predict: Any) -> None:
    import psutil
    import ray
    from ray.cluster_utils import Cluster

    Path("in").mkdir()
    for number in range(24):
        rows = [{"id": i, "text": None if i % 50 == 7 else " ".join(TEXTS[i % 8 :])} for i in range(200)]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        Path(f"in/{number:02}.jsonl").write_text(content, encoding="utf-8")
    assert predict("in", "-o", "local", "--output-format", "jsonl") == 0

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=2)
    killed = []

    def kill_a_worker_once_parts_appear() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not list(Path("out").glob("part-*")):
            time.sleep(0.05)
        workers = [p for p in psutil.process_iter() if "_FileTagger" in " ".join(p.cmdline() or [p.name()])]
        workers[0].kill()
        killed.append(workers[0].pid)

    try:
        ray.init(address=cluster.address, log_to_driver=False)
        assassin = threading.Thread(target=kill_a_worker_once_parts_appear)
        assassin.start()
        arguments = ["in", "-o", "out", "--output-format", "jsonl", "--engine", "ray", "--num-workers", "2"]
        assert predict(*arguments) == 0
        assassin.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(killed) == 1
    assert [path.name for path in sorted(Path("out").iterdir())] == [
        "manifest.json",
        *(f"part-{number:05}.jsonl" for number in range(24)),
    ]
    found, expected = rows_of("out"), rows_of("local")
    assert [{k: v for k, v in row.items() if "probabilities" not in k} for row in found] == [
        {k: v for k, v in row.items() if "probabilities" not in k} for row in expected
    ]
    for one, other in zip(found, expected, strict=True):
        for task in ("topic", "voice"):
            assert (one[f"{task}_probabilities"] or {}) == pytest.approx(other[f"{task}_probabilities"] or {}, abs=1e-4)
