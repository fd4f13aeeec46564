"""Attention against torch's own at gate 0, and against plain loops at gate 1."""

import copy
import math
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import ScoreCircuit
from lightning_qsgd.nn.attention import (
    BiasPerLayer,
    CircuitBias,
    QuantumAttention,
    ScoreBias,
    TrigonometricBias,
)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHAPES = [(2, 2, 8, 5, 5), (3, 4, 64, 32, 32), (1, 1, 4, 1, 1), (2, 3, 12, 1, 7), (5, 2, 6, 9, 4)]
"""Batch, heads, width, queries, keys."""


def pair(width: int, heads: int, **extra: Any) -> tuple[nn.MultiheadAttention, QuantumAttention]:
    """Return torch's attention and ours at gate 0, built from the same seed."""
    torch.manual_seed(7)
    theirs = nn.MultiheadAttention(width, heads, **{"batch_first": True, **extra})
    torch.manual_seed(7)
    return theirs, QuantumAttention(width, heads, initial_scale=0.0, **extra)


def padding(batch: int, keys: int) -> Tensor:
    hidden = torch.rand(batch, keys) < 0.4
    hidden[:, 0] = False
    return hidden


def causal(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).triu(1)


def loops(attention: QuantumAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Compute Eq. 3 score by score; the mask, shape (L, S), is True where hidden."""
    heads, width = attention.num_heads, attention.head_dim
    q, k, v = (x @ attention.in_proj_weight.t() + attention.in_proj_bias).chunk(3, dim=-1)
    rows = []
    for i in range(len(x)):
        row = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            logits = []
            for j in range(len(x)):
                raw = (q[i, part] * k[j, part]).sum()
                phi = attention.score_bias(raw)
                hidden = -math.inf if mask[i, j] else 0.0
                logits.append(raw / math.sqrt(width) + attention.scale * phi + hidden)
            weights = torch.stack(logits).softmax(0)
            row.append(sum(w * v[j, part] for j, w in enumerate(weights)))
        rows.append(torch.cat(row))
    return torch.stack(rows) @ attention.out_proj.weight.t() + attention.out_proj.bias


@pytest.mark.parametrize("bias", [CircuitBias(evaluation="literal"), TrigonometricBias(degree=3)])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_output_and_gradients_are_those_of_equation_3_in_plain_loops(
    bias: ScoreBias, scale: float
) -> None:
    attention = QuantumAttention(4, 2, copy.deepcopy(bias), initial_scale=scale).double()
    x, mask = torch.randn(5, 4, dtype=torch.float64) * 2, causal(5, 5)
    expected = loops(attention, x, mask)
    gradients = torch.autograd.grad(expected.square().sum(), list(attention.parameters()))
    if isinstance(bias, CircuitBias):  # only the oracle runs one circuit per score
        fast = QuantumAttention(4, 2, CircuitBias(), initial_scale=scale).double()
        fast.load_state_dict(attention.state_dict())
        attention = fast
    output = attention(x[None], x[None], x[None], attn_mask=mask)[0][0]
    ours = torch.autograd.grad(output.square().sum(), list(attention.parameters()))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours, gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masks", ["none", "padding", "causal", "both", "each"])
@pytest.mark.parametrize(("batch", "heads", "width", "queries", "keys"), SHAPES)
def test_gate_of_zero_is_torchs_attention_bit_for_bit(
    batch: int, heads: int, width: int, queries: int, keys: int, masks: str
) -> None:
    theirs, ours = pair(width, heads)
    x = torch.randn(batch, queries, width)
    y = x if queries == keys else torch.randn(batch, keys, width)
    given: dict[str, Tensor] = {}
    if masks in {"padding", "both"}:
        given["key_padding_mask"] = padding(batch, keys)
    if masks in {"causal", "both"}:
        given["attn_mask"] = causal(queries, keys)
    if masks == "each":
        given["attn_mask"] = causal(queries, keys).repeat(batch * heads, 1, 1)
    for average in (True, False):
        expected = theirs(x, y, y, average_attn_weights=average, **given)
        output = ours(x, y, y, average_attn_weights=average, **given)
        assert torch.equal(output[0], expected[0])
        assert torch.equal(output[1], expected[1])
    without, none = ours(x, y, y, need_weights=False, **given)
    assert none is None
    assert torch.equal(without, expected[0])
    fused = theirs(x, y, y, need_weights=False, **given)[0]
    torch.testing.assert_close(without, fused, rtol=0, atol=1e-6)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("masks", ["none", "padding", "each", "numbers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gate_of_zero_is_as_close_to_torch_as_the_docs_say(
    dtype: torch.dtype, masks: str, autocast: bool
) -> None:
    theirs, ours = (module.to(dtype) for module in pair(64, 4))
    x = torch.randn(3, 32, 64, dtype=dtype)
    given: dict[str, Tensor] = {}
    if masks == "padding":
        given["key_padding_mask"] = padding(3, 32)
    if masks == "each":
        given["attn_mask"] = causal(32, 32).repeat(12, 1, 1)
    if masks == "numbers":
        given["attn_mask"] = torch.randn(12, 32, 32, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        by_kernel = [module(x, x, x, need_weights=False, **given)[0] for module in (theirs, ours)]
        expected, output = theirs(x, x, x, **given), ours(x, x, x, **given)
    assert output[0].dtype == expected[0].dtype
    in_16_bits = dtype == torch.bfloat16 or (autocast and dtype == torch.float32)
    rounding = 8e-3 if in_16_bits else {torch.float32: 1e-6, torch.float64: 1e-15}[dtype]
    torch.testing.assert_close(*by_kernel, rtol=0, atol=rounding)
    if masks == "numbers":  # torch adds them within the product
        torch.testing.assert_close(output, expected, rtol=0, atol=rounding)
    else:
        assert torch.equal(output[0], expected[0])
        assert torch.equal(output[1], expected[1])


def test_masks_of_numbers_are_added_as_in_torch() -> None:
    theirs, ours = pair(8, 2)
    x = torch.randn(3, 5, 8)
    given = {"attn_mask": torch.randn(5, 5), "key_padding_mask": torch.randn(3, 5)}
    for out, expected in zip(ours(x, x, x, **given), theirs(x, x, x, **given), strict=True):
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


def test_gradients_at_gate_zero_are_those_of_torch_and_the_gate_has_one_of_its_own() -> None:
    theirs, ours = pair(8, 2)
    x = torch.randn(3, 5, 8)
    for module in (theirs, ours):
        module(x, x, x)[0].square().sum().backward()
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad)
    assert ours.scale.grad is not None
    assert ours.scale.grad.abs() > 0


@pytest.mark.parametrize(
    "extra", [{"bias": False}, {"kdim": 5, "vdim": 7}, {"kdim": 3, "bias": False}]
)
def test_other_widths_and_no_bias_are_as_in_torch(extra: dict[str, Any]) -> None:
    theirs, ours = pair(8, 2, **extra)
    query = torch.randn(3, 4, 8)
    key, value = torch.randn(3, 6, ours.kdim), torch.randn(3, 6, ours.vdim)
    for out, expected in zip(ours(query, key, value), theirs(query, key, value), strict=True):
        assert torch.equal(out, expected)


def test_unbatched_input_is_as_in_torch() -> None:
    theirs, ours = pair(8, 2)
    x = torch.randn(5, 8)
    given = {"key_padding_mask": padding(1, 5)[0], "attn_mask": causal(5, 5)}
    for out, expected in zip(ours(x, x, x, **given), theirs(x, x, x, **given), strict=True):
        assert torch.equal(out, expected)
    assert ours(x, x, x, need_weights=False)[1] is None


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_query_that_may_see_nothing_is_as_in_torch_and_spoils_no_gradient(scale: float) -> None:
    theirs, ours = pair(8, 2)
    ours.scale.data.fill_(scale)
    x, hidden = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
    hidden[1] = True
    for need in (True, False):
        expected = theirs(x, x, x, key_padding_mask=hidden, need_weights=need)[0]
        output = ours(x, x, x, key_padding_mask=hidden, need_weights=need)[0]
        assert torch.equal(output[1].isnan(), expected[1].isnan())
        if not need:
            torch.testing.assert_close(output[1], expected[1])
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


def test_scores_that_overflow_in_half_precision_are_as_in_torch() -> None:
    theirs, ours = (module.half() for module in pair(8, 2))
    ours.scale.data.fill_(1.0)
    x = torch.randn(2, 4, 8).half() * 400  # some scores are infinite, of either sign
    expected, output = theirs(x, x, x)[1], ours(x, x, x)[1]
    assert expected.isnan().any()
    assert torch.equal(output.isnan(), expected.isnan())
    assert (output[~output.isnan()] >= 0).all()


def test_causal_hint_follows_torch() -> None:
    theirs, ours = pair(8, 2)
    x = torch.randn(2, 5, 8)
    for need in (True, False):
        given = {"attn_mask": causal(5, 5), "is_causal": True, "need_weights": need}
        torch.testing.assert_close(ours(x, x, x, **given)[0], theirs(x, x, x, **given)[0])
    for module in (theirs, ours):
        with pytest.raises(RuntimeError, match=r"is_causal"):
            module(x, x, x, is_causal=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False])
def test_autocast_keeps_the_precision_that_torch_keeps(training: bool, device: str) -> None:
    theirs, ours = (module.to(device).train(training) for module in pair(16, 2))
    x = torch.randn(2, 5, 16, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        expected, output = theirs(x, x, x)[0], ours(x, x, x)[0]
    assert output.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-2)
    ours.scale.data.fill_(1.0)
    with torch.autocast(device, dtype=torch.bfloat16):
        ours(x, x, x)[0].float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("device", DEVICES)
def test_devices_agree(device: str) -> None:
    attention = QuantumAttention(16, 4)
    x = torch.randn(3, 6, 16)
    expected = attention(x, x, x)[0]
    moved = copy.deepcopy(attention).to(device)
    output = moved(*[x.to(device)] * 3)[0]
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-4, atol=1e-5)
    output.square().sum().backward()
    expected.square().sum().backward()
    for own, other in zip(moved.parameters(), attention.parameters(), strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad.cpu(), other.grad, rtol=1e-3, atol=1e-4)


def test_dropout_drops_in_training_alone_and_draws_as_torch_does() -> None:
    theirs, ours = pair(8, 2, dropout=0.5)
    x = torch.randn(3, 5, 8)
    outputs = []
    for module in (theirs, ours):
        torch.manual_seed(1)
        outputs.append(module(x, x, x)[0])
    assert torch.equal(*outputs)
    assert torch.equal(ours.eval()(x, x, x)[0], ours(x, x, x)[0])


def encoder_layer(attention: QuantumAttention) -> nn.TransformerEncoderLayer:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    layer.self_attn = attention
    return layer


def test_encoder_layer_calls_it_in_training_and_in_evaluation() -> None:
    layer = encoder_layer(QuantumAttention(8, 2))
    plain = copy.deepcopy(layer)
    plain.self_attn.scale.data.zero_()
    x, hidden = torch.randn(3, 5, 8), padding(3, 5)
    expected = layer(x, src_key_padding_mask=hidden).detach()
    layer.eval()
    plain.eval()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(layer(x, src_key_padding_mask=hidden), expected)
            difference = plain(x, src_key_padding_mask=hidden) - expected
            assert difference.abs().max() > 1e-3


def test_encoder_of_such_layers_calls_it_in_evaluation_too() -> None:
    encoder = nn.TransformerEncoder(
        encoder_layer(QuantumAttention(8, 2)), 2, enable_nested_tensor=False
    )
    x, hidden = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    expected = encoder(x, src_key_padding_mask=hidden).detach()
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(x, src_key_padding_mask=hidden), expected)
    with pytest.warns(UserWarning, match="_qkv_same_embed_dim was not True"):
        nn.TransformerEncoder(encoder_layer(QuantumAttention(8, 2)), 1)


FOREIGN = [
    {"batch_first": False},
    {"add_zero_attn": True},
    {"add_bias_kv": True},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": False, "bias": False},
    {"kdim": 8, "vdim": 8, "add_zero_attn": True, "batch_first": False},
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("extra", FOREIGN, ids=str)
def test_all_settings_of_torchs_attention_are_followed_at_gate_zero(
    extra: dict[str, Any], masked: bool
) -> None:
    theirs, ours = pair(8, 2, **extra)
    of_batch = 0 if ours.batch_first else 1
    query, key = (torch.randn(3, n, 8).transpose(0, of_batch) for n in (4, 6))
    masks = {"key_padding_mask": padding(3, 6), "attn_mask": causal(4, 6)} if masked else {}
    for need_weights in (True, False):
        given = {"need_weights": need_weights, **masks}
        both = ours(query, key, key, **given), theirs(query, key, key, **given)
        torch.testing.assert_close(*both, rtol=0, atol=1e-6)
    alone = query.select(of_batch, 1), *(2 * [key.select(of_batch, 1)])
    torch.testing.assert_close(ours(*alone), theirs(*alone), rtol=0, atol=1e-6)


def test_open_gate_does_not_mix_the_entries_of_a_batch_wherever_it_is() -> None:
    first = QuantumAttention(8, 2)
    last = QuantumAttention(8, 2, batch_first=False)
    last.load_state_dict(first.state_dict())
    x = torch.randn(3, 5, 8)
    turned = x.transpose(0, 1)
    torch.testing.assert_close(last(turned, turned, turned)[0].transpose(0, 1), first(x, x, x)[0])


def test_attention_that_takes_the_batch_elsewhere_is_refused_in_place_of_another() -> None:
    layer = nn.TransformerEncoderLayer(8, 2)  # torch's default
    with pytest.raises(ValueError, match=r"attend over the batch.*batch_first=False"):
        layer.self_attn = QuantumAttention(8, 2)
    assert type(layer.self_attn) is nn.MultiheadAttention
    layer.self_attn = QuantumAttention(8, 2, batch_first=False)
    decoder = nn.TransformerDecoderLayer(8, 2, batch_first=True)
    with pytest.raises(ValueError, match=r"attend over the batch.*batch_first=True"):
        decoder.multihead_attn = QuantumAttention(8, 2, batch_first=False)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("batch_first", [True, False])
def test_nested_tensors_are_padded_sequences(batch_first: bool) -> None:
    attention = QuantumAttention(8, 2, batch_first=batch_first)
    rows = [torch.randn(length, 8) for length in (3, 1, 2)]
    nested = torch.nested.as_nested_tensor(rows)
    with torch.no_grad():
        output, weights = attention(nested, nested, nested)
        assert weights.shape == (3, 3, 3)
        for row, found in zip(rows, output.unbind(), strict=True):
            torch.testing.assert_close(found, attention(row, row, row)[0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_that_no_rectangle_holds_are_refused_with_the_remedy() -> None:
    rows = [torch.randn(3, 8), torch.randn(2, 8)]
    attention, nested = QuantumAttention(8, 2), torch.nested.as_nested_tensor(rows)
    jagged = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    for given in ((jagged,) * 3, (nested, torch.randn(2, 3, 8), torch.randn(2, 3, 8))):
        with pytest.raises(ValueError, match=r"Cannot attend to jagged.*Pad all the sequences"):
            attention(*given)
    with pytest.raises(ValueError, match=r"mask and a nested tensor.*Leave the mask out"):
        attention(nested, nested, nested, key_padding_mask=torch.zeros(2, 3, dtype=torch.bool))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("frozen", [True, False])
def test_transformer_with_padding_is_in_evaluation_what_it_is_in_training(frozen: bool) -> None:
    torch.manual_seed(0)
    model = nn.Transformer(8, 2, 2, 1, 16, dropout=0.0, batch_first=True)
    layers = [*model.encoder.layers, *model.decoder.layers]
    BiasPerLayer().install(layers)
    if frozen:  # torch packs padded sequences also where gradients are on
        model.encoder.requires_grad_(False)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    hidden = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
    masks = {"src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
    expected = model(source, target, **masks).detach()
    model.eval()
    for context in (torch.no_grad(), torch.inference_mode(), nullcontext()):
        with context:
            found = model(source, target, **masks)
        torch.testing.assert_close(found.clone(), expected, rtol=0, atol=2e-6)


def test_state_of_torchs_attention_loads_but_for_what_is_new() -> None:
    theirs, ours = nn.MultiheadAttention(8, 2), QuantumAttention(8, 2)
    result = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert result.missing_keys == ["scale", "score_bias.weight", "score_bias.evaluations"]


def test_network_has_the_weights_that_torchs_attention_would_have() -> None:
    states = []
    for build in (nn.MultiheadAttention, QuantumAttention):
        torch.manual_seed(3)
        module = build(8, 2)
        states.append((module.in_proj_weight, module.out_proj.weight, torch.rand(3)))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_copies_and_pickles_give_the_same_output() -> None:
    attention, x = QuantumAttention(8, 2), torch.randn(2, 3, 8)
    expected = attention(x, x, x)[0]
    for copied in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(copied(x, x, x)[0], expected)
        assert copied.score_bias.weight is not attention.score_bias.weight


def test_circuit_shared_by_layers_gathers_the_gradients_of_both() -> None:
    bias = CircuitBias()
    layers = [QuantumAttention(8, 2, bias) for _ in range(2)]
    x = torch.randn(2, 3, 8)
    alone = []
    for layer in layers:
        (gradient,) = torch.autograd.grad(layer(x, x, x)[0].square().sum(), bias.weight)
        alone.append(gradient)
    sum(layer(x, x, x)[0].square().sum() for layer in layers).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(bias.weight.grad, sum(alone))
    assert layers[0].score_bias is layers[1].score_bias


def test_dtype_and_device_of_the_projections_are_those_of_the_bias() -> None:
    attention = QuantumAttention(8, 2, dtype=torch.float64)
    assert {p.dtype for p in attention.parameters()} == {torch.float64}
    assert attention(*[torch.randn(1, 2, 8, dtype=torch.float64)] * 3)[0].dtype == torch.float64


@pytest.mark.filterwarnings("ignore")  # those of torch's compiler
def test_compiled_network_gives_the_same_output_and_gradients() -> None:
    attention, x = QuantumAttention(8, 2), torch.randn(2, 3, 8)
    compiled = torch.compile(attention, backend="aot_eager")
    results = []
    for module in (attention, compiled):
        output = module(x, x, x, need_weights=False)[0]
        results.append(
            (output, torch.autograd.grad(output.square().sum(), [*attention.parameters()]))
        )
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`score_bias` to be a ScoreBias, got str"):
        QuantumAttention(8, 2, "circuit")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"unknown arguments \['zero_attn'\].*Leave the unknown"):
        QuantumAttention(8, 2, zero_attn=True)  # type: ignore[call-arg]
    attention, x = QuantumAttention(8, 2), torch.randn(2, 3, 8)
    with pytest.raises(
        ValueError, match=r"`attn_mask` of shape \(3, 3\) or \(4, 3, 3\), got \(2, 3\)"
    ):
        attention(x, x, x, attn_mask=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"`key_padding_mask` of shape \(2, 3\), got \(3, 2\)"):
        attention(x, x, x, key_padding_mask=torch.zeros(3, 2))
    with pytest.raises(
        TypeError, match=r"`attn_mask` to be boolean or floating point, got torch.int64"
    ):
        attention(x, x, x, attn_mask=torch.zeros(3, 3, dtype=torch.int64))


HESSIANS = {
    "autograd": torch.autograd.functional.hessian,
    "vectorized": lambda f, x: torch.autograd.functional.hessian(f, x, vectorize=True),
    "torch.func": lambda f, x: torch.func.hessian(f)(x),
    "reverse twice": lambda f, x: torch.func.jacrev(torch.func.jacrev(f))(x),
}
BIASES = {
    "circuit": lambda: CircuitBias(ScoreCircuit(2, 1)),
    "amplitude": lambda: CircuitBias(ScoreCircuit(2, 1), readout="amplitude"),
    "literal": lambda: CircuitBias(ScoreCircuit(2, 1), evaluation="literal"),
    "sampler": lambda: CircuitBias(SamplerBackend(ScoreCircuit(2, 1))),
    "trigonometric": lambda: TrigonometricBias(degree=3),
}


def curved(bias: ScoreBias) -> tuple[Callable[[Tensor], Tensor], QuantumAttention, Tensor]:
    """An attention with a mask, as a number that depends on its input and on its weights."""
    torch.manual_seed(0)
    attention = QuantumAttention(2, 1, bias).double()
    hidden = torch.tensor([[False, False, True]])

    def loss(x: Tensor) -> Tensor:
        output, _ = attention(x, x, x, key_padding_mask=hidden, need_weights=False)
        return output.square().sum()

    return loss, attention, torch.randn(1, 3, 2, dtype=torch.float64)


def slopes(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Central differences of a function of a tensor, by each of its entries."""
    steps = torch.eye(at.numel(), dtype=at.dtype).view(-1, *at.shape) * 1e-6
    return torch.stack([(function(at + s) - function(at - s)) / 2e-6 for s in steps])


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode
@pytest.mark.parametrize("name", BIASES)
def test_hessians_of_all_kinds_agree_with_finite_differences(name: str) -> None:
    loss, _, x = curved(BIASES[name]())

    def gradient(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(loss(at), at)[0].flatten()

    expected = slopes(gradient, x)
    for hessian in HESSIANS.values():
        found = hessian(loss, x).reshape(6, 6)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", BIASES)
def test_gradient_penalty_moves_all_weights_as_finite_differences_say(name: str) -> None:
    loss, attention, x = curved(BIASES[name]())

    def penalty() -> Tensor:
        at = x.clone().requires_grad_()
        return torch.autograd.grad(loss(at), at, create_graph=True)[0].square().sum()

    penalty().backward()
    for parameter in attention.parameters():
        given = parameter.detach().clone()

        def moved(values: Tensor, parameter: nn.Parameter = parameter) -> Tensor:
            with torch.no_grad():
                parameter.copy_(values)
            return penalty().detach()

        expected = slopes(moved, given).view_as(given)
        moved(given)
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-7)


def test_gradients_of_each_sample_by_vmap_are_those_of_one_after_the_other() -> None:
    attention = QuantumAttention(4, 2, CircuitBias(ScoreCircuit(2, 1))).double()
    state = dict(attention.named_parameters()), dict(attention.named_buffers())
    x = torch.randn(3, 5, 4, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        call = torch.func.functional_call
        output, _ = call(attention, (parameters, state[1]), (sample, sample, sample))
        return output.square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(state[0], x)
    for row, sample in enumerate(x):
        attention.zero_grad()
        loss(state[0], sample).backward()
        for name, parameter in state[0].items():
            torch.testing.assert_close(found[name][row], parameter.grad, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own, in forward mode
def test_shots_have_no_second_derivative_by_circuit_weights_but_an_error() -> None:
    loss, attention, x = curved(CircuitBias(SamplerBackend(ScoreCircuit(2, 1), sampling=100)))
    weights = attention.score_bias.weight
    (gradient,) = torch.autograd.grad(loss(x), weights, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"first derivatives in a backward pass"):
        torch.autograd.grad(gradient.square().sum(), weights)
    with pytest.raises(NotImplementedError, match=r"first derivatives in a backward pass"):
        torch.func.hessian(loss)(x)


def test_scores_of_sampled_circuits_have_the_second_derivative_of_their_polynomial() -> None:
    loss, attention, x = curved(CircuitBias(SamplerBackend(ScoreCircuit(2, 1), sampling=100)))
    attention.eval()  # the same shots in each call

    def gradient(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        return torch.autograd.grad(loss(at), at)[0].flatten()

    found = torch.autograd.functional.hessian(loss, x).reshape(6, 6)
    torch.testing.assert_close(found, slopes(gradient, x), rtol=0, atol=1e-8)
