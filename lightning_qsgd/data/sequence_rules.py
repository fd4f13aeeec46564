"""Assign the roles that tokens play in the synthetic sequence task."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
