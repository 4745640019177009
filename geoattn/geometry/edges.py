"""Edge geometry: vectors, lengths, envelopes and radial bases, finite at zero length to the second derivative.

Coincident points, padding and self loops have edges of length zero; forces are trained through second derivatives. So
every function here has a finite first and second derivative at ``d = 0`` and at the cutoff.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood


def edge_vectors(
    pos: Tensor, nbr: Neighborhood, shift: Tensor | None = None, *, pos_target: Tensor | None = None
) -> Tensor:
    """``pos[source] - pos[target]`` of every edge, plus the periodic shift: from the target to its neighbour.

    Args:
        pos: ``[Ns, D]`` positions of the sources, and of the targets unless ``pos_target`` is given.
        nbr: the edges.
        shift: ``[E, D]`` Cartesian displacement of the source's periodic image, in the caller's edge order.
        pos_target: ``[N, D]`` positions of the targets of a bipartite graph.

    Returns:
        ``[E, D]`` in **CSR order** of ``nbr``, whatever the caller's order was; ``nbr.to_caller_order`` leads back,
        and ``nbr.in_csr_order()`` goes with it into the operations of the core. Differentiable in all positions and
        the shift.

    Raises:
        ShapeError: if a tensor does not fit ``nbr``.

    Symmetry: invariant to translation, equivariant to any linear map of the space (then also of ``shift``).

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1], [0]]), num_targets=2)
        >>> edge_vectors(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), nbr).tolist()
        [[3.0, 4.0]]
    """
    if pos_target is None:
        pos_target = pos
    _check_rows("pos", pos, nbr.num_sources, "sources of the Neighborhood")
    _check_rows("pos" if pos_target is pos else "pos_target", pos_target, nbr.num_targets, "targets")
    vectors = pos.index_select(0, nbr.source) - pos_target.index_select(0, nbr.target)
    if shift is None:
        return vectors
    _check_rows("shift", shift, nbr.num_edges, "edges")
    return vectors + nbr.to_csr_order(shift)


def safe_norm(x: Tensor, dim: int = -1, keepdim: bool = False) -> Tensor:
    """Euclidean length along ``dim`` whose first and second derivatives at the zero vector are 0, not NaN.

    A vector so short that the second derivative ``1 / |x|`` of its length cannot be formed (below 5e-13 in
    float32, 6e-103 in float64) counts as zero. 16-bit inputs are squared and summed in float32.

    Args:
        x: any shape with at least one axis.
        dim: the axis of the vector's components.
        keepdim: keep that axis with size 1.

    Returns:
        ``x`` without ``dim`` (or with size 1 there), in the dtype of ``x``.

    Symmetry: invariant to O(n) acting on ``dim``.

    Example:
        >>> import torch
        >>> safe_norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [5.0, 0.0]
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    square = (wide * wide).sum(dim, keepdim)
    zero = square < smallest_square(wide.dtype)
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0).to(x.dtype)


def smallest_square(dtype: torch.dtype) -> float:
    """The squared length below which `safe_norm` counts a vector as zero.

    Below it, ``1 / |x|^3`` in the derivative of the derivative overflows.

    Example:
        >>> import torch
        >>> f"{smallest_square(torch.float32) ** 0.5:.0e}"
        '5e-13'
    """
    return (8 * torch.finfo(dtype).tiny) ** (2 / 3)


