"""Quantum attention in the transformer starts from the classical weights and shifts no draw."""

import pytest
import torch
from torch import nn

from lightning_qsgd.nn import (
    BiasPerLayer,
    CircuitBias,
    PlainAttention,
    QuantumAttention,
    SharedBias,
    TransformerClassifier,
    TransformerSizes,
    TrigonometricBias,
)

ATTENTIONS = {
    "plain": PlainAttention(),
    "circuit": BiasPerLayer(),
    "amplitude": BiasPerLayer(CircuitBias(readout="amplitude")),
    "shared": SharedBias(),
    "trigonometric": BiasPerLayer(TrigonometricBias()),
    "shared trigonometric": SharedBias(TrigonometricBias(degree=3)),
}
every_attention = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)


def built(attention=None, seed=0, **arguments):
    torch.manual_seed(seed)
    return TransformerClassifier(attention=attention, **arguments)


@pytest.fixture
def tokens():
    return torch.randint(0, 1000, (8, 32), generator=torch.Generator().manual_seed(0))


def biases(network):
    return [layer.self_attn.score_bias for layer in network.layers]


@every_attention
def test_all_common_weights_and_all_later_draws_are_those_of_the_plain_network(attention):
    plain = built()
    expected = torch.rand(3)
    network = built(attention)
    assert torch.rand(3).equal(expected)
    state = network.state_dict()
    assert plain.state_dict().keys() <= state.keys()
    assert all(state[name].equal(value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("attention", "extra"),
    [
        (PlainAttention(), 0),
        (BiasPerLayer(), 2 * 16 + 2),
        (BiasPerLayer(TrigonometricBias(degree=8)), 2 * 16 + 2),
        (SharedBias(), 16 + 2),
    ],
)
def test_control_has_as_many_parameters_as_the_circuit(attention, extra):
    assert sum(p.numel() for p in built(attention).parameters()) == 131_204 + extra


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
def test_closed_gates_give_the_plain_network_bit_for_bit_with_its_dropout(kind, tokens):
    results = []
    for attention in (None, kind(initial_scale=0.0)):
        network = built(attention)
        logits = network(tokens)
        logits.square().sum().backward()
        results.append((logits, network.embedding.weight.grad, torch.get_rng_state()))
    for plain, quantum in zip(*results, strict=True):
        assert plain.equal(quantum)


@every_attention
def test_a_training_step_draws_as_much_as_the_plain_one(attention, tokens):
    states = []
    for each in (None, attention):
        built(each)(tokens).sum().backward()
        states.append(torch.get_rng_state())
    assert states[0].equal(states[1])


def test_open_gates_change_the_logits_and_everything_gets_a_gradient(tokens):
    network = built(BiasPerLayer())
    logits = network(tokens)
    assert not torch.allclose(logits, built()(tokens), atol=1e-4)
    logits.square().sum().backward()
    for layer in network.layers:
        assert layer.self_attn.scale.grad != 0
        assert layer.self_attn.score_bias.weight.grad.count_nonzero() >= 12  # Rz at the end: 0


def test_layers_have_weights_of_their_own_or_share_one_bias():
    first, second = biases(built(BiasPerLayer()))
    assert not first.weight.equal(second.weight)
    shared = biases(built(SharedBias()))
    assert shared[0] is shared[1]


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
def test_first_weights_follow_from_the_seed_of_the_run_and_that_of_the_bias(kind):
    def weight(run, bias):
        return biases(built(kind(CircuitBias(seed=bias)), run))[0].weight

    assert weight(0, 0).equal(weight(0, 0))
    assert not weight(0, 0).equal(weight(1, 0))
    assert not weight(0, 0).equal(weight(0, 1))


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
def test_a_bias_that_is_given_is_copied_and_serves_several_networks(kind):
    given = CircuitBias()
    before = given.weight.detach().clone()
    attention = kind(given)
    networks = [built(attention, seed) for seed in (0, 1)]
    assert given.weight.equal(before)
    assert len({id(bias) for net in networks for bias in biases(net)} & {id(given)}) == 0
    assert biases(networks[0])[0] is not biases(networks[1])[0]


@every_attention
def test_appending_pad_changes_no_logit(attention, tokens):
    network = built(attention, dropout=0.0)
    padded = torch.cat([tokens[:, :20], torch.zeros(8, 12, dtype=torch.int64)], dim=1)
    for mode in (True, False):
        network.train(mode)
        with torch.no_grad():
            assert torch.allclose(network(padded), network(tokens[:, :20]), atol=1e-5)


@every_attention
def test_a_sequence_of_only_pad_is_finite(attention):
    network = built(attention)
    logits = network(torch.tensor([[0, 0, 0], [5, 6, 7]]))
    assert torch.allclose(logits[0], network.head.bias)
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_a_checkpoint_of_the_plain_network_loads_but_for_what_attention_adds(tokens):
    quantum = built(BiasPerLayer(initial_scale=0.0), seed=1)
    found = quantum.load_state_dict(built().state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all(".scale" in name or ".score_bias." in name for name in found.missing_keys)
    # In evaluation torch may take a fused kernel, which rounds otherwise.
    assert torch.allclose(quantum.eval()(tokens), built().eval()(tokens), atol=1e-6)


def test_other_sizes_and_precisions_are_followed():
    sizes = TransformerSizes(embedding=8, heads=2, feed_forward=16, layers=3)
    network = built(BiasPerLayer(), sizes=sizes)
    assert [type(layer.self_attn) for layer in network.layers] == 3 * [QuantumAttention]
    layers = [nn.TransformerEncoderLayer(8, 2, batch_first=True, dtype=torch.float64)]
    BiasPerLayer().install(layers)
    assert {p.dtype for p in layers[0].parameters()} == {torch.float64}


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
@pytest.mark.parametrize(
    "extra",
    [
        {"batch_first": False},
        {"batch_first": True, "bias": False},
        {"batch_first": True, "dtype": torch.float64},
    ],
    ids=str,
)
def test_layers_of_any_settings_compute_the_same_with_a_closed_gate(kind, extra):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **extra)
    x = torch.randn(3, 5, 8, dtype=extra.get("dtype"))
    expected, names = layer(x), set(dict(layer.named_parameters()))
    kind(TrigonometricBias(), initial_scale=0.0).install([layer])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)
    new = set(dict(layer.named_parameters())) - names
    assert new == {"self_attn.scale", "self_attn.score_bias.weight"}
    assert layer.self_attn.batch_first is extra["batch_first"]


