"""`policy-tagger predict` and `show`: every format in and out, and bad input."""

import csv
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_tagger.inference import batch
from policy_tagger.inference.cli import main
from tests.conftest import TINY_SENTENCES

ARTICLE = "정부는 수출 기업을 돕겠다고 밝혔다. 행사는 오후에 끝났다.\n고용은 두 달째 줄었다.\n"
COLUMNS = [
    "document_id",
    "sentence_id",
    "text",
    "topic",
    "topic_probabilities",
    "voice",
    "voice_probabilities",
    "truncated",
    "error",
]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def predict(tiny_checkpoint: Path) -> Any:
    return lambda *arguments: main(["predict", "-m", str(tiny_checkpoint), *map(str, arguments)])


def jsonl(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_jsonl(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_text_file_is_one_document(predict: Any) -> None:
    Path("article.txt").write_text(ARTICLE, encoding="utf-8")
    assert predict("article.txt", "-o", "out.jsonl") == 0
    rows = jsonl("out.jsonl")
    assert [list(row) for row in rows] == [COLUMNS] * 3
    assert [(row["document_id"], row["sentence_id"]) for row in rows] == [("article.txt", str(n)) for n in (1, 2, 3)]
    assert rows[0]["topic"] == ["수출"]
    assert rows[0]["voice"] == "official"
    assert rows[0]["voice_probabilities"].keys() == {"official", "firm", "reporter"}
    assert {row["error"] for row in rows} == {None}


def test_manifest_names_model_and_codebook(predict: Any, tiny_checkpoint: Path) -> None:
    Path("article.txt").write_text(ARTICLE, encoding="utf-8")
    predict("article.txt", "-o", "out.jsonl")
    manifest = json.loads(Path("out.jsonl.manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"]["model"].startswith(f"{tiny_checkpoint.name}@")
    assert manifest["run"]["codebook"]["name"] == "tiny"
    assert (manifest["documents"], manifest["sentences"], manifest["errors"]) == (1, 3, 0)


def test_all_output_formats_hold_the_same(predict: Any) -> None:
    write_jsonl("in.jsonl", [{"document_id": "가", "text": ARTICLE, "source": "연합", "year": 2020}, {"text": None}])
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        assert predict("in.jsonl", "-o", f"out.{ending}") == 0
    expected = jsonl("out.jsonl")
    assert [row["source"] for row in expected] == ["연합"] * 3 + [None]
    table = pq.read_table("out.parquet")
    assert table.column_names == list(expected[0])
    assert table.to_pylist() == [
        {**row, "topic_probabilities": pytest.approx(row["topic_probabilities"])} for row in expected[:3]
    ] + [expected[3]]
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with Path(f"out.{ending}").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter))
        assert [row["text"] for row in rows] == [row["text"] for row in expected]
        assert [row["topic"] for row in rows] == ["|".join(row["topic"]) or "-" for row in expected[:3]] + [""]
        assert json.loads(rows[0]["voice_probabilities"]) == expected[0]["voice_probabilities"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "tsv"])
def test_korean_encodings_are_read(predict: Any, encoding: str, ending: str) -> None:
    text = "정부는 수출 기업을 돕겠다고 밝혔다."
    content = {
        "txt": text,
        "jsonl": json.dumps({"text": text}, ensure_ascii=False),
        "csv": f'text,매체\n"{text}",가\n',
        "tsv": f"text\t매체\n{text}\t가\n",
    }
    Path(f"in.{ending}").write_bytes(content[ending].encode(encoding))
    assert predict(f"in.{ending}", "-o", "out.jsonl") == 0
    assert [row["text"] for row in jsonl("out.jsonl")] == [text]


