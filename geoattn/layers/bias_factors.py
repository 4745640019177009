"""Biases of attention as factors: distances, ALiBi, cosines, and tables by their singular values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geoattn.errors import ShapeError


@dataclass(frozen=True, eq=False)
class BiasFactors:
    """A bias ``B_ij = query_i . key_j`` of attention scores, of rank R at most.

    Sums and products of biases are biases, ``a + b`` of rank Ra + Rb and ``a * b`` of rank Ra Rb. Unpacks as
    ``query, key``.

    Attributes:
        query: ``[..., N, R]``; leading dimensions broadcast against (B, H) of the scores.
        key: ``[..., M, R]``.

    Example:
        >>> import torch
        >>> row = BiasFactors(torch.ones(2, 1), torch.arange(3.0)[:, None])
        >>> (row + row).dense().tolist()
        [[0.0, 2.0, 4.0], [0.0, 2.0, 4.0]]
    """

    query: Tensor
    key: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.query, self.key))

    def __add__(self, other: BiasFactors) -> BiasFactors:
        return BiasFactors(_joined(self.query, other.query), _joined(self.key, other.key))

    def __mul__(self, other: BiasFactors) -> BiasFactors:
        return BiasFactors(
            (self.query[..., :, None] * other.query[..., None, :]).flatten(-2),
            (self.key[..., :, None] * other.key[..., None, :]).flatten(-2),
        )

    def dense(self) -> Tensor:
        """The bias ``[..., N, M]``; for tests and small sizes."""
        return self.query @ self.key.mT


def _joined(a: Tensor, b: Tensor) -> Tensor:
    lead = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    return torch.cat([a.expand(*lead, -1), b.expand(*lead, -1)], -1)


def squared_distance_factors(x: Tensor, y: Tensor, weight: Tensor | float) -> BiasFactors:
    r"""Factors of :math:`-w_h |x_i - y_j|^2`, exact, of rank D + 2.

    Args:
        x: ``[..., N, D]`` places of the queries.
        y: ``[..., M, D]`` places of the keys.
        weight: w, a number, or ``[H]`` per head; may have a gradient.

    Returns:
        factors ``[..., H, N, D + 2]`` and ``[..., 1, M, D + 2]``; without the dimension of heads for a number.

    Both sets are centred on the mean of y, which changes nothing but the rounding: it grows with ``w r^2`` for the
    radius r of the sets, not with how far they lie from the origin.

    Symmetry: invariant to translation and orthogonal maps of both sets, up to that rounding.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> squared_distance_factors(x, x, 2.0).dense().tolist()
        [[0.0, -50.0], [-50.0, 0.0]]
    """
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ShapeError("x, y", f"shapes {tuple(x.shape)} and {tuple(y.shape)}", "[..., N, D] and [..., M, D]")
    centre = y.detach().double().mean(-2, keepdim=True) if y.shape[-2] else y.new_zeros(y.shape[-1])
    x, y = ((points.double() - centre).to(points.dtype) for points in (x, y))
    if isinstance(weight, Tensor) and weight.ndim:
        x, y, weight = x[..., None, :, :], y[..., None, :, :], weight[:, None, None]
    one_x, one_y = torch.ones_like(x[..., :1]), torch.ones_like(y[..., :1])
    query = weight * torch.cat([-x.square().sum(-1, keepdim=True), -one_x, 2 * x], -1)
    return BiasFactors(query, torch.cat([one_y, y.square().sum(-1, keepdim=True), y], -1))


def alibi_factors(
    num_queries: int, num_keys: int, num_heads: int, *, device: torch.device | str | None = None
) -> BiasFactors:
    r"""Factors of ALiBi, :math:`-m_h (i - j)`, exact, of rank 2, in float32. For causal attention: see below.

    Slopes are the paper's, :math:`m_h = 2^{-8 h / H}` for h = 1..H and H a power of two; otherwise those of the power
    of two below, and every second one of the power above. Positions are counted from the middle, where their products
    are smallest.

    Where j > i the bias is a reward, and :math:`-m |i - j|` is not of low rank: use it with ``causal=True``.

    Paper: Press et al., "Train Short, Test Long", ICLR 2022, arXiv:2108.12409.

    Args:
        num_queries: N, at positions 0..N-1.
        num_keys: M, at positions 0..M-1.
        num_heads: H.
        device: of the factors.

    Returns:
        factors ``[H, N, 2]`` and ``[1, M, 2]``.

    Example:
        >>> alibi_factors(3, 3, 8).dense()[0, 2].tolist()
        [-1.0, -0.5, 0.0]
    """
    if num_heads < 1:
        raise ShapeError("num_heads", f"{num_heads}", "at least 1")
    below = 2 ** (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * h / below) for h in range(1, below + 1)]
    slopes += [2.0 ** (-8 * h / (2 * below)) for h in range(1, 2 * below, 2)]
    slope = torch.tensor(slopes[:num_heads], device=device)[:, None, None]
    middle = num_keys // 2
    i, j = (torch.arange(n, dtype=slope.dtype, device=device)[:, None] - middle for n in (num_queries, num_keys))
    return BiasFactors(slope * torch.cat([-i, torch.ones_like(i)], -1), torch.cat([torch.ones_like(j), j], -1)[None])


def cosine_factors(x: Tensor, y: Tensor, frequency: Tensor, weight: Tensor) -> BiasFactors:
    r"""Factors of :math:`\sum_f w_f \cos(\omega_f \cdot (x_i - y_j))`, exact, of rank 2 F.

    Args:
        x: ``[..., N, A]`` positions of the queries.
        y: ``[..., M, A]`` positions of the keys.
        frequency: ``[F, A]`` wave vectors in radians per unit of position.
        weight: ``[F]``, or ``[H, F]`` per head; may have a gradient.

    Returns:
        factors ``[..., N, 2 F]`` and ``[..., M, 2 F]``, with a dimension of heads before N if the weight has one.

    Symmetry: invariant to translation of all positions, exactly.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [torch.pi]])
        >>> cosine_factors(x, x, torch.ones(1, 1), torch.ones(1)).dense().round().tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    axes = x.shape[-1] if x.ndim > 1 else 0
    if y.ndim < 2 or y.shape[-1] != axes or frequency.ndim != 2 or frequency.shape[1] != axes:
        got = f"shapes {tuple(x.shape)}, {tuple(y.shape)} and {tuple(frequency.shape)}"
        raise ShapeError("x, y, frequency", got, "[..., N, A], [..., M, A] and [F, A]")
    if weight.ndim not in (1, 2) or weight.shape[-1] != len(frequency):
        raise ShapeError("weight", f"shape {tuple(weight.shape)}", f"[F = {len(frequency)}] or [H, F]")
    if weight.ndim == 2:
        x, y, weight = x[..., None, :, :], y[..., None, :, :], weight[:, None, :]
    angle_x, angle_y = x @ frequency.T, y @ frequency.T
    query = torch.cat([weight * angle_x.cos(), weight * angle_x.sin()], -1)
    return BiasFactors(query, torch.cat([angle_y.cos(), angle_y.sin()], -1))