@pytest.mark.parametrize(
    "extra",
    [
        {"add_zero_attn": True},
        {"add_bias_kv": True},
        {"kdim": 5, "vdim": 3},
        {"dropout": 0.25, "bias": False},
    ],
    ids=str,
)
def test_settings_of_an_attention_that_is_replaced_by_hand_are_taken_over(extra):
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    layer.self_attn = plain = nn.MultiheadAttention(8, 2, **extra)
    BiasPerLayer(initial_scale=0.0).install([layer])
    ours = layer.self_attn
    assert (ours.dropout, ours.kdim, ours.vdim) == (plain.dropout, plain.kdim, plain.vdim)
    query, key = torch.randn(4, 3, 8), torch.randn(6, 3, plain.kdim)
    value = torch.randn(6, 3, plain.vdim)
    for module in (plain, ours):
        module.eval()
    torch.testing.assert_close(ours(query, key, value), plain(query, key, value))
    for name, parameter in plain.named_parameters():
        assert ours.get_parameter(name) is parameter


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
def test_what_is_frozen_or_evaluates_stays_so_and_optimizers_go_on(kind):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    layer.self_attn.out_proj.bias.requires_grad_(True)
    known = dict(layer.named_parameters())
    kind().install([layer])
    assert not any(module.training for module in layer.modules())
    found = dict(layer.named_parameters())
    assert all(found[name] is parameter for name, parameter in known.items())
    trained = {name for name, parameter in found.items() if parameter.requires_grad}
    new = {"self_attn.scale", "self_attn.score_bias.weight"}
    assert trained == {"self_attn.out_proj.bias", *new}


def test_parametrized_and_tied_projections_stay_so():
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
    layers[1].self_attn.in_proj_weight = layers[0].self_attn.in_proj_weight
    nn.utils.parametrizations.weight_norm(layers[0].self_attn.out_proj)
    BiasPerLayer().install(layers)
    first, second = (layer.self_attn for layer in layers)
    assert first.in_proj_weight is second.in_proj_weight
    assert nn.utils.parametrize.is_parametrized(first.out_proj)


@pytest.mark.parametrize("kind", [BiasPerLayer, SharedBias])
def test_an_attention_of_an_unknown_kind_is_refused_before_any_layer_changes(kind):
    class Own(nn.MultiheadAttention):
        """Does something else."""

    layers = [nn.TransformerEncoderLayer(8, 2, batch_first=True) for _ in range(2)]
    layers[1].self_attn = Own(8, 2, batch_first=True)
    with pytest.raises(TypeError, match=r"Cannot add a bias to the scores of Own.*yourself"):
        kind().install(layers)
    assert type(layers[0].self_attn) is nn.MultiheadAttention
