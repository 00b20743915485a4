"""`policy-tagger check`: every problem at once, with file, row, field, expected, found, nearest."""

import json
from pathlib import Path
from typing import Any

import pytest

from policy_tagger.inference.cli import main
from policy_tagger.inference.codebook import Codebook
from policy_tagger.inference.errors import InputError
from policy_tagger.train.data import check, read_labelled, split_by_document


def rows(*texts: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"document_id": "d", "text": text, "topic": [], "voice": "firm", **fields} for text in texts]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def write_rows(content: list[Any], name: str = "data.jsonl") -> str:
        Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content), encoding="utf-8")
        return name

    return write_rows


@pytest.fixture
def codebook(tiny_codebook: Path) -> Codebook:
    return Codebook.load(tiny_codebook)


def messages(name: str, codebook: Codebook) -> list[str]:
    return [f"{f.severity}: {f.message}" for f in check(read_labelled([name], codebook), codebook)]


def test_every_problem_is_reported_with_its_place(write: Any, codebook: Codebook) -> None:
    name = write(
        [
            *rows("첫 문장이다.", topic=["수풀"]),
            *rows("둘째 문장이다.", voice=["firm"]),
            *rows("셋째 문장이다.", topic=4, voice="offical"),
            *rows("  "),
            *rows("다섯째 문장이다.", text=None),
            *rows("여섯째 문장이다.", split="dev"),
            17,
        ]
    )
    errors = [message for message in messages(name, codebook) if message.startswith("error")]
    assert errors == [
        "error: data.jsonl, row 1, field topic: expected a label of the codebook, found '수풀' (known are 수출, 규제, 고용).",
        "error: data.jsonl, row 2, field voice: expected one label id as text, found ['firm'].",
        "error: data.jsonl, row 3, field topic: expected a list of label ids, or ids separated by '|', found 4.",
        "error: data.jsonl, row 3, field voice: expected a label of the codebook, found 'offical' (the nearest is 'official').",
        "error: data.jsonl, row 4, field text: expected a sentence, found nothing.",
        "error: data.jsonl, row 5, field text: expected text, found null.",
        "error: data.jsonl, row 6, field split: expected one of train, validation, test, found 'dev'.",
        "error: data.jsonl, row 7: expected a JSON object, found a number.",
    ]


def test_document_in_two_splits_is_an_error(write: Any, codebook: Codebook) -> None:
    name = write([*rows("하나다.", split="train"), *rows("둘이다.", split="test")])
    assert (
        "error: document d must be in one split. Found train (data.jsonl, row 1) and test (data.jsonl, row 2). Move its sentences together."
        in messages(name, codebook)
    )


def test_duplicates_and_near_duplicates_name_both_places_and_leaks(write: Any, codebook: Codebook) -> None:
    long = "정부는 내년부터 중소기업의 수출 인증 비용을 절반까지 지원하기로 했다고 밝혔다."
    name = write(
        [
            *rows(long, document_id="a", split="train"),
            *rows(long, document_id="b", split="test"),
            *rows(long.replace("절반", "전부"), document_id="a", split="train"),
            *rows("아무 관련이 없는 다른 문장을 여기에 둔다.", document_id="a", split="train"),
        ]
    )
    found = [message for message in messages(name, codebook) if "same sentence" in message]
    assert found[0] == (
        "warning: data.jsonl, row 2, field text: the same sentence as data.jsonl, row 1, and in more than one split (train, test)."
    )
    assert len(found) == 2
    assert "row 3, field text: nearly the same sentence (0." in found[1]


def test_many_repeats_are_one_warning(write: Any, codebook: Codebook) -> None:
    found = [m for m in messages(write(rows(*["감사합니다."] * 3000)), codebook) if "same sentence" in m]
    assert found == [
        "warning: data.jsonl, row 2, field text: the same sentence as data.jsonl, row 1 and 2,998 other rows."
    ]


