"""Tag sentences of Korean policy and industry reporting with a trained checkpoint; needs no torch."""

from typing import TYPE_CHECKING, Any

from policy_tagger.inference.errors import InputError

if TYPE_CHECKING:
    from policy_tagger.inference.codebook import Codebook as Codebook
    from policy_tagger.inference.tagger import PolicyTagger as PolicyTagger
    from policy_tagger.inference.tagger import TaggedSentence as TaggedSentence

__all__ = ["Codebook", "InputError", "PolicyTagger", "TaggedSentence"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `policy-tagger --help` starts at once."""
    if name == "Codebook":
        from policy_tagger.inference.codebook import Codebook

        return Codebook
    if name in ("PolicyTagger", "TaggedSentence"):
        from policy_tagger.inference import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
