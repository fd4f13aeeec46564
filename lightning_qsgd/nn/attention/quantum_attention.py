"""Multi-head attention with the bias of Eq. 3, and its masks."""

from __future__ import annotations

from math import inf, sqrt
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.nn.modules.module import register_module_module_registration_hook

from lightning_qsgd.nn.attention.circuit_bias import CircuitBias
from lightning_qsgd.nn.attention.score_bias import ScoreBias


def additive_mask(
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    scores: torch.Size,
    dtype: torch.dtype,
) -> Tensor | None:
    """Join both masks of `torch.nn.MultiheadAttention` into one.

    Args:
        key_padding_mask: Shape (B, S): True hides a key, or a number is added to its scores.
        attn_mask: Shape (L, S) or (B * H, L, S), likewise.
        scores: Shape of the scores, (B, H, L, S).
        dtype: That of the scores.

    Returns:
        A floating-point mask that broadcasts to the scores; None if there is nothing to mask.

    Raises:
        ValueError: If a mask has another shape.
        TypeError: If a mask is neither boolean nor floating point.
    """
    batch, heads, length, keys = scores
    joined = None
    if attn_mask is not None:
        shapes = (length, keys), (batch * heads, length, keys)
        _require_shape("attn_mask", attn_mask, *shapes)
        joined = _as_numbers("attn_mask", attn_mask, dtype)
        joined = joined if joined.dim() == 2 else joined.view(scores)
    if key_padding_mask is not None:
        _require_shape("key_padding_mask", key_padding_mask, (batch, keys))
        padding = _as_numbers("key_padding_mask", key_padding_mask, dtype)[:, None, None, :]
        joined = padding if joined is None else joined + padding
    return joined


def fully_masked(mask: Tensor) -> Tensor:
    """Return which queries may attend to no key at all, shape of the mask with 1 key."""
    return (mask == -inf).all(dim=-1, keepdim=True)


def _as_numbers(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -inf)
    if not mask.is_floating_point():
        raise TypeError(
            f"Expected `{name}` to be boolean or floating point, got {mask.dtype}: integers could "
            "mean either. Use mask.bool(), with True where no attention is paid."
        )
    return mask.to(dtype)


def _require_shape(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    if mask.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"Expected `{name}` of shape {expected}, got {tuple(mask.shape)}: queries times keys, "
            "for all or for each (batch * heads); padding is batch times keys."
        )


class Projections(TypedDict, total=False):
    """What else `torch.nn.MultiheadAttention` takes, and in what `QuantumAttention` follows it.

    Attributes:
        bias: Whether the projections have a bias.
        add_bias_kv: Whether there is one more key and value, which are learned.
        add_zero_attn: Whether there is one more key and value, which are 0.
        kdim: Width of the keys; None for that of the queries.
        vdim: Width of the values; None for that of the queries.
        batch_first: Whether the batch comes before the tokens; True if left out, where torch has
            False.
        device: Where the parameters are.
        dtype: Their precision.
    """

    bias: bool
    add_bias_kv: bool
    add_zero_attn: bool
    kdim: int | None
    vdim: int | None
    batch_first: bool
    device: torch.device | str | None
    dtype: torch.dtype | None