def test_rows_as_sentences_keep_ids_and_give_context(predict: Any) -> None:
    # The second is unlike any that was learnt, so that context can move its probabilities.
    texts = ["정부는 수출 기업을 돕겠다고 밝혔다.", "회의장 고용 정부 판로 대표."]
    write_jsonl("in.jsonl", [{"document_id": "a", "sentence_id": f"s{i}", "text": t} for i, t in enumerate(texts)])
    write_jsonl("apart.jsonl", [{"text": t} for t in texts])
    assert predict("in.jsonl", "--unit", "sentence", "-o", "out.jsonl") == 0
    assert predict("apart.jsonl", "--unit", "sentence", "-o", "apart_out.jsonl") == 0
    together, apart = jsonl("out.jsonl"), jsonl("apart_out.jsonl")
    assert [(row["document_id"], row["sentence_id"]) for row in together] == [("a", "s0"), ("a", "s1")]
    assert [row["document_id"] for row in apart] == ["apart.jsonl:1", "apart.jsonl:2"]
    assert together[1]["topic_probabilities"] != apart[1]["topic_probabilities"]


def test_folder_is_read_in_order_and_unknown_files_are_left(predict: Any) -> None:
    Path("in/b").mkdir(parents=True)
    Path("in/b/2.txt").write_text("둘째 글.", encoding="utf-8")
    Path("in/a.jsonl").write_text('{"text": "첫째 글."}\n', encoding="utf-8")
    Path("in/readme.md").write_text("no input", encoding="utf-8")
    assert predict("in", "-o", "out.jsonl") == 0
    assert [row["document_id"] for row in jsonl("out.jsonl")] == ["in/a.jsonl:1", "in/b/2.txt"]


def test_pipe_from_end_to_end(tiny_checkpoint: Path) -> None:
    command = [sys.executable, "-m", "policy_tagger.inference.cli", "predict", "-m", str(tiny_checkpoint), "-"]
    done = subprocess.run(command, input=ARTICLE.encode(), capture_output=True, check=True)
    assert [json.loads(line)["document_id"] for line in done.stdout.splitlines()] == ["stdin"] * 3
    assert done.stderr.decode().count("\n") == 1  # the summary, and no progress bar
    done = subprocess.run(
        [*command, "--input-format", "csv", "--output-format", "csv"],
        input=b"text\nabc\n",
        capture_output=True,
        check=True,
    )
    assert [row["text"] for row in csv.DictReader(io.StringIO(done.stdout.decode("utf-8-sig")))] == ["abc"]


def test_bad_rows_become_rows_with_an_error_in_their_place(predict: Any) -> None:
    Path("in.jsonl").write_text(
        '{"text": "하나."}\n{"text": null}\n7\nnot json\n{"text": 3}\n{"text": " "}\n["a"]\n{"text": "둘\\ud800."}\n',
        encoding="utf-8",
    )
    assert predict("in.jsonl", "-o", "out.jsonl") == 0
    rows = jsonl("out.jsonl")
    assert [row["text"] for row in rows] == ["하나.", "", "", "", "", "", "", "둘\ufffd."]
    assert [row["error"] is None for row in rows] == [True, *[False] * 6, True]
    assert rows[1]["error"] == "row 2: `text` must be text, found null"
    assert rows[2]["error"] == "row 3: expected a JSON object, found a number"


def test_input_columns_that_clash_are_kept_under_another_name(predict: Any) -> None:
    write_jsonl("in.jsonl", [{"text": "하나.", "topic": ["규제"], "error": "old"}])
    assert predict("in.jsonl", "-o", "out.jsonl") == 0
    (row,) = jsonl("out.jsonl")
    assert (row["input_topic"], row["input_error"], row["error"]) == (["규제"], "old", None)


