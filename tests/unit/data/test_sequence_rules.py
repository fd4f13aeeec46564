import numpy as np

from lightning_qsgd.data.sequences import make_rules


def rules_dealt_one_id_at_a_time():
    """Deal the permuted ids out in plain loops, as a slow oracle."""
    ids = iter(np.random.default_rng(20251101).permutation(range(1, 1000)).tolist())
    take = lambda count: [next(ids) for _ in range(count)]  # noqa: E731
    return {
        "topics": [take(100) for _ in range(4)],
        "bigram_a": take(8),
        "bigram_b": take(8),
        "key_a": [take(4) for _ in range(4)],
        "key_b": [take(4) for _ in range(4)],
        "background": list(ids),
    }


def test_rules_equal_ids_dealt_one_at_a_time():
    rules = make_rules()
    for role, ids in rules_dealt_one_id_at_a_time().items():
        assert getattr(rules, role).tolist() == ids, role


def test_roles_are_disjoint_and_use_every_id_but_pad():
    rules = make_rules()
    roles = ["topics", "bigram_a", "bigram_b", "key_a", "key_b", "background"]
    ids = np.concatenate([getattr(rules, role).ravel() for role in roles])
    assert sorted(ids.tolist()) == list(range(1, 1000))
    assert len(rules.background) == 551


def test_background_weights_follow_zipf_with_exponent_one():
    weights = make_rules().background_weights
    harmonic = sum(1 / rank for rank in range(1, 552))
    oracle = [1 / rank / harmonic for rank in range(1, 552)]
    assert np.allclose(weights, oracle, rtol=1e-13)