class QuantumAttention(nn.MultiheadAttention):
    r"""Computes :math:`softmax(Q K^T / \sqrt{d_k} + g\,\Phi(Q K^T)) V` for several heads.

    A drop-in for `torch.nn.MultiheadAttention`: same parameters by the same names, drawn by the
    same calls of torch's generator, same `forward`; but the batch comes first if nothing is said.
    Phi is the circuit of
    Eq. 4 or a classical control, evaluated on each score; the gate g, `scale`, is a learned number.
    Eq. 3 has no gate: at 1, where it starts, the layer is Eq. 3 to the letter (freeze it to stay
    there); at 0 it is plain attention. That Phi is added before masking, and sees the score before
    its division by :math:`\sqrt{d_k}`, is how Eq. 3 and Eq. 4 are written.

    At gate 0 and with `need_weights=True` outputs and weights are torch's bit for bit, where masks
    are boolean or nothing is computed in 16 bits. With `need_weights=False`, as torch's encoder and
    decoder layers call it, torch takes its fused kernel, which rounds in another order: outputs
    differ by a few units of the last place (1e-7 in float32, 4e-3 in bfloat16, for outputs near 1).

    As `self_attn` of a `torch.nn.TransformerEncoderLayer` it is always called: the layer's fused
    path for evaluation, which reads weights and calls no module, is not taken. Where
    `torch.nn.TransformerEncoder` packs padded sequences into a nested tensor for evaluation, they
    are unpacked for the scores and packed again.

    Args:
        embed_dim: Width of queries and output, a multiple of `num_heads`.
        num_heads: Number of heads.
        score_bias: Phi; None takes the paper's circuit, `CircuitBias()`.
        dropout: Share of attention weights set to zero in training.
        initial_scale: First value of the gate.
        projections: The other arguments of `MultiheadAttention`; see `Projections`.

    Attributes:
        score_bias: Phi, with weights of its own.
        scale: The gate g, a trainable number.

    Raises:
        TypeError: If `score_bias` is none, or an argument is unknown.
        ValueError: If a width is not positive.

    Example:
        >>> attention = QuantumAttention(embed_dim=64, num_heads=4)
        >>> x = torch.zeros(2, 5, 64)
        >>> output, weights = attention(x, x, x)
        >>> output.shape, weights.shape
        (torch.Size([2, 5, 64]), torch.Size([2, 5, 5]))

    References:
        arXiv:2511.01918, Eq. 3. Vaswani et al., Attention Is All You Need, 2017.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        score_bias: ScoreBias | None = None,
        dropout: float = 0.0,
        initial_scale: float = 1.0,
        **projections: Unpack[Projections],
    ) -> None:
        unknown = projections.keys() - Projections.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"Got unknown arguments {sorted(unknown)}: QuantumAttention takes "
                f"{sorted(Projections.__annotations__)} as well. Leave the unknown ones out."
            )
        if score_bias is not None and not isinstance(score_bias, ScoreBias):
            raise TypeError(
                f"Expected `score_bias` to be a ScoreBias, got {type(score_bias).__name__}: it is "
                "the function Phi of Eq. 3. Use e.g. CircuitBias()."
            )
        super().__init__(embed_dim, num_heads, dropout, **{"batch_first": True, **projections})
        like = self.out_proj.weight
        self.score_bias = (CircuitBias() if score_bias is None else score_bias).to(like)
        self.scale = nn.Parameter(like.new_tensor(initial_scale))
        self._separate = not self._qkv_same_embed_dim
        # What torch's encoder asks before it takes its fused path, which would leave out Phi.
        self._qkv_same_embed_dim = False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; see `torch.nn.MultiheadAttention.forward`, whose arguments these are.

        Args:
            query: Shape (B, L, embed_dim), or (L, B, embed_dim) without `batch_first`; or
                (L, embed_dim) without a batch.
            key: Likewise, shape (B, S, kdim).
            value: Likewise, shape (B, S, vdim).
            key_padding_mask: Shape (B, S) or (S,): True hides a key, or numbers are added.
            need_weights: Whether the attention weights are returned.
            attn_mask: Shape (L, S) or (B * heads, L, S): True hides, or numbers are added.
            average_attn_weights: Whether returned weights are averaged over heads.
            is_causal: A hint that `attn_mask` is causal, which must be given as well.

        Returns:
            Output of the shape of the query, and the attention weights, shape (B, L, S) or
            (B, heads, L, S), without B for unbatched input, S with what is added to the keys; None
            if not needed. A query that may
            attend to no key gets NaN where weights are needed, and the output for zero attention
            where they are not: both as torch.

        Raises:
            ValueError: If a mask has the wrong shape, or nested tensors come with masks, or jagged.
            RuntimeError: If `is_causal` comes without a mask.
        """
        if query.is_nested or key.is_nested or value.is_nested:
            if key_padding_mask is not None or attn_mask is not None:
                raise ValueError(
                    "Got a mask and a nested tensor, which says itself how long its sequences are. "
                    "Leave the mask out, or pad the sequences."
                )
            return self._nested(query, key, value, need_weights, average_attn_weights)
        if is_causal and attn_mask is None:
            raise RuntimeError(
                "Got is_causal=True without `attn_mask`: it is a hint about the mask and none "
                "itself, as in torch. Pass e.g. Transformer.generate_square_subsequent_mask."
            )
        if query.dim() == 2:
            batch = 0 if self.batch_first else 1
            padding = None if key_padding_mask is None else key_padding_mask[None]
            q, k, v = (each.unsqueeze(batch) for each in (query, key, value))
            output, weights = self.forward(
                q, k, v, padding, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return output.squeeze(batch), None if weights is None else weights[0]
        q, k, v = self._heads(query, key, value)
        added = (self.bias_k is not None) + self.add_zero_attn
        shape = torch.Size((*q.shape[:3], k.shape[2] - added))
        mask = additive_mask(key_padding_mask, attn_mask, shape, q.dtype)
        mask = F.pad(mask, (0, added)) if added and mask is not None else mask
        scores = torch.matmul(q * sqrt(1.0 / self.head_dim), k.transpose(-2, -1))
        biased = self.score_bias.add_to(scores, self.scale, sqrt(self.head_dim))
        hidden = None if mask is None or need_weights else fully_masked(mask)
        if mask is not None:
            biased = biased + (mask if hidden is None else mask.masked_fill(hidden, 0.0))
        weights = F.dropout(biased.softmax(dim=-1), self.dropout, self.training)
        attended = torch.matmul(weights, v)
        if hidden is not None:
            attended = attended.masked_fill(hidden, 0.0)
        # Laid out in memory as torch does, or a dropout that follows would drop other entries.
        output = self.out_proj(attended.permute(2, 0, 1, 3).flatten(2))
        output = output.transpose(0, 1) if self.batch_first else output
        if not need_weights:
            return output, None
        return output, weights.mean(dim=1) if average_attn_weights else weights

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Project queries, keys and values, each to shape (B, heads, tokens, head_dim)."""
        q, k, v = query, key, value
        if self.batch_first:
            # Tokens first, as in torch: its products round differently for another layout.
            q = query.transpose(0, 1)
            k = q if key is query else key.transpose(0, 1)
            v = k if value is key else value.transpose(0, 1)
        q, k, v = self._projected(q, k, v)
        shape = (self.num_heads, self.head_dim)
        parts = q, self._extended(k, self.bias_k), self._extended(v, self.bias_v)
        return [part.unflatten(-1, shape).permute(1, 2, 0, 3) for part in parts]

    def _extended(self, tokens: Tensor, learned: Tensor | None) -> Tensor:
        """Add one learned token and one of zeros to projected ones, shape (S, B, embed_dim)."""
        parts = [tokens]
        if learned is not None:
            parts.append(learned.expand(1, *tokens.shape[1:]))
        if self.add_zero_attn:
            parts.append(torch.zeros_like(tokens[:1]))
        return torch.cat(parts) if len(parts) > 1 else tokens

    def _nested(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool, average: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Pad sequences of different lengths, attend, and pack the output again."""
        if not all(each.is_nested and each.layout == torch.strided for each in (query, key, value)):
            raise ValueError(
                "Cannot attend to jagged tensors, nor to some nested ones beside others: scores "
                "need their places in a rectangle. Pad all the sequences, or nest all of them "
                "with layout=torch.strided."
            )
        of_batch = 0 if self.batch_first else 1
        padded = {
            id(each): each.to_padded_tensor(0.0).transpose(0, of_batch)
            for each in (query, key, value)
        }
        q, k, v = (padded[id(each)] for each in (query, key, value))
        lengths = torch.tensor([len(row) for row in key.unbind()], device=key.device)
        hidden = torch.arange(k.shape[1 - of_batch], device=key.device) >= lengths[:, None]
        output, weights = self.forward(q, k, v, hidden, need_weights, None, average)
        output = output.transpose(0, of_batch)
        kept = [row[: len(own)] for row, own in zip(output, query.unbind(), strict=True)]
        return torch.nested.as_nested_tensor(kept), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Project with as few products as torch, laid out as there, so that not a bit differs.

        Some processors round products of float64 matrices that have gaps between rows otherwise.
        """
        bias: Tensor | None = self.in_proj_bias
        if self._separate:
            own = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
            biases = (None, None, None) if bias is None else bias.chunk(3)
            return tuple(map(F.linear, (query, key, value), own, biases))
        weight: Tensor = self.in_proj_weight
        if query is key and key is value:
            return _apart(F.linear(query, weight, bias), 3)
        sizes = [self.embed_dim, 2 * self.embed_dim] if key is value else 3 * [self.embed_dim]
        shared = (None,) * len(sizes) if bias is None else bias.split(sizes)
        inputs = (query, key) if key is value else (query, key, value)
        first, *others = map(F.linear, inputs, weight.split(sizes), shared)
        return (first, *(_apart(others[0], 2) if key is value else others))


def _apart(projected: Tensor, parts: int) -> tuple[Tensor, ...]:
    return tuple(part.contiguous() for part in projected.chunk(parts, dim=-1))


def _keep_layout(layer: nn.Module, name: str, attention: nn.Module | None) -> None:
    """Refuse an attention that takes the batch elsewhere than the one that it replaces.

    It would attend over the batch: the entries of a batch would influence each other, and nothing
    would fail.
    """
    replaced = layer._modules.get(name)
    if not isinstance(attention, QuantumAttention) or not isinstance(
        replaced, nn.MultiheadAttention
    ):
        return
    if attention.batch_first != replaced.batch_first:
        raise ValueError(
            f"Got a QuantumAttention with batch_first={attention.batch_first} in place of an "
            f"attention with batch_first={replaced.batch_first}: it would attend over the batch. "
            f"Build it with batch_first={replaced.batch_first}, or use BiasPerLayer, which takes "
            "over all settings."
        )


register_module_module_registration_hook(_keep_layout)
