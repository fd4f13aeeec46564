"""Synthetic token sequences to classify: rules, generator, data module.

The paper trains a text classifier on a synthetic set that it does not describe. This one is the
project's own; Adam lands near the paper's accuracy on it. A sequence of 32 tokens is built in this
order, all draws of one line before those of the next:

1. labels, uniform over 4 classes;
2. background tokens at every position;
3. per position u uniform in [0, 1): below .55 a topic token of the label's class replaces the
   background, from .55 to below .61 one of a uniformly drawn class;
4. with probability .5 a bigram (a_i, b_((i + label) mod 8)) starting at a position in [4, 26];
5. with probability .5 a pair of far keys, keyA[s] among the first 4 positions and keyB[t] among
   the last 4, with (s + t) mod 4 equal to the label;
6. with probability .05 the label, not the tokens, moves to another class: no classifier can exceed
   95 % in expectation.

Readings where the description leaves room: each of these lines draws for the whole split at once;
a decision is drawn for every sequence, and so are its details, also where it comes out negative;
details are uniform; both ends of the position interval [4, L - 6] are possible.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from lightning_qsgd.argument_checks import require_at_least, require_seed
from lightning_qsgd.data.split_data_module import SplitDataModule, Splits

VOCAB_SIZE = 1000
PAD_TOKEN = 0
NUM_CLASSES = 4
RULES_SEED = 20251101

TOPIC_TOKENS_PER_CLASS = 100
NUM_BIGRAMS = 8
KEY_GROUPS = 4
TOKENS_PER_KEY = 4


@dataclass(frozen=True)
class SequenceRules:
    """Hold which token ids play which role; the roles share no token and none is PAD.

    Args:
        topics: Topic tokens of each class, int64, shape (4, 100).
        bigram_a: First tokens of the bigrams, int64, shape (8,).
        bigram_b: Second tokens of the bigrams, int64, shape (8,).
        key_a: Opening keys, one row per key number s, int64, shape (4, 4).
        key_b: Closing keys, one row per key number t, int64, shape (4, 4).
        background: Tokens that say nothing about the class, int64, shape (551,).
        background_weights: Probability of each background token, float64, shape (551,).

    Example:
        >>> make_rules().background.shape
        (551,)
    """

    topics: NDArray[np.int64]
    bigram_a: NDArray[np.int64]
    bigram_b: NDArray[np.int64]
    key_a: NDArray[np.int64]
    key_b: NDArray[np.int64]
    background: NDArray[np.int64]
    background_weights: NDArray[np.float64]


def make_rules() -> SequenceRules:
    """Deal the permuted ids 1..999 out to the roles, always in the same way.

    The permutation comes from `default_rng(20251101)`. Its ids go, in order, to 4 x 100 topic
    tokens, 8 + 8 bigram tokens, 4 x 4 opening and 4 x 4 closing keys; the remaining 551 are
    background, the r-th of them (r from 1) with a probability proportional to 1 / r (Zipf, 1.0).

    Returns:
        The roles; two calls give equal arrays.

    Example:
        >>> rules = make_rules()
        >>> rules.topics.shape, rules.key_a.shape
        ((4, 100), (4, 4))
        >>> round(float(rules.background_weights.sum()), 12)
        1.0
    """
    ids = np.random.default_rng(RULES_SEED).permutation(np.arange(1, VOCAB_SIZE, dtype=np.int64))
    role_sizes = [
        NUM_CLASSES * TOPIC_TOKENS_PER_CLASS,
        NUM_BIGRAMS,
        NUM_BIGRAMS,
        KEY_GROUPS * TOKENS_PER_KEY,
        KEY_GROUPS * TOKENS_PER_KEY,
    ]
    topics, bigram_a, bigram_b, key_a, key_b, background = np.split(ids, np.cumsum(role_sizes))
    return SequenceRules(
        topics=topics.reshape(NUM_CLASSES, TOPIC_TOKENS_PER_CLASS),
        bigram_a=bigram_a,
        bigram_b=bigram_b,
        key_a=key_a.reshape(KEY_GROUPS, TOKENS_PER_KEY),
        key_b=key_b.reshape(KEY_GROUPS, TOKENS_PER_KEY),
        background=background,
        background_weights=_zipf_weights(len(background)),
    )


def _zipf_weights(size: int) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = 1.0 / np.arange(1, size + 1, dtype=np.float64)
    weights /= weights.sum()
    return weights


SEQUENCE_LENGTH = 32
OWN_TOPIC_BELOW = 0.55
ANY_TOPIC_BELOW = 0.61
BIGRAM_PROBABILITY = 0.5
KEY_PAIR_PROBABILITY = 0.5
LABEL_NOISE = 0.05
KEY_ZONE = 4

IntArray = NDArray[np.int64]


def generate_split(seed: int, size: int) -> tuple[IntArray, IntArray]:
    """Draw one split; the rules are the same for all splits, the draws follow the seed.

    Args:
        seed: Non-negative integer for `numpy.random.default_rng`.
        size: Number of sequences, 0 or more.

    Returns:
        Token ids in 1..999, int64, shape (size, 32), and labels in 0..3, int64, shape (size,).

    Raises:
        ValueError: If `seed` or `size` is negative.

    Example:
        >>> tokens, labels = generate_split(seed=0, size=384)
        >>> tokens.shape, labels.shape
        ((384, 32), (384,))
        >>> bool((tokens == generate_split(seed=0, size=384)[0]).all())
        True
    """
    require_at_least("seed", seed, 0)
    require_at_least("size", size, 0)
    rules = make_rules()
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, size=size)
    tokens = rng.choice(rules.background, size=(size, SEQUENCE_LENGTH), p=rules.background_weights)
    tokens = _with_topics(tokens, labels, rules, rng)
    _insert_bigrams(tokens, labels, rules, rng)
    _insert_key_pairs(tokens, labels, rules, rng)
    return tokens, _with_label_noise(labels, rng)


def _with_topics(
    tokens: IntArray, labels: IntArray, rules: SequenceRules, rng: np.random.Generator
) -> IntArray:
    u = rng.random(tokens.shape)
    any_class = rng.integers(0, NUM_CLASSES, size=tokens.shape)
    member = rng.integers(0, TOPIC_TOKENS_PER_CLASS, size=tokens.shape)
    topic_class = np.where(u < OWN_TOPIC_BELOW, labels[:, None], any_class)
    return np.where(u < ANY_TOPIC_BELOW, rules.topics[topic_class, member], tokens)


def _insert_bigrams(
    tokens: IntArray, labels: IntArray, rules: SequenceRules, rng: np.random.Generator
) -> None:
    size, length = labels.shape, tokens.shape[1]
    rows = np.flatnonzero(rng.random(size) < BIGRAM_PROBABILITY)
    first = rng.integers(0, NUM_BIGRAMS, size=size)[rows]
    position = rng.integers(KEY_ZONE, length - 6, size=size, endpoint=True)[rows]
    tokens[rows, position] = rules.bigram_a[first]
    tokens[rows, position + 1] = rules.bigram_b[(first + labels[rows]) % NUM_BIGRAMS]


def _insert_key_pairs(
    tokens: IntArray, labels: IntArray, rules: SequenceRules, rng: np.random.Generator
) -> None:
    size, length = labels.shape, tokens.shape[1]
    rows = np.flatnonzero(rng.random(size) < KEY_PAIR_PROBABILITY)
    opening = rng.integers(0, KEY_GROUPS, size=size)[rows]
    closing = (labels[rows] - opening) % KEY_GROUPS
    opening_member = rng.integers(0, TOKENS_PER_KEY, size=size)[rows]
    closing_member = rng.integers(0, TOKENS_PER_KEY, size=size)[rows]
    early = rng.integers(0, KEY_ZONE, size=size)[rows]
    late = rng.integers(length - KEY_ZONE, length, size=size)[rows]
    tokens[rows, early] = rules.key_a[opening, opening_member]
    tokens[rows, late] = rules.key_b[closing, closing_member]


def _with_label_noise(labels: IntArray, rng: np.random.Generator) -> IntArray:
    moves = rng.random(len(labels)) < LABEL_NOISE
    offset = rng.integers(1, NUM_CLASSES, size=len(labels))
    return np.where(moves, (labels + offset) % NUM_CLASSES, labels)


@dataclass(frozen=True)
class SequenceSizes:
    """Hold how many sequences each split has.

    Args:
        train: Sequences to learn from, 1 or more; the default gives 12 batches of 32.
        val: Sequences to choose by, 1 or more.
        test: Sequences to report on, 1 or more.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> SequenceSizes(train=64)
        SequenceSizes(train=64, val=500, test=2000)
    """

    train: int = 384
    val: int = 500
    test: int = 2000

    def __post_init__(self) -> None:
        require_at_least("train", self.train, 1)
        require_at_least("val", self.val, 1)
        require_at_least("test", self.test, 1)


DEFAULT_SIZES = SequenceSizes()


class SequencesDataModule(SplitDataModule):
    """Serve token sequences of length 32 in 4 classes, drawn by `generate_split`.

    x is int64 in 1..999, shape (batch, 32); y is int64 in 0..3. The splits of `data_seed` d are
    those of generator seeds 3 d (train), 3 d + 1 (validation) and 3 d + 2 (test), so that no two
    data seeds share a split.

    Args:
        batch_size: Sequences per batch, 1 or more; the last batch may be smaller.
        sizes: Number of sequences per split.
        data_seed: Seed of the sequences, in [0, 2**64). None: `torch.initial_seed()` at `setup`, so
            that each training seed has data of its own.
        order_seed: Seed of the train order. None: `torch.initial_seed()` at `setup`, i.e. the seed
            given to `seed_everything`.
        num_workers: Loader processes; 0 loads in the main process.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> sequences = SequencesDataModule()
        >>> sequences.setup("fit")
        >>> x, y = next(iter(sequences.train_dataloader()))
        >>> x.shape, len(sequences.train_dataloader())
        (torch.Size([32, 32]), 12)
    """

    num_classes: ClassVar[int] = NUM_CLASSES
    input_shape: ClassVar[tuple[int, ...]] = (SEQUENCE_LENGTH,)
    vocab_size: ClassVar[int] = VOCAB_SIZE
    pad_token: ClassVar[int] = PAD_TOKEN

    def __init__(
        self,
        batch_size: int = 32,
        sizes: SequenceSizes = DEFAULT_SIZES,
        data_seed: int | None = 0,
        order_seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, order_seed, num_workers)
        require_seed("data_seed", data_seed, bits=64)
        self.sizes = sizes
        self.data_seed = data_seed

    def make_splits(self) -> Splits:
        """Draw the sequences.

        Returns:
            Pairs (tokens, labels) for train, validation and test.
        """
        seed = torch.initial_seed() if self.data_seed is None else self.data_seed
        sizes = (self.sizes.train, self.sizes.val, self.sizes.test)
        return Splits(*(_draw(3 * seed + part, size) for part, size in enumerate(sizes)))


def _draw(seed: int, size: int) -> TensorDataset:
    tokens, labels = generate_split(seed, size)
    return TensorDataset(torch.from_numpy(tokens), torch.from_numpy(labels))
