"""Draw splits of the synthetic sequence task: four weak and strong hints at a noisy label.

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

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.argument_checks import require_at_least
from lightning_qsgd.data.sequence_rules import (
    KEY_GROUPS,
    NUM_BIGRAMS,
    NUM_CLASSES,
    TOKENS_PER_KEY,
    TOPIC_TOKENS_PER_CLASS,
    SequenceRules,
    make_rules,
)

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
