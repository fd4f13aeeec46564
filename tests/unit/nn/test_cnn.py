import pytest
import torch

from lightning_qsgd.nn import SmallCNN


@pytest.mark.parametrize(
    ("in_channels", "image_size", "channels"), [(1, 8, (16, 32)), (3, 16, (4,)), (2, 8, (2, 3, 4))]
)
def test_logits_have_one_entry_per_class(in_channels, image_size, channels):
    network = SmallCNN(in_channels, image_size, channels, num_classes=6)
    assert network(torch.rand(5, in_channels, image_size, image_size)).shape == (5, 6)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = SmallCNN()
    network(torch.rand(8, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network, x = SmallCNN(dropout=0.5), torch.rand(4, 1, 8, 8)
    assert not network(x).equal(network(x))
    network.eval()
    assert network(x).equal(network(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_channels": 0}, "`in_channels` to be at least 1, got 0"),
        ({"image_size": 0}, "`image_size` to be at least 1, got 0"),
        ({"image_size": 10}, "`image_size` to be divisible by 4, got 10: each of the 2 stages"),
        ({"channels": ()}, r"`len\(channels\)` to be at least 1, got 0"),
        ({"channels": (4, 0)}, r"`channels\[1\]` to be at least 1, got 0"),
        ({"num_classes": 1}, "`num_classes` to be at least 2, got 1"),
        ({"dropout": 1.5}, r"`dropout` to be in \[0, 1\), got 1.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SmallCNN(**arguments)
