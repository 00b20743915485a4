"""Document → sentences."""

import re
from functools import cache
from threading import Lock, Thread
from typing import Any

from policy_tagger.inference.encoding import normalise

_END_OF_SENTENCE = re.compile(r"[.!?…][”’\"'」』)\]]*$")
_LOADING = Lock()


@cache
def _kiwi() -> Any:
    """One analyser a process: it takes a second to load.

    Its dictionaries of names and of typing errors are left out: they double its memory and move no sentence boundary (the same
    48,314 sentences of the shipped corpus and of 2,000 policy briefs with and without).
    """
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1, load_default_dict=False, load_typo_dict=False, load_multi_dict=False)


class SentenceSplitter:
    """Splits Korean text with Kiwi (Lee 2024); a line break always ends a sentence."""

    def __init__(self) -> None:
        with _LOADING:
            self._kiwi = _kiwi()

    @staticmethod
    def load_in_background() -> None:
        """Begin to load the analyser while something else is loaded; the first splitter waits for it."""
        Thread(target=SentenceSplitter, daemon=True).start()

    def split(self, text: str) -> list[str]:
        """The sentences of a document, in order, NFC, without surrounding blanks; an empty list for blank text."""
        return [sentence for line in map(normalise, text.splitlines()) if line for sentence in self._split_line(line)]

    def _split_line(self, line: str) -> list[str]:
        sentences: list[str] = []
        end = -1
        for found in self._kiwi.split_into_sents(line):
            # A particle that follows a bracket or quotation mark without a blank is no new sentence: ‘…’은, (○○○ 의원)이라는.
            if found.start == end and not _END_OF_SENTENCE.search(sentences[-1]):
                sentences[-1] += found.text
            else:
                sentences.append(found.text)
            end = found.end
        return sentences