def svd_factors(table: Tensor, *, energy: float | None = None, rank: int | None = None) -> tuple[BiasFactors, Tensor]:
    """Factors of a bias table by its largest singular values, and the error that leaves.

    Made once, after the table is trained; the gradient does not pass.

    Args:
        table: ``[..., N, M]``, e.g. a learned relative-position bias per head.
        energy: share of the squared entries to keep in every table, in (0, 1]; the rank follows.
        rank: or R itself.

    Returns:
        ``(factors, error)``: ``[..., N, R]`` and ``[..., M, R]`` in the dtype of ``table``, and the relative error
        ``|B - query key^T| / |B|`` ``[...]`` in the Frobenius norm.

    Raises:
        ShapeError: if not one of ``energy`` and ``rank`` is given, or it is out of range.

    Example:
        >>> import torch
        >>> factors, error = svd_factors(torch.outer(torch.arange(4.0), torch.arange(5.0)), energy=0.99)
        >>> factors.query.shape, bool(error < 1e-6)
        (torch.Size([4, 1]), True)
    """
    if (energy is None) == (rank is None):
        raise ShapeError("energy, rank", "both or neither", "one of them")
    left, values, right = torch.linalg.svd(table.detach().double(), full_matrices=False)
    kept = values.square().cumsum(-1)
    total = kept[..., -1:].clamp(min=torch.finfo(torch.float64).tiny)
    if energy is not None:
        if not 0 < energy <= 1:
            raise ShapeError("energy", f"{energy}", "a share in (0, 1]")
        reached = kept >= energy * total * (1 - 1e-14)  # all of it, but for rounding
        rank = 1 + int((~reached).sum(-1).clamp(max=values.shape[-1] - 1).amax())
    assert rank is not None
    if not 1 <= rank <= values.shape[-1]:
        raise ShapeError("rank", f"{rank}", f"1 to {values.shape[-1]}")
    error = (values[..., rank:].square().sum(-1) / total[..., 0]).sqrt()
    root = values[..., None, :rank].sqrt()
    factors = (left[..., :rank] * root, right[..., :rank, :].mT * root)
    return BiasFactors(*(factor.to(table.dtype) for factor in factors)), error.to(table.dtype)
