import dataclasses

import pytest

from lightning_qsgd.nn import PAPER_SIZES, TransformerSizes


def test_defaults_are_the_papers():
    assert dataclasses.astuple(PAPER_SIZES) == (64, 4, 128, 2)


def test_sizes_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER_SIZES.heads = 8


@pytest.mark.parametrize("name", ["embedding", "heads", "feed_forward", "layers"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 1, got 0"):
        TransformerSizes(**{name: 0})


def test_an_embedding_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="`embedding` to be a multiple of `heads`, got 64 and 5"):
        TransformerSizes(heads=5)


def test_an_odd_embedding_is_refused():
    with pytest.raises(ValueError, match="`embedding` to be even, got 63"):
        TransformerSizes(embedding=63, heads=3)
