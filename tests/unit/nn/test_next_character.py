"""The character model sees its whole context, and nothing else."""

import pytest
import torch

from lightning_qsgd.nn import NextCharacter


def test_every_character_of_the_context_changes_the_guess():
    network = NextCharacter(num_classes=5, context=3)
    before = torch.tensor([[0, 1, 2]])
    for place in range(3):
        after = before.clone()
        after[0, place] = 4
        assert not torch.equal(network(before), network(after))
    assert network(before).shape == (1, 5)


def test_rows_do_not_see_each_other():
    network = NextCharacter(num_classes=5, context=2).eval()
    rows = torch.tensor([[0, 1], [2, 3]])
    torch.testing.assert_close(network(rows)[1:], network(rows[1:]))


@pytest.mark.parametrize("shape", [(2, 4), (3,)])
def test_a_context_of_another_length_is_refused(shape):
    with pytest.raises(ValueError, match=r"Expected characters of shape \(batch, 3\)"):
        NextCharacter(context=3)(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 1}, "`num_classes` to be at least 2"),
        ({"context": 0}, "`context` to be at least 1"),
        ({"embedding_dim": 0}, "`embedding_dim` to be at least 1"),
        ({"hidden_dim": 0}, "`hidden_dim` to be at least 1"),
        ({"dropout": 1.0}, r"`dropout` to be in \[0, 1\)"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NextCharacter(**fields)