def safe_unit(x: Tensor, norm: Tensor | None = None) -> Tensor:
    """Unit vectors ``x / |x|``; 0, with first and second derivatives of 0, where ``safe_norm`` is 0.

    Args:
        x: ``[..., D]``.
        norm: ``[...]``, ``safe_norm(x)`` where it is at hand.

    Returns:
        the shape and dtype of ``x``.

    Symmetry: equivariant to O(D).

    Example:
        >>> import torch
        >>> safe_unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norm = (safe_norm(x) if norm is None else norm).unsqueeze(-1)
    zero = norm == 0
    return (x / norm.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)


def polynomial_envelope(d: Tensor, cutoff: float, p: int = 6) -> Tensor:
    """Smooth cutoff: 1 at ``d = 0``, and 0 with its first and second derivative at ``d >= cutoff``.

    With ``u = d / cutoff`` it is ``1 - (p+1)(p+2)/2 u^p + p(p+2) u^(p+1) - p(p+1)/2 u^(p+2)``, evaluated in the
    factored form ``(1-u)^3 sum_{k<p} (k+1)(k+2)/2 u^k``, which keeps its digits near the cutoff and is never negative.
    Paper: DimeNet, arXiv 2003.03123.

    Args:
        d: lengths ``>= 0`` of any shape, in the unit of ``cutoff``.
        cutoff: length at which the envelope vanishes, ``> 0``.
        p: exponent, ``>= 2``; larger means flat for longer and steeper before the cutoff.

    Returns:
        the shape and dtype of ``d``, in [0, 1].

    Example:
        >>> import torch
        >>> polynomial_envelope(torch.tensor([0.0, 2.5, 5.0, 9.0]), cutoff=5.0).tolist()
        [1.0, 0.85546875, 0.0, 0.0]
    """
    _check_positive("cutoff", cutoff)
    if p < 2:
        raise ShapeError("p", str(p), "an integer of at least 2", "Below 2 the envelope has a kink at d = 0.")
    u = (d / cutoff).clamp(max=1.0)
    series = torch.full_like(u, p * (p + 1) / 2)
    for k in range(p - 2, -1, -1):
        series = series * u + (k + 1) * (k + 2) / 2
    return (1 - u) ** 3 * series


def gaussian_basis(d: Tensor, start: float, stop: float, num: int) -> Tensor:
    """Gaussians on a regular grid of lengths: ``exp(-(d - mu_k)^2 / (2 s^2))`` with ``s`` the grid's spacing.

    Args:
        d: lengths, shape ``[...]``.
        start: first centre ``mu_0``, in the unit of ``d``.
        stop: last centre, ``> start``.
        num: number of centres, ``>= 2``.

    Returns:
        ``[..., num]`` in the dtype of ``d``. It does not vanish at ``stop``: multiply by an envelope.

    Example:
        >>> import torch
        >>> gaussian_basis(torch.tensor([0.0, 1.0]), start=0.0, stop=1.0, num=2).argmax(1).tolist()
        [0, 1]
    """
    if num < 2:
        raise ShapeError("num", str(num), "at least 2 centres")
    if not stop > start:
        raise ShapeError("stop", str(stop), f"more than start = {start}")
    centres = torch.linspace(start, stop, num, dtype=d.dtype, device=d.device)
    scaled = (d.unsqueeze(-1) - centres) * ((num - 1) / (stop - start))
    return torch.exp(-0.5 * scaled * scaled)


def bessel_basis(d: Tensor, cutoff: float, num: int) -> Tensor:
    """Spherical Bessel functions of order 0 on a ball: ``sqrt(2 / c) sin(n pi d / c) / d`` for ``n = 1..num``.

    They are orthonormal on [0, cutoff] with weight ``d^2`` and zero at the cutoff, though their slope is not: multiply
    by an envelope. Near ``d = 0`` a power series takes over, so the value there is ``sqrt(2 / c) n pi / c`` and both
    derivatives are right too. Paper: DimeNet, arXiv 2003.03123.

    Args:
        d: lengths, shape ``[...]``.
        cutoff: c, in the unit of ``d``, ``> 0``.
        num: number of functions, ``>= 1``.

    Returns:
        ``[..., num]`` in the dtype of ``d``.

    Example:
        >>> import torch
        >>> bessel_basis(torch.tensor([0.0, 2.0], dtype=torch.float64), 2.0, num=1).round(decimals=4).abs().tolist()
        [[1.5708], [0.0]]
    """
    _check_positive("cutoff", cutoff)
    if num < 1:
        raise ShapeError("num", str(num), "at least 1 function")
    frequency = torch.arange(1, num + 1, dtype=d.dtype, device=d.device) * (math.pi / cutoff)
    return math.sqrt(2 / cutoff) * frequency * _sinc(d.unsqueeze(-1) * frequency)


def center(pos: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
    """Positions relative to the mean of their own graph.

    The mean is taken twice: the second pass removes the rounding of the first, so that a cloud far from the origin
    (by 1e5 in float32, say) comes out centred to the rounding of its own size.

    Args:
        pos: ``[N, D]``.
        batch: ``[N]`` integer, the graph of each point, in any order.
        num_graphs: B, number of graphs; graphs without points are allowed.

    Returns:
        ``[N, D]``, invariant to translating any graph.

    Raises:
        ShapeError: if ``batch`` is not ``[N]``.

    Example:
        >>> import torch
        >>> center(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]), num_graphs=2).flatten().tolist()
        [-1.0, 1.0, 0.0]
    """
    if batch.shape != pos.shape[:1]:
        raise ShapeError("batch", f"shape {tuple(batch.shape)}", "[N], one graph number per row of pos")
    count = pos.new_zeros(num_graphs).index_add(0, batch, torch.ones_like(pos[:, 0])).clamp(min=1)
    for _ in range(2):
        mean = pos.new_zeros(num_graphs, pos.shape[1]).index_add(0, batch, pos) / count.unsqueeze(1)
        pos = pos - mean.index_select(0, batch)
    return pos


def _sinc(x: Tensor) -> Tensor:
    """``sin(x) / x``, by its power series where ``|x| < 1/2``: exact to rounding in value and two derivatives."""
    small = x.abs() < 0.5
    y = (x * x).masked_fill(~small, 0.0)
    series = torch.ones_like(y)
    for k in range(7, 0, -1):
        series = 1 - series * y / (2 * k * (2 * k + 1))
    return torch.where(small, series, torch.sin(x) / x.masked_fill(small, 1.0))


def _check_rows(argument: str, value: Tensor, rows: int, meaning: str) -> None:
    if value.ndim != 2 or value.shape[0] != rows:
        raise ShapeError(argument, f"shape {tuple(value.shape)}", f"[{rows}, D], a row for each of the {meaning}")


def _check_positive(argument: str, value: float) -> None:
    if not value > 0:
        raise ShapeError(argument, str(value), "a number above 0")
