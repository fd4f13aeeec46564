import numpy as np
import pytest

from lightning_qsgd.data.sequences import generate_split, make_rules

SIZE = 40_000
MIDDLE = slice(4, 28)


@pytest.fixture(scope="module")
def split():
    return generate_split(seed=7, size=SIZE)


def share_bound(share, count):
    """Five standard errors of a share."""
    return 5 * np.sqrt(share * (1 - share) / count)


def clean_labels(tokens):
    """Read the class of each sequence off its topic tokens, by majority, in plain loops."""
    topic_class = {
        token: label for label, row in enumerate(make_rules().topics.tolist()) for token in row
    }
    votes = np.zeros((len(tokens), 4), dtype=int)
    for row, sequence in enumerate(tokens.tolist()):
        for token in sequence:
            if token in topic_class:
                votes[row, topic_class[token]] += 1
    return votes.argmax(axis=1)


def split_drawn_with_plain_loops(seed, size):
    """Repeat the documented draws and place the tokens one sequence at a time, as slow oracle."""
    rules, rng = make_rules(), np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    background = rng.choice(rules.background, (size, 32), p=rules.background_weights)
    u, any_class = rng.random((size, 32)), rng.integers(0, 4, (size, 32))
    member = rng.integers(0, 100, (size, 32))
    has_bigram, first = rng.random(size), rng.integers(0, 8, size)
    position = rng.integers(4, 27, size)
    has_pair, s = rng.random(size), rng.integers(0, 4, size)
    member_a, member_b = rng.integers(0, 4, size), rng.integers(0, 4, size)
    early, late = rng.integers(0, 4, size), rng.integers(28, 32, size)
    moves, offset = rng.random(size), rng.integers(1, 4, size)
    tokens = background.copy()
    for n, y in enumerate(labels.tolist()):
        for p in range(32):
            if u[n, p] < 0.55:
                tokens[n, p] = rules.topics[y, member[n, p]]
            elif u[n, p] < 0.61:
                tokens[n, p] = rules.topics[any_class[n, p], member[n, p]]
        if has_bigram[n] < 0.5:
            tokens[n, position[n]] = rules.bigram_a[first[n]]
            tokens[n, position[n] + 1] = rules.bigram_b[(first[n] + y) % 8]
        if has_pair[n] < 0.5:
            t = next(t for t in range(4) if (s[n] + t) % 4 == y)
            tokens[n, early[n]] = rules.key_a[s[n], member_a[n]]
            tokens[n, late[n]] = rules.key_b[t, member_b[n]]
    noisy = [(y + offset[n]) % 4 if moves[n] < 0.05 else y for n, y in enumerate(labels.tolist())]
    return tokens, np.array(noisy)


@pytest.mark.parametrize("seed", [0, 1, 2**64 + 5])
def test_split_equals_the_same_draws_placed_with_plain_loops(seed):
    tokens, labels = generate_split(seed, size=300)
    slow_tokens, slow_labels = split_drawn_with_plain_loops(seed, size=300)
    assert np.array_equal(tokens, slow_tokens)
    assert np.array_equal(labels, slow_labels)


def test_split_is_fixed_by_its_seed():
    first, again, other = (generate_split(seed, 100) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_tokens_and_labels_are_int64_in_range_and_pad_is_never_drawn(split):
    tokens, labels = split
    assert tokens.shape == (SIZE, 32)
    assert tokens.dtype == labels.dtype == np.int64
    assert tokens.min() >= 1
    assert tokens.max() <= 999
    assert set(labels.tolist()) == {0, 1, 2, 3}


def test_labels_are_uniform(split):
    shares = np.bincount(split[1]) / SIZE
    assert np.abs(shares - 0.25).max() < share_bound(0.25, SIZE)


def test_five_percent_of_labels_contradict_their_tokens(split):
    tokens, labels = split
    noisy = (clean_labels(tokens) != labels).mean()
    assert abs(noisy - 0.05) < share_bound(0.05, SIZE) + 0.001  # majority votes may err


def test_moved_labels_go_to_each_other_class_equally_often(split):
    tokens, labels = split
    offset = (labels - clean_labels(tokens)) % 4
    moved = np.bincount(offset, minlength=4)[1:]
    assert np.abs(moved / moved.sum() - 1 / 3).max() < share_bound(1 / 3, moved.sum()) + 0.005


def test_own_and_other_topic_tokens_have_the_described_shares(split):
    tokens, _ = split
    rules = make_rules()
    unmarked = tokens[~np.isin(tokens, [rules.bigram_a, rules.bigram_b]).any(axis=1)]
    own = rules.topics[clean_labels(unmarked)]
    middle = unmarked[:, MIDDLE]
    is_topic = np.isin(middle, rules.topics)
    is_own = np.array([np.isin(row, ids) for row, ids in zip(middle[:4000], own, strict=False)])
    assert abs(is_topic.mean() - 0.61) < share_bound(0.61, is_topic.size)
    assert abs(is_own.mean() - (0.55 + 0.06 / 4)) < share_bound(0.565, is_own.size) + 0.001


def test_half_of_the_sequences_hold_one_bigram_that_spells_the_label(split):
    tokens, _ = split
    rules = make_rules()
    labels = clean_labels(tokens)
    rows, columns = np.nonzero(np.isin(tokens, rules.bigram_a))
    assert abs(len(rows) / SIZE - 0.5) < share_bound(0.5, SIZE)
    assert len(set(rows.tolist())) == len(rows)
    assert set(columns.tolist()) == set(range(4, 27))
    first = {int(token): i for i, token in enumerate(rules.bigram_a)}
    second = {int(token): i for i, token in enumerate(rules.bigram_b)}
    shift = np.array(
        [
            (second[int(b)] - first[int(a)]) % 8
            for a, b in zip(tokens[rows, columns], tokens[rows, columns + 1], strict=True)
        ]
    )
    assert (shift == labels[rows]).mean() > 0.998


def test_half_of_the_sequences_hold_far_keys_whose_sum_is_the_label(split):
    tokens, _ = split
    rules = make_rules()
    rows, early = np.nonzero(np.isin(tokens, rules.key_a))
    closing_rows, late = np.nonzero(np.isin(tokens, rules.key_b))
    assert np.array_equal(rows, closing_rows)
    assert abs(len(rows) / SIZE - 0.5) < share_bound(0.5, SIZE)
    assert set(early.tolist()) == {0, 1, 2, 3}
    assert set(late.tolist()) == {28, 29, 30, 31}
    s = {int(token): row for row, ids in enumerate(rules.key_a) for token in ids}
    t = {int(token): row for row, ids in enumerate(rules.key_b) for token in ids}
    sums = np.array(
        [
            (s[int(a)] + t[int(b)]) % 4
            for a, b in zip(tokens[rows, early], tokens[rows, late], strict=True)
        ]
    )
    assert (sums == clean_labels(tokens)[rows]).mean() > 0.998


def test_an_empty_split_is_allowed():
    tokens, labels = generate_split(seed=0, size=0)
    assert tokens.shape == (0, 32)
    assert labels.shape == (0,)


@pytest.mark.parametrize(("name", "seed", "size"), [("seed", -1, 5), ("size", 0, -5)])
def test_negative_seeds_and_sizes_are_refused(name, seed, size):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 0, got -"):
        generate_split(seed=seed, size=size)
