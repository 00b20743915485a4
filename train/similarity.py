"""Near-duplicate sentences: exact search for pairs above a Jaccard similarity of character shingles."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

SHINGLE = 5  # characters
THRESHOLD = 0.6


def near_duplicates(texts: Sequence[str], threshold: float = THRESHOLD) -> Iterator[tuple[int, int, float]]:
    """All pairs of texts with Jaccard similarity of their character 5-shingles ≥ `threshold`, identical ones included.

    Prefix filtering (Bayardo, Ma & Srikant 2007): with shingles sorted rarest first, two sets above the threshold share
    one of their first |x| − ⌈t·|x|⌉ + 1 shingles.

    Yields:
        (earlier index, later index, similarity), by later index.
    """
    sets = [_shingles(text) for text in texts]
    frequency = Counter(shingle for shingles in sets for shingle in shingles)
    index: dict[str, list[int]] = defaultdict(list)
    for later, shingles in enumerate(sets):
        ordered = sorted(shingles, key=lambda shingle: (frequency[shingle], shingle))
        prefix = ordered[: len(ordered) - math.ceil(threshold * len(ordered)) + 1]
        for earlier in sorted({candidate for shingle in prefix for candidate in index[shingle]}):
            other = sets[earlier]
            if min(len(other), len(shingles)) < threshold * max(len(other), len(shingles)):
                continue
            shared = len(other & shingles)
            similarity = shared / (len(other) + len(shingles) - shared)
            if similarity >= threshold:
                yield earlier, later, similarity
        for shingle in prefix:
            index[shingle].append(later)


def _shingles(text: str) -> set[str]:
    squeezed = "".join(text.split())
    return {squeezed[start : start + SHINGLE] for start in range(max(1, len(squeezed) - SHINGLE + 1))}
