"""Documents into sentences."""

import pytest

from policy_tagger.inference.sentences import SentenceSplitter


@pytest.fixture(scope="module")
def splitter() -> SentenceSplitter:
    return SentenceSplitter()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t\n", []),
        ("한 문장", ["한 문장"]),
        ("수출이 3.5% 늘었다. 수입은 줄었다.", ["수출이 3.5% 늘었다.", "수입은 줄었다."]),
        ("한 문단.\n다음 문단", ["한 문단.", "다음 문단"]),
        (
            "김 국장은 “지원을 늘리겠다. 예산도 늘린다”며 “내년은 낫다”고 말했다. 이어 회의가 끝났다.",
            ["김 국장은 “지원을 늘리겠다. 예산도 늘린다”며 “내년은 낫다”고 말했다.", "이어 회의가 끝났다."],
        ),
        ("그는 “규제를 풀겠다.”고 말했다. 끝.", ["그는 “규제를 풀겠다.”고 말했다.", "끝."]),
    ],
)
def test_splits(splitter: SentenceSplitter, text: str, sentences: list[str]) -> None:
    assert splitter.split(text) == sentences


def test_nothing_is_lost(splitter: SentenceSplitter) -> None:
    text = "닫히지 않은 “인용이 있다. 그런데 이어진다!\r\n△하나 △둘 ㈜가나다는 (괄호) 3.1절에 웃었다? 네... 끝"
    assert "".join("".join(splitter.split(text)).split()) == "".join(text.split())