def test_none_is_no_answer_to_a_single_label_task(write: Any, codebook: Codebook) -> None:
    assert any(
        "field voice: expected a label of the codebook, found '-'" in m
        for m in messages(write(rows("하나.", voice="-")), codebook)
    )


def test_rare_labels_and_missing_annotation_are_warned_of(write: Any, codebook: Codebook) -> None:
    name = write(rows(*(f"{n}번째 문장이 있다." for n in "가나다라마바사아자차")) + rows("끝이다.", voice=None))
    found = messages(name, codebook)
    assert "warning: voice: label official has 0 sentences. Expected at least 10 to learn from." in found
    assert not any("label firm has" in message for message in found)
    assert any(message.startswith("warning: voice: 1 of 11 sentences are not annotated") for message in found)


def test_misnamed_column_is_pointed_out(write: Any, codebook: Codebook) -> None:
    name = write([{"text": "하나.", "topics": [], "voice": "firm"}])
    assert "warning: data.jsonl: column `topics` is ignored. Did you mean `topic`?" in messages(name, codebook)


def test_file_without_text_or_tasks_says_which_columns_there_are(write: Any, codebook: Codebook) -> None:
    with pytest.raises(InputError, match=r"must have a column `text`\. Found sentence, voice"):
        read_labelled([write([{"sentence": "하나.", "voice": "firm"}])], codebook)
    with pytest.raises(InputError, match=r"column for a task of the codebook \(topic, voice\). Found text, label"):
        read_labelled([write([{"text": "하나.", "label": "x"}])], codebook)


def test_exit_codes(write: Any, tiny_codebook: Path, tiny_data: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", str(tiny_data), "--codebook", str(tiny_codebook)]) == 0
    assert main(["check", write(rows("하나.", voice="nobody")), "--codebook", str(tiny_codebook)]) == 2
    assert "1 errors" in capsys.readouterr().out


def test_csv_tells_none_of_the_labels_from_not_annotated(tmp_path: Path, codebook: Codebook) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("text,topic,voice\n하나.,-,firm\n둘.,,firm\n셋.,수출|고용,\n".encode("cp949"))
    sentences = read_labelled([str(path)], codebook).sentences
    assert [sentence.labels for sentence in sentences] == [
        {"topic": [], "voice": ["firm"]},
        {"topic": None, "voice": ["firm"]},
        {"topic": ["수출", "고용"], "voice": None},
    ]


def test_drawn_split_keeps_documents_whole_and_old_ones_in_place(write: Any, codebook: Codebook) -> None:
    few = [row for d in range(40) for row in rows("하나.", "둘.", document_id=f"d{d}")]
    more = few + [row for d in range(40, 80) for row in rows("셋.", document_id=f"d{d}")]
    small, large = (split_by_document(read_labelled([write(r)], codebook), 0.2, 0.2, seed=1) for r in (few, more))
    where = {sentence.document_id: sentence.split for sentence in large.sentences}
    assert all(where[sentence.document_id] == sentence.split for sentence in small.sentences)
    assert set(where.values()) == {"train", "validation", "test"}


def test_half_filled_split_column_is_refused(write: Any, codebook: Codebook) -> None:
    data = read_labelled([write([*rows("하나.", split="train"), *rows("둘.", document_id="e")])], codebook)
    with pytest.raises(InputError, match="row 2, field split: expected a split as in other rows"):
        split_by_document(data, 0.1, 0.1, seed=0)


def test_second_readings_are_read_and_checked(write: Any, codebook: Codebook) -> None:
    name = write(
        [
            {
                "text": "하나.",
                "voice": "firm",
                "voice_may": ["official", "reporter"],
                "topic": [],
                "topic_may": "수출|규제",
            }
        ]
    )
    assert read_labelled([name], codebook).sentences[0].may == {
        "topic": ["수출", "규제"],
        "voice": ["official", "reporter"],
    }
    name = write([{"text": "하나.", "voice": "firm", "voice_may": "nobody"}])
    assert any("row 1, field voice_may: expected a label" in message for message in messages(name, codebook))
