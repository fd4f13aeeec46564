from itertools import product

import pytest

from lightning_qsgd.data.epoch_sampler import EpochSampler, epoch_order


def test_every_epoch_visits_every_example_once():
    sampler = EpochSampler(num_examples=50, seed=3)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == list(range(50))
        assert len(sampler) == 50


def test_order_does_not_depend_on_the_epochs_served_before():
    uninterrupted = EpochSampler(num_examples=50, seed=3)
    for epoch in range(7):
        uninterrupted.set_epoch(epoch)
        last = list(uninterrupted)
    resumed = EpochSampler(num_examples=50, seed=3)
    resumed.set_epoch(6)
    assert list(resumed) == last


def test_seeds_and_epochs_all_give_different_orders():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed, epoch in product(range(6), range(6))}
    assert len(orders) == 36


def test_the_widest_seed_is_accepted():
    assert sorted(EpochSampler(num_examples=3, seed=2**64 - 1)) == [0, 1, 2]


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="Expected `num_examples` to be at least 1, got 0"):
        EpochSampler(num_examples=0, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=rf"`seed` to be an integer in \[0, 2\*\*64\), got {seed}"):
        EpochSampler(num_examples=4, seed=seed)


def test_a_negative_epoch_is_refused():
    with pytest.raises(ValueError, match="Expected `epoch` to be at least 0, got -1"):
        EpochSampler(num_examples=4, seed=0).set_epoch(-1)
