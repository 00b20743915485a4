"""Document → sentences."""

import re

from policy_tagger.inference.encoding import normalise

_OPENING, _CLOSING = "“‘「『", "”’」』"
# What continues a sentence after a closing quotation mark or a period inside a quotation: particles of citation.
_CONTINUATION = re.compile(r"^(?:[”’\"'」』]\s*)?(?:이?라고|이?라며|이?라면서|이?라는|며|면서|고|는|라)(?=[\s,])")


class SentenceSplitter:
    """Splits Korean text with Kiwi (Lee 2024); a line break always ends a sentence."""

    def __init__(self) -> None:
        from kiwipiepy import Kiwi

        self._kiwi = Kiwi(num_workers=1)

    def split(self, text: str) -> list[str]:
        """The sentences of a document, in order, NFC, without surrounding blanks; an empty list for blank text."""
        sentences: list[str] = []
        for paragraph in map(normalise, text.splitlines()):
            if paragraph:
                sentences += _rejoin_quotations([found.text for found in self._kiwi.split_into_sents(paragraph)])
        return sentences


def _rejoin_quotations(pieces: list[str]) -> list[str]:
    """Undo cuts inside a quotation and before a particle of citation (“….”라고 말했다)."""
    joined: list[str] = []
    for piece in pieces:
        if joined and (_open_quotation(joined[-1]) or _CONTINUATION.match(piece)):
            joined[-1] += ("" if _CONTINUATION.match(piece) else " ") + piece
        else:
            joined.append(piece)
    return joined


def _open_quotation(text: str) -> bool:
    return any(text.count(left) > text.count(right) for left, right in zip(_OPENING, _CLOSING, strict=True))
