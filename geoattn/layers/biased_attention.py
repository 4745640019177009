"""Attention with an additive bias of low rank, given by its factors: no N x M bias is ever made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.errors import ShapeError
from geoattn.layers.bias_factors import BiasFactors

MASKED = -1e30  # a score that softmax turns into 0, finite in bfloat16 and float32


def biased_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_factors: Tensor,
    k_factors: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    attention: Callable[..., Tensor] = F.scaled_dot_product_attention,
) -> Tensor:
    r"""Softmax attention whose scores have the bias :math:`\phi_i \cdot \psi_j`, as plain attention on wider rows.

    .. math::
        y_i = \sum_j \operatorname{softmax}_j\big(s\, q_i \cdot k_j + \phi_i \cdot \psi_j\big) v_j
            = \operatorname{attention}\big([s q, \phi],\ [k, \psi],\ v\big)_i

    Values are filled up with zeros to the same width, because torch's fused attention on the CPU takes rows of one
    width alone and otherwise makes all N x M scores; on CUDA, rows become a multiple of 8 wide, as flash attention
    wants.

    Paper: Wu et al., "FlashBias: Fast Computation of Attention with Bias", NeurIPS 2025, arXiv:2505.12044.

    Args:
        q: ``[B, H, N, D]`` queries.
        k: ``[B, H, M, D]`` keys.
        v: ``[B, H, M, Dv]`` values.
        q_factors: ``[..., N, R]``, leading dimensions broadcast to (B, H). See `BiasFactors`.
        k_factors: ``[..., M, R]``.
        mask: ``[B, M]`` bool, True for keys that are there.
        causal: whether query i sees keys up to i alone; N = M.
        scale: s; None: :math:`D^{-1/2}`.
        attention: called with the three tensors, ``scale=1.0`` and, where needed, ``attn_mask`` or ``is_causal``.

    Returns:
        ``[B, H, N, Dv]`` in the dtype of v; a query without keys gets exactly 0.

    Precision: computed in the promoted dtype of q and the factors, also under autocast. Factors of distances and
    positions cancel, so leave them in float32; rounded to 16 bits they give biases that are wrong by whole units.

    Cost: O(N M (D + R)) time; O((N + M) (D + R)) memory, forward and backward, with torch's fused attention.

    Raises:
        ShapeError: if a shape does not fit.

    Example:
        >>> import torch
        >>> from geoattn.layers import squared_distance_factors
        >>> q, k, v = torch.randn(3, 1, 2, 5, 8)
        >>> pos = torch.randn(5, 3)
        >>> nearness = squared_distance_factors(pos, pos, 0.5)
        >>> biased_attention(q, k, v, *nearness).shape
        torch.Size([1, 2, 5, 8])
    """
    _check(q, k, v, q_factors, k_factors, causal)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    dtype = torch.promote_types(torch.promote_types(q.dtype, q_factors.dtype), k_factors.dtype)
    wide_q = [q.to(dtype) * scale, q_factors.to(dtype).expand(*q.shape[:-1], -1)]
    wide_k = [k.to(dtype), k_factors.to(dtype).expand(*k.shape[:-1], -1)]
    options: dict[str, object] = {"is_causal": True} if causal else {}
    there = None
    if mask is not None:
        mask = key_mask(mask, k)
        if causal:  # torch takes no mask beside is_causal: one more factor, then
            there = (mask.cumsum(-1) > 0)[:, None, :, None]
            wide_q.append(wide_q[0].new_ones(()).expand(*q.shape[:-1], 1))
            fill = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, MASKED)
            wide_k.append(fill[:, None, :, None].expand(*k.shape[:-1], 1))
        else:
            there = mask.any(-1)[:, None, None, None]
            options["attn_mask"] = mask[:, None, None, :]
    width = max(sum(part.shape[-1] for part in wide_k), v.shape[-1])
    width += -width % 8 if q.is_cuda else 0
    with torch.autocast(q.device.type, enabled=False):
        query, key = (F.pad(row, (0, width - row.shape[-1])) for row in (torch.cat(wide_q, -1), torch.cat(wide_k, -1)))
        value = F.pad(v.to(dtype), (0, width - v.shape[-1]))
        out = attention(query, key, value, scale=1.0, **options)[..., : v.shape[-1]].to(v.dtype)
    return out if there is None else out.masked_fill(~there, 0.0)


class BiasedAttention(nn.Module):
    """Multi-head attention with a bias given by its factors; maps round `biased_attention`.

    Paper: Wu et al., "FlashBias: Fast Computation of Attention with Bias", NeurIPS 2025, arXiv:2505.12044.

    Args:
        channels: C, divisible by ``num_heads``.
        num_heads: H.
        context_channels: width of the keys' features; None for C.
        causal: whether token i sees tokens up to i alone.

    Shapes:
        x ``[B, N, C]``, factors `BiasFactors` of ``[..., N, R]`` and ``[..., M, R]``, context ``[B, M, C']`` (x itself
        if None), mask ``[B, M]`` bool, True for tokens of the context that are there. Returns ``[B, N, C]``.

    Symmetry: that of the bias, exactly up to its rounding: E(n) for squared distances. Equivariant to the order of x,
    invariant to that of the context.

    Cost: O((N + M) C^2 + N M (C + H R)) time, O((N + M) (C + H R)) memory.

    Edge cases: a sequence without tokens gets the bias of the last map.

    Example:
        >>> import torch
        >>> from geoattn.layers import squared_distance_factors
        >>> layer, pos = BiasedAttention(16, num_heads=4), torch.randn(2, 5, 3)
        >>> layer(torch.randn(2, 5, 16), squared_distance_factors(pos, pos, torch.rand(4))).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self, channels: int, num_heads: int = 4, *, context_channels: int | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ShapeError("num_heads", f"{num_heads}", f"a divisor of channels = {channels}")
        self.channels, self.num_heads, self.causal = channels, num_heads, causal
        self.context_channels = channels if context_channels is None else context_channels
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(self.context_channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(
        self, x: Tensor, factors: BiasFactors, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attended features ``[B, N, C]``; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments.
        """
        context = x if context is None else context
        if x.ndim != 3 or x.shape[2] != self.channels:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[B, N, channels = {self.channels}]")
        if context.ndim != 3 or context.shape[2] != self.context_channels or len(context) != len(x):
            raise ShapeError("context", f"shape {tuple(context.shape)}", f"[{len(x)}, M, {self.context_channels}]")
        rows = (self.query(x), *self.key_value(context).chunk(2, -1))
        q, k, v = (row.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for row in rows)
        y = biased_attention(q, k, v, factors.query, factors.key, mask=mask, causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, causal={self.causal}"


def key_mask(mask: Tensor, k: Tensor) -> Tensor:
    """The mask ``[B, M]`` of keys ``[B, H, M, D]``, checked."""
    if mask.dtype != torch.bool or mask.shape != (k.shape[0], k.shape[2]):
        raise ShapeError("mask", f"{mask.dtype} of shape {tuple(mask.shape)}", f"bool [{k.shape[0]}, {k.shape[2]}]")
    return mask


def _check(q: Tensor, k: Tensor, v: Tensor, q_factors: Tensor, k_factors: Tensor, causal: bool) -> None:
    if q.ndim != 4:
        raise ShapeError("q", f"shape {tuple(q.shape)}", "[B, H, N, D]")
    if k.ndim != 4 or k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise ShapeError("k", f"shape {tuple(k.shape)}", f"[B, H, M, D] with B, H, D as in q, {tuple(q.shape)}")
    if v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ShapeError("v", f"shape {tuple(v.shape)}", f"[B, H, M, Dv] with B, H, M as in k, {tuple(k.shape)}")
    for name, factors, rows in (("q_factors", q_factors, q), ("k_factors", k_factors, k)):
        wrong = not 2 <= factors.ndim <= 4 or factors.shape[-2] != rows.shape[2]
        lead = zip(factors.shape[:-2][::-1], rows.shape[:2][::-1], strict=False)
        if wrong or any(size not in (1, full) for size, full in lead) or factors.shape[-1] != q_factors.shape[-1]:
            expected = (
                f"[..., {rows.shape[2]}, R = {q_factors.shape[-1]}], to broadcast to (B, H) = {tuple(q.shape[:2])}"
            )
            raise ShapeError(name, f"shape {tuple(factors.shape)}", expected)
    if causal and q.shape[2] != k.shape[2]:
        raise ShapeError("causal", f"{q.shape[2]} queries and {k.shape[2]} keys", "as many keys as queries")
