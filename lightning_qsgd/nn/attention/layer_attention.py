"""Which attention the layers of a transformer get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from lightning_qsgd.nn.attention.circuit_bias import CircuitBias
from lightning_qsgd.nn.attention.quantum_attention import QuantumAttention
from lightning_qsgd.nn.attention.score_bias import ScoreBias


class LayerAttention(ABC):
    """Gives each layer of an encoder its attention, after all layers are built.

    An attention that replaces another takes over its weights, and what it adds is drawn from
    generators of its own: a network has the same first weights with every `LayerAttention`, in all
    that it has with each of them, and leaves torch's generator in the same state.
    """

    @abstractmethod
    def install(self, layers: Sequence[nn.TransformerEncoderLayer]) -> None:
        """Replace `self_attn` of the layers where this is to differ."""


class PlainAttention(LayerAttention):
    """Leaves the layers as torch builds them.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, 2, batch_first=True)
        >>> PlainAttention().install([layer])
        >>> type(layer.self_attn).__name__
        'MultiheadAttention'
    """

    def install(self, layers: Sequence[nn.TransformerEncoderLayer]) -> None:
        """Leave the layers alone."""


class BiasPerLayer(LayerAttention):
    """Adds a learned bias to the scores of every layer, with weights of each layer's own.

    A layer's first weights follow from the seed of the bias, from the seed of torch's generator
    (read, not drawn from) and from the number of the layer: like all first weights they change with
    `seed_everything`.

    Args:
        score_bias: The bias, copied for each layer; None takes the paper's circuit,
            `CircuitBias()`.
        initial_scale: First value of each layer's gate; see `QuantumAttention`.

    Example:
        >>> layers = [nn.TransformerEncoderLayer(8, 2, batch_first=True) for _ in range(2)]
        >>> BiasPerLayer().install(layers)
        >>> one, other = (layer.self_attn.score_bias.weight for layer in layers)
        >>> one.shape, bool(one.equal(other))
        (torch.Size([16]), False)

    References:
        arXiv:2511.01918, Eq. 3 and 4. The paper does not say whether layers share a circuit.
    """

    def __init__(self, score_bias: ScoreBias | None = None, initial_scale: float = 1.0) -> None:
        self.score_bias = CircuitBias() if score_bias is None else score_bias
        self.initial_scale = initial_scale

    def install(self, layers: Sequence[nn.TransformerEncoderLayer]) -> None:
        """Give every layer a copy of the bias, with first weights of its own."""
        biases = [deepcopy(self.score_bias) for _ in layers]
        for number, bias in enumerate(biases):
            bias.reset_parameters(_stream(number))
        _replace(layers, biases, self.initial_scale)


class SharedBias(LayerAttention):
    """Adds one learned bias to the scores of all layers; gates stay each layer's own.

    Args:
        score_bias: The bias; None takes the paper's circuit, `CircuitBias()`.
        initial_scale: First value of each layer's gate; see `QuantumAttention`.

    Example:
        >>> layers = [nn.TransformerEncoderLayer(8, 2, batch_first=True) for _ in range(2)]
        >>> SharedBias().install(layers)
        >>> layers[0].self_attn.score_bias is layers[1].self_attn.score_bias
        True
    """

    def __init__(self, score_bias: ScoreBias | None = None, initial_scale: float = 1.0) -> None:
        self.score_bias = CircuitBias() if score_bias is None else score_bias
        self.initial_scale = initial_scale

    def install(self, layers: Sequence[nn.TransformerEncoderLayer]) -> None:
        """Give all layers one copy of the bias."""
        bias = deepcopy(self.score_bias)
        bias.reset_parameters(_stream(0))
        _replace(layers, [bias] * len(layers), self.initial_scale)


def _replace(
    layers: Sequence[nn.TransformerEncoderLayer], biases: Sequence[ScoreBias], initial_scale: float
) -> None:
    """Replace the attention of all layers, or of none if one cannot be replaced."""
    attentions = [
        with_bias(layer.self_attn, bias, initial_scale)
        for layer, bias in zip(layers, biases, strict=True)
    ]
    for layer, attention in zip(layers, attentions, strict=True):
        layer.self_attn = attention


def with_bias(
    plain: nn.MultiheadAttention, bias: ScoreBias, initial_scale: float
) -> QuantumAttention:
    """Build an attention with the weights of another and a bias on its scores.

    It takes over the parameters themselves, so that what is frozen stays frozen, what is tied stays
    tied, and an optimizer that knows them goes on; and all settings, the mode of training among
    them. What is added can be trained. Torch's generators are left as they were.

    Args:
        plain: What is replaced.
        bias: What is added.
        initial_scale: First value of the gate.

    Raises:
        TypeError: If `plain` is something else than torch's own attention.
    """
    if type(plain) is not nn.MultiheadAttention:
        raise TypeError(
            f"Cannot add a bias to the scores of {type(plain).__name__}: only "
            "torch.nn.MultiheadAttention is known inside. Replace `self_attn` of the layer by a "
            "QuantumAttention yourself."
        )
    weight = plain.out_proj.weight
    with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
        attention = QuantumAttention(
            *(plain.embed_dim, plain.num_heads, bias, plain.dropout, initial_scale),
            bias=plain.in_proj_bias is not None,
            add_bias_kv=plain.bias_k is not None,
            add_zero_attn=plain.add_zero_attn,
            kdim=plain.kdim,
            vdim=plain.vdim,
            batch_first=plain.batch_first,
            device=weight.device,
            dtype=weight.dtype,
        )
    for name, parameter in plain.named_parameters(recurse=False):
        attention.register_parameter(name, parameter)
    attention.out_proj = plain.out_proj
    return attention.train(plain.training)


def _stream(layer: int) -> int:
    """Name a layer's stream by the seed of torch's generator, which is not advanced."""
    name = np.random.SeedSequence((torch.initial_seed(), layer))
    return int(name.generate_state(1)[0]) >> 1  # 31 bits: what a `ScoreBias` can tell apart
