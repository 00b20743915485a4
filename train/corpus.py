"""Raw text → WordPiece tokenizer → memory-mapped token shards → masked batches, for pretraining."""

import json
import lzma
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from policy_tagger.inference.errors import InputError

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
SHARD_DTYPE = np.uint16  # two bytes a token; holds vocabularies up to 65,536


def read_texts(pattern: str, folder: Path) -> Iterator[str]:
    """The `text` of every JSON line in the files that match, NFC, in file order.

    Raises:
        InputError: no file matches.
    """
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise InputError(
            f"corpus.sources: no file matches {folder / pattern}. Set corpus.folder to where the text lies."
        )
    for path in paths:
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield unicodedata.normalize("NFC", json.loads(line)["text"])


def train_tokenizer(samples: list[Iterator[str]], vocab_size: int, characters_a_source: int) -> Tokenizer:
    """A cased WordPiece tokenizer on equally large samples of each source.

    Args:
        samples: One stream of texts a source.
        vocab_size: Special tokens included.
        characters_a_source: How much of each stream is read.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    # Not strip_accents: it decomposes Hangul.
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), clean])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=5,
        limit_alphabet=2600,  # about 2,300 Hangul syllables in use, Latin, digits, signs, common hanja
        special_tokens=SPECIAL_TOKENS,
        show_progress=False,
    )

    def head(texts: Iterator[str]) -> Iterator[str]:
        left = characters_a_source
        for text in texts:
            yield text
            left -= len(text)
            if left <= 0:
                return

    tokenizer.train_from_iterator((text for texts in samples for text in head(texts)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


def write_shard(texts: Iterator[str], tokenizer: Tokenizer, path: Path) -> int:
    """Tokenise a source into one flat file of token ids, documents joined by [SEP]; returns the number of tokens."""
    unfinished = path.with_suffix(".unfinished")
    total = 0
    with unfinished.open("wb") as shard:
        for batch in _batches(texts, 2000):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                ids = np.array([*encoding.ids, SEP], dtype=SHARD_DTYPE)
                shard.write(ids.tobytes())
                total += len(ids)
    unfinished.rename(path)
    return total


def _batches(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class PackedCorpus:
    """Fixed-length sequences over memory-mapped shards, in an order that depends on the seed and epoch alone.

    Args:
        shards: Path and number of repeats in an epoch, for each source.
        sequence_length: Tokens in a sequence, [CLS] and [SEP] included; there is no padding.
    """

    def __init__(self, shards: list[tuple[Path, int]], sequence_length: int, seed: int):
        self.sequence_length = sequence_length
        self.seed = seed
        width = sequence_length - 2
        self._sequences = []
        index = []
        for number, (path, repeats) in enumerate(shards):
            tokens = np.memmap(path, dtype=SHARD_DTYPE, mode="r")
            count = len(tokens) // width
            self._sequences.append(tokens[: count * width].reshape(count, width))
            rows = np.stack([np.full(count, number, dtype=np.int32), np.arange(count, dtype=np.int32)], axis=1)
            index += [rows] * repeats
        self._index = np.concatenate(index)
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        """Sequences in an epoch, repeats included."""
        return len(self._index)

    def batch(self, step: int, size: int) -> np.ndarray:
        """Token ids of the `step`-th batch: int64 (size, sequence_length)."""
        out = np.empty((size, self.sequence_length), dtype=np.int64)
        out[:, 0], out[:, -1] = CLS, SEP
        for row in range(size):
            epoch, position = divmod(step * size + row, len(self))
            if self._order is None or self._order[0] != epoch:
                self._order = (epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self)))
            source, sequence = self._index[self._order[1][position]]
            out[row, 1:-1] = self._sequences[source][sequence]
        return out

    def sample(self, tokens: int) -> np.ndarray:
        """About `tokens` token ids drawn in the order of training, (n, sequence_length), for the initial embeddings."""
        count = min(len(self), max(1, tokens // self.sequence_length))
        return self.batch(0, count)


def mask_words(
    ids: np.ndarray, is_continuation: np.ndarray, rate: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Whole-word masking: every piece of a chosen word is predicted; 80% [MASK], 10% random, 10% as it was.

    Source: Devlin et al. 2019 for the shares; whole words as in the later release of its code.

    Args:
        ids: int64 (n, length).
        is_continuation: bool (vocab_size,), true for pieces that go with the one before (`##…`); all false to mask single tokens.
        rate: Expected share of words chosen.

    Returns:
        inputs: int64 (n, length), with the replacements.
        chosen: bool (n, length), the positions to predict.
    """
    word = np.cumsum(~is_continuation[ids], axis=1) - 1
    chosen_words = rng.random(ids.shape) < rate
    chosen = np.take_along_axis(chosen_words, np.maximum(word, 0), axis=1)
    chosen &= ids >= len(SPECIAL_TOKENS)
    draw = rng.random(ids.shape)
    inputs = np.where(chosen & (draw < 0.8), MASK, ids)
    random_ids = rng.integers(len(SPECIAL_TOKENS), len(is_continuation), ids.shape)
    return np.where(chosen & (draw >= 0.9), random_ids, inputs), chosen


def ppmi_embeddings(ids: np.ndarray, vocab_size: int, dimensions: int, seed: int, std: float = 0.05) -> np.ndarray:
    """Word embeddings from positive pointwise mutual information, factorised.

    Source: Levy, Goldberg & Dagan 2015 (window 5, context distribution to the power 0.75). U·Σ^¼, centred, rows of equal
    length: in a short trial masked language modelling started better from it than from U·√Σ.

    Args:
        ids: int64 (n, length); co-occurrences are counted inside a row.
        std: Standard deviation the result is scaled to.

    Returns:
        float32 (vocab_size, dimensions); special tokens and unseen pieces are small random vectors.
    """
    from scipy.sparse import coo_matrix, csr_matrix
    from sklearn.utils.extmath import randomized_svd

    counts = csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    for rows in np.array_split(ids, max(1, ids.size // 2_000_000)):
        for distance in range(1, 6):
            left, right = rows[:, :-distance].ravel(), rows[:, distance:].ravel()
            ones = np.ones(len(left), dtype=np.float32)
            counts = counts + coo_matrix((ones, (left, right)), shape=counts.shape).tocsr()
    counts = (counts + counts.T).tocoo()
    keep = (counts.row >= len(SPECIAL_TOKENS)) & (counts.col >= len(SPECIAL_TOKENS))
    row, col, value = counts.row[keep], counts.col[keep], counts.data[keep].astype(np.float64)
    word = np.bincount(row, value, minlength=vocab_size)
    context = np.bincount(col, value, minlength=vocab_size) ** 0.75
    information = np.log(value * context.sum() / (word[row] * context[col]))
    positive = information > 0
    ppmi = csr_matrix((information[positive], (row[positive], col[positive])), shape=counts.shape)
    left_vectors, singular_values, _ = randomized_svd(ppmi, dimensions, random_state=seed)
    embeddings = left_vectors * singular_values**0.25
    seen = word > 0
    embeddings[seen] -= embeddings[seen].mean(axis=0)
    embeddings[seen] /= np.linalg.norm(embeddings[seen], axis=1, keepdims=True)
    embeddings *= std / embeddings[seen].std()
    embeddings[~seen] = np.random.default_rng(seed).normal(0, std / 2, (int((~seen).sum()), dimensions))
    return embeddings.astype(np.float32)