def test_column_that_appears_late_is_reported(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy_tagger.inference.tables.FIRST_ROWS", 2)
    write_jsonl("in.jsonl", [{"text": "하나."}, {"text": "둘."}, {"text": "셋.", "late": 1}])
    assert predict("in.jsonl", "-o", "out.jsonl") == 0
    assert [row["error"] is None for row in jsonl("out.jsonl")] == [True, True, False]


def test_value_of_another_type_does_not_break_parquet(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy_tagger.inference.tables.FIRST_ROWS", 1)
    write_jsonl("in.jsonl", [{"text": "하나.", "n": 1}, {"text": "둘.", "n": "two"}, {"text": "셋.", "n": 3}])
    assert predict("in.jsonl", "-o", "out.parquet") == 0
    table = pq.read_table("out.parquet").to_pylist()
    assert [row["n"] for row in table] == [1, None, 3]
    assert "`n` is left out" in table[1]["error"]


def test_parquet_that_breaks_off_is_one_row_with_an_error(predict: Any) -> None:
    Path("1.txt").write_text("하나.", encoding="utf-8")
    pq.write_table(pa.table({"text": ["둘."] * 50}), "2.parquet", compression="none", use_dictionary=False)
    content = bytearray(Path("2.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    Path("2.parquet").write_bytes(content)
    Path("3.txt").write_text("셋.", encoding="utf-8")
    assert predict("1.txt", "2.parquet", "3.txt", "-o", "out.jsonl") == 0
    rows = jsonl("out.jsonl")
    assert [row["text"] for row in rows] == ["하나.", "", "셋."]
    assert "row 1: the file breaks off here, and what follows is not read" in rows[1]["error"]


def test_quotation_mark_that_stays_open_is_one_row_with_an_error(predict: Any) -> None:
    Path("in.csv").write_text('text\n하나.\n"열린 따옴표\n둘.\n', encoding="utf-8")
    assert predict("in.csv", "-o", "out.jsonl") == 0
    rows = jsonl("out.jsonl")
    assert [row["text"] for row in rows] == ["하나.", ""]
    assert "row 2: the file breaks off here" in rows[1]["error"]
    assert "from line 3; close the quotation mark" in rows[1]["error"]


@pytest.mark.parametrize("ending", ["gz", "xz", "zst"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.txt"])
def test_packed_files_are_read(predict: Any, name: str, ending: str) -> None:
    content = {"in.jsonl": '{"text": "하나."}\n', "in.csv": "text\n하나.\n", "in.txt": "하나."}[name].encode("cp949")
    pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    Path(f"{name}.{ending}").write_bytes(pack[ending](content))
    assert predict(f"{name}.{ending}", "-o", "out.jsonl") == 0
    assert [row["text"] for row in jsonl("out.jsonl")] == ["하나."]


@pytest.mark.parametrize("ending", ["gz", "xz", "zst"])
def test_packed_file_that_breaks_off_gives_what_can_be_read(predict: Any, ending: str) -> None:
    rng = random.Random(0)
    lines = "".join(f'{{"text": "문장 {rng.random()}."}}\n' for _ in range(20_000)).encode()
    pack = {"gz": gzip.compress, "xz": lzma.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    packed = pack[ending](lines)
    Path(f"in.jsonl.{ending}").write_bytes(packed[: len(packed) // 2])
    assert predict(f"in.jsonl.{ending}", "--unit", "sentence", "-o", "out.jsonl") == 0
    rows = jsonl("out.jsonl")
    assert len(rows) > 1000
    assert [row["error"] is None for row in rows] == [True] * (len(rows) - 1) + [False]
    assert "breaks off here" in rows[-1]["error"] or "not JSON" in rows[-1]["error"]


def test_line_in_another_encoding_is_a_row_with_an_error(predict: Any) -> None:
    lines = ['{"text": "하나."}\n'.encode(), '{"text": "둘."}\n'.encode("cp949"), '{"text": "셋."}\n'.encode()]
    Path("in.jsonl").write_bytes(b"".join(lines))
    Path("in.csv").write_bytes("text\n하나.\n".encode() + "둘.\n".encode("cp949") + "셋.\n".encode())
    for name in ("in.jsonl", "in.csv"):
        assert predict(name, "-o", "out.jsonl") == 0
        rows = jsonl("out.jsonl")
        assert [row["text"] for row in rows] == ["하나.", "", "셋."]
        assert "found bytes that are not" in rows[1]["error"]


def test_bad_rows_are_copied_and_counted_up_to_a_limit(predict: Any, capsys: pytest.CaptureFixture) -> None:
    write_jsonl("in.jsonl", [{"text": "하나."}, {"text": None}, {"text": "둘."}, {"text": 7}])
    assert predict("in.jsonl", "-o", "out.jsonl", "--errors", "bad.jsonl", "--max-errors", "2") == 0
    assert "2 rows with an `error`" in capsys.readouterr().err
    assert jsonl("bad.jsonl") == [row for row in jsonl("out.jsonl") if row["error"]]
    assert predict("in.jsonl", "-o", "out.jsonl", "--errors", "bad.jsonl") == 2
    assert "bad.jsonl exists already" in capsys.readouterr().err
    assert predict("in.jsonl", "-o", "again.jsonl", "--max-errors", "1") == 2
    error = capsys.readouterr().err
    assert "2 rows have an error, more than the 1 of --max-errors. The last: row 4: `text` must be text" in error
    assert not list(Path().glob("again*"))


def test_standard_output_counts_bad_rows_too(predict: Any, capfdbinary: pytest.CaptureFixture) -> None:
    write_jsonl("in.jsonl", [{"text": "하나."}, {"text": None}])
    assert predict("in.jsonl", "--errors", "bad.jsonl") == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 2
    assert len(jsonl("bad.jsonl")) == 1


def test_very_long_document_in_pieces_equals_the_whole(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"document_id": "a", "text": TINY_SENTENCES[i % 8][1] if i % 7 else None} for i in range(60)]
    write_jsonl("in.jsonl", rows)
    assert predict("in.jsonl", "--unit", "sentence", "-o", "whole.jsonl") == 0
    monkeypatch.setattr("policy_tagger.inference.documents.PIECE_ROWS", 7)
    assert predict("in.jsonl", "--unit", "sentence", "-o", "pieces.jsonl") == 0
    whole, pieces = jsonl("whole.jsonl"), jsonl("pieces.jsonl")
    for one, other in zip(whole, pieces, strict=True):
        assert (one["topic_probabilities"] or {}) == pytest.approx(other["topic_probabilities"] or {}, abs=1e-5)
        assert {**one, "topic_probabilities": 0, "voice_probabilities": 0} == {
            **other,
            "topic_probabilities": 0,
            "voice_probabilities": 0,
        }


def test_output_is_never_an_input(predict: Any, capsys: pytest.CaptureFixture) -> None:
    Path("folder").mkdir()
    for name in ("in.jsonl", "folder/in.jsonl"):
        write_jsonl(name, [{"text": "하나."}])
    assert predict("in.jsonl", "-o", "in.jsonl") == 2
    assert predict("folder", "-o", "folder/out.jsonl") == 2
    assert capsys.readouterr().err.count("must not be among the inputs") == 2
    assert jsonl("in.jsonl") == [{"text": "하나."}]


def test_parquet_types_do_not_depend_on_the_first_rows(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GROUP_SENTENCES", 1)
    write_jsonl(
        "in.jsonl",
        [{"text": None, "v": 1, "w": {}}, {"text": "행사는 오후에 끝났다.", "v": 2}, {"text": ARTICLE, "v": 1.5}],
    )
    assert predict("in.jsonl", "-o", "out.parquet") == 0
    table = pq.read_table("out.parquet")
    assert table.schema.field("topic").type == pa.list_(pa.string())
    assert table.schema.field("truncated").type == pa.bool_()
    rows = table.to_pylist()
    assert [row["v"] for row in rows] == [1.0, 2.0, 1.5, 1.5, 1.5]
    assert rows[2]["topic"] == ["수출"]
    assert rows[0]["w"] == "{}"


def test_parquet_without_rows_can_be_read(predict: Any) -> None:
    Path("in.csv").write_text("text,n\n", encoding="utf-8")
    assert predict("in.csv", "-o", "out.parquet") == 0
    assert pq.read_table("out.parquet").num_rows == 0


def test_csv_cells_with_line_breaks_come_back(predict: Any) -> None:
    write_jsonl("in.jsonl", [{"text": "하나.", "memo": "a\rb"}, {"text": "둘.", "memo": 'c\n"d",e'}])
    assert predict("in.jsonl", "-o", "out.csv") == 0
    assert predict("out.csv", "--unit", "sentence", "-o", "again.jsonl") == 0
    assert [row["memo"] for row in jsonl("again.jsonl")] == ["a\rb", 'c\n"d",e']


def test_no_input_column_is_lost_to_a_clash(predict: Any) -> None:
    write_jsonl("in.jsonl", [{"body": "하나.", "text": "t", "input_text": "it", "topic": "x", "input_topic": "ix"}])
    assert predict("in.jsonl", "--text-column", "body", "-o", "out.csv") == 0
    with Path("out.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["input_text"], row["input_input_text"]) in {("it", "t"), ("t", "it")}
    assert {row["input_topic"], row["input_input_topic"]} == {"x", "ix"}


def test_lone_surrogates_anywhere_do_no_harm(predict: Any) -> None:
    Path("in.jsonl").write_text('{"text": "하나\\ud800.", "\\ud800k": {"\\udfff": "\\ud800"}}\n', encoding="utf-8")
    for ending in ("jsonl", "csv", "parquet"):
        assert predict("in.jsonl", "-o", f"out.{ending}") == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "must be an existing file or folder"),
        ("empty.txt", b"", "Found an empty file"),
        ("letter.docx", b"x", "must end in one of .txt"),
        (
            "no_text.csv",
            "제목,본문\n가,나\n".encode(),
            "must have a column `text`. Found 제목, 본문. Name the right one with --text-column",
        ),
        ("utf16.csv", "text\n가\n".encode("utf-16"), "Found UTF-16"),
        ("utf16.txt", "plain".encode("utf-16-le"), "Found UTF-16"),
        ("twice.csv", b"text,text\na,b\n", "distinct column names"),
        ("broken.parquet", b"PAR1 no", "must be a Parquet file"),
    ],
)
def test_unusable_file_is_one_clear_line(
    predict: Any, capsys: pytest.CaptureFixture, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    assert predict(name, "-o", "out.jsonl") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"policy-tagger: error: {name} ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(Path().glob("out*"))


def test_all_unusable_files_are_listed_at_once(predict: Any, capsys: pytest.CaptureFixture) -> None:
    Path("a.csv").write_text("x\n1\n", encoding="utf-8")
    Path("b.csv").write_text("y\n1\n", encoding="utf-8")
    assert predict("a.csv", "b.csv", "-o", "out.jsonl") == 2
    assert capsys.readouterr().err.count("must have a column `text`") == 2


@pytest.mark.parametrize(("output", "message"), [("out.docx", "must name a file"), ("none/out.csv", "existing folder")])
def test_unusable_output_is_found_before_any_work(
    predict: Any, capsys: pytest.CaptureFixture, output: str, message: str
) -> None:
    Path("in.txt").write_text("하나.", encoding="utf-8")
    assert predict("in.txt", "-o", output) == 2
    assert message in capsys.readouterr().err


def test_json_lines_on_standard_input_are_not_taken_for_text(
    predict: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n')))
    assert predict("-", "-o", "out.jsonl") == 2
    assert "--input-format jsonl" in capsys.readouterr().err


def test_show_prints_names_and_sentences(predict: Any, capsys: pytest.CaptureFixture, tiny_checkpoint: Path) -> None:
    Path("article.txt").write_text(ARTICLE, encoding="utf-8")
    for output in ("out.jsonl", "out.csv", "out.parquet"):
        predict("article.txt", "-o", output)
        capsys.readouterr()
        assert main(["show", output, "--codebook", str(tiny_checkpoint / "codebook.yaml")]) == 0
        shown = capsys.readouterr().out
        assert "official" in shown
        assert "수출" in shown
    assert main(["show", "out.csv"]) == 2
    assert "must have a column `themes`" in capsys.readouterr().err


def test_parquet_input_columns_come_through(predict: Any) -> None:
    pq.write_table(pa.table({"text": ["하나. 둘."], "score": [1.5], "tags": [["a", "b"]]}), "in.parquet")
    assert predict("in.parquet", "-o", "out.parquet") == 0
    rows = pq.read_table("out.parquet").to_pylist()
    assert [(row["text"], row["score"], row["tags"]) for row in rows] == [
        ("하나.", 1.5, ["a", "b"]),
        ("둘.", 1.5, ["a", "b"]),
    ]
