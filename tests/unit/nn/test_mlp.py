import pytest
import torch

from lightning_qsgd.nn import MLP, SmallCNN


def test_logits_have_one_entry_per_class():
    assert MLP(num_classes=7)(torch.rand(3, 1, 8, 8)).shape == (3, 7)


def test_output_equals_the_layers_applied_by_hand():
    torch.manual_seed(0)
    network = MLP(in_features=6, hidden=(5, 4), num_classes=3)
    x = torch.rand(2, 2, 3)
    w1, b1, w2, b2, w3, b3 = network.parameters()
    hidden = torch.relu(torch.relu(x.flatten(1) @ w1.T + b1) @ w2.T + b2)
    assert torch.allclose(network(x), hidden @ w3.T + b3, atol=1e-6)


def test_no_hidden_layer_means_softmax_regression():
    network = MLP(in_features=64, hidden=(), num_classes=10)
    assert [tuple(p.shape) for p in network.parameters()] == [(10, 64), (10,)]


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network, x = MLP(dropout=0.5), torch.rand(4, 64)
    assert not network(x).equal(network(x))
    network.eval()
    assert network(x).equal(network(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0}, "`in_features` to be at least 1, got 0"),
        ({"hidden": (8, 0)}, r"`hidden\[1\]` to be at least 1, got 0"),
        ({"num_classes": 1}, "`num_classes` to be at least 2, got 1"),
        ({"dropout": 1.0}, r"`dropout` to be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"`dropout` to be in \[0, 1\), got -0.1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(**arguments)


def test_widths_without_an_order_are_refused():
    with pytest.raises(TypeError, match=r"Expected `hidden` in an order, got a set: .* a list"):
        MLP(hidden={64, 32})
    with pytest.raises(TypeError, match=r"Expected `channels` in an order, got a frozenset"):
        SmallCNN(channels=frozenset({16, 32}))
