"""Near-duplicate search finds exactly what comparing all pairs finds."""

import random

from policy_tagger.train.similarity import _shingles, near_duplicates


def test_equals_comparing_all_pairs() -> None:
    rng = random.Random(0)
    words = ["정부", "기업", "수출", "규제", "완화", "지원", "예산", "확대", "협회", "발표", "표준", "인증"]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(120)]
    texts += [text[:-1] + "다" for text in texts[:40]]
    expected = set()
    for later in range(len(texts)):
        for earlier in range(later):
            one, other = _shingles(texts[earlier]), _shingles(texts[later])
            if len(one & other) / len(one | other) >= 0.6:
                expected.add((earlier, later))
    found = [(earlier, later) for earlier, later, _ in near_duplicates(texts)]
    assert set(found) == expected
    assert len(found) == len(set(found))
    assert len(expected) > 20
