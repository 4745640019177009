"""Attention on the sphere: a ratio of integrals, so that how densely a region is sampled does not matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import SpherePoints, geodesic_distance, geodesic_neighborhood
from geoattn.kernels import Neighborhood, neighbor_attention

WIDTH = 16
"""Heads of global attention are filled up with zeros to a multiple of this, the vector length of matrix products."""


def sphere_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_weight: Tensor,
    nbr: Neighborhood | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    r"""Quadrature of the attention integral: each key counts as much as the area it stands for.

    .. math::
        y_a = \sum_b \operatorname{softmax}_b\big(\text{scale} \; q_a \cdot k_b + \log w_b + \beta_{ab}\big) v_b

    over all sources, or over those of a's neighbourhood.

    Args:
        q: ``[B, N, H, D]`` queries of the targets.
        k: ``[B, Ns, H, D]`` keys of the sources.
        v: ``[B, Ns, H, Dv]`` values.
        log_weight: ``[Ns]`` logarithms of the sources' areas, finite; a common factor of the areas cancels.
        nbr: who looks at whom, the same in all samples; None: all at all.
        bias: ``[E]`` added to the logits of the edges of ``nbr``, in its caller's order; None: nothing.
        scale: None: :math:`D^{-1/2}`.
        dropout: share of the weights set to 0; only without ``nbr``, and on the CPU it needs ``[B, H, N, Ns]``.

    Returns:
        ``[B, N, H, Dv]`` in the dtype of q. A target without neighbours gets 0. The weights count to the precision of
        float32, whatever the dtype.

    Raises:
        ShapeError: if a shape does not fit.

    Cost: with ``nbr`` O(B E H (D + Dv)) time and no ``[E, H, D]`` tensor. The samples are heads of one graph, which
    its edges are read once for. Without ``nbr`` O(B N Ns H D) time in O(B (N + Ns) H D) memory, forward and backward:
    log w is two further columns of the keys, whose sum has the precision of float32 even if each is 16-bit, so that
    every implementation of `scaled_dot_product_attention` that streams the keys will do.

    Symmetry: equivariant to rotations up to the error of quadrature, exactly to those that permute the points. A source
    given twice, with half its weight each, changes nothing.

    Source: Bonev et al., "Attention on the Sphere", arXiv:2505.11157.

    Example:
        >>> q = k = torch.zeros(1, 2, 1, 4)
        >>> sphere_attention(q, k, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), torch.tensor([1.0, 3.0]).log()).flatten()
        tensor([0.7500, 0.7500])
    """
    _check(q, k, v, log_weight, nbr, bias)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    log_weight = log_weight.to(torch.promote_types(q.dtype, torch.float32))
    with torch.autocast(q.device.type, enabled=False):  # it would round the logarithms to 16 bits
        if nbr is None:
            return _everywhere(q, k, v, log_weight, scale, dropout)
        if bias is None:
            bias = nbr.to_caller_order(log_weight[nbr.source])
        else:
            bias = bias.to(log_weight.dtype) + nbr.to_caller_order(log_weight[nbr.source])
        q_rows, k_rows, v_rows = (x.transpose(0, 1).flatten(1, 2) for x in (q, k, v))
        out = neighbor_attention(q_rows, k_rows, v_rows, nbr, bias[:, None], scale)
        return out.unflatten(1, (q.shape[0], q.shape[2])).transpose(0, 1).to(q.dtype)


def _everywhere(q: Tensor, k: Tensor, v: Tensor, log_weight: Tensor, scale: float, dropout: float) -> Tensor:
    coarse = log_weight.to(q.dtype)
    columns = torch.stack([coarse, (log_weight - coarse).to(q.dtype)], -1)
    ones = q.new_ones(*q.shape[:3], 2)
    q = torch.cat([q * scale, ones], -1)
    k = torch.cat([k, columns[:, None, :].expand(*k.shape[:3], 2)], -1)
    width = -(-max(q.shape[3], v.shape[3]) // WIDTH) * WIDTH
    query, key, value = (functional.pad(x, (0, width - x.shape[3])).transpose(1, 2) for x in (q, k, v))
    out = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=1.0)
    return out[..., : v.shape[3]].transpose(1, 2)


def _check(q: Tensor, k: Tensor, v: Tensor, log_weight: Tensor, nbr: Neighborhood | None, bias: Tensor | None) -> None:
    for name, x, like in (("q", q, q), ("k", k, q), ("v", v, k)):
        if x.ndim != 4 or x.shape[0] != like.shape[0] or x.shape[2] != like.shape[2]:
            raise ShapeError(name, f"shape {tuple(x.shape)}", "[B, N, H, D], B and H as in q")
    if k.shape[3] != q.shape[3]:
        raise ShapeError("k", f"shape {tuple(k.shape)}", f"[B, Ns, H, D] with D as in q, {tuple(q.shape)}")
    if v.shape[1] != k.shape[1]:
        raise ShapeError("v", f"shape {tuple(v.shape)}", f"[B, Ns, H, Dv] with Ns as in k, {tuple(k.shape)}")
    if log_weight.shape != k.shape[1:2]:
        raise ShapeError("log_weight", f"shape {tuple(log_weight.shape)}", f"[Ns], one for each of {k.shape[1]} keys")
    if nbr is None and bias is not None:
        raise ShapeError("bias", "a tensor without nbr", "None", "It belongs to the edges of a neighbourhood.")
    if nbr is not None and bias is not None and bias.shape != (nbr.num_edges,):
        raise ShapeError("bias", f"shape {tuple(bias.shape)}", f"[E] with E = {nbr.num_edges} as in nbr")


class FixedPoints(nn.Module):
    """What attention between fixed points keeps about them: moves between devices, is of no dtype, is not saved."""

    log_weight: Tensor
    neighborhood: Neighborhood | None
    edge_bias: Tensor | None

    def __init__(
        self,
        sources: SpherePoints,
        targets: SpherePoints,
        cutoff: float | None,
        taper: bool,
        weighted: bool = True,
        neighborhood: Neighborhood | None = None,
    ) -> None:
        super().__init__()
        weight = sources.weight if weighted else torch.ones_like(sources.weight)
        self.log_weight = weight.log()
        self.neighborhood, self.edge_bias = neighborhood, None
        if cutoff is not None and cutoff < math.pi and neighborhood is None:
            self.neighborhood = geodesic_neighborhood(targets, sources, cutoff)
        if taper:
            if cutoff is None or self.neighborhood is None:
                raise ShapeError("taper", "True without a cutoff below pi", "False, or a cutoff")
            source, target = self.neighborhood.edge_index
            distance = geodesic_distance(targets.xyz[target], sources.xyz[source])
            self.edge_bias = 2 * (distance / cutoff).clamp_max(1).mul(math.pi / 2).cos().log()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        device = fn(self.log_weight).device
        self.log_weight = self.log_weight.to(device)
        self.edge_bias = None if self.edge_bias is None else self.edge_bias.to(device)
        if self.neighborhood is not None and self.neighborhood.device != device:
            self.neighborhood = self.neighborhood.to(device)
        return self

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, dropout: float = 0.0) -> Tensor:
        """`sphere_attention` between these points."""
        return sphere_attention(q, k, v, self.log_weight, self.neighborhood, self.edge_bias, scale, dropout)


class SphereAttention(nn.Module):
    r"""Multi-head attention from any points of the sphere to any others: grids, HEALPix, cubed spheres, stations.

    `sphere_attention` between linear maps of the features. Fewer targets than sources: down-sampling; more:
    up-sampling. The parameters do not depend on the points, so a state dict serves every resolution.

    Args:
        channels: C, divisible by ``num_heads``.
        sources: the points that are looked at.
        targets: the points that look; None: the sources.
        num_heads: H.
        cutoff: radius in radians of the geodesic disk at which a target looks; None, or pi and more: everywhere.
        taper: whether the disk fades, with :math:`\cos^2(\pi d / 2 \text{cutoff})`, instead of ending in the middle of
            cells. Then the error under rotation falls faster as the points become denser.
        weighted: whether the areas count; without, it is ordinary attention, for comparison.
        neighborhood: who looks at whom instead of a disk, such as `window_neighborhood`.

    Shapes:
        x ``[B, N, C]`` of the targets, source ``[B, Ns, C]``, or None if sources and targets are the same. Returns
        ``[B, N, C]``.

    Symmetry, cost, edge cases: those of `sphere_attention`. Everywhere, the error under rotation falls spectrally for
    smooth features on a quadrature grid; in a disk it is of the order of its edge's cells, 2 % at 33 x 64 and 0.5 rad.

    Source: Bonev et al., "Attention on the Sphere", arXiv:2505.11157; for scattered points, the same with areas of
    Voronoi cells.

    Example:
        >>> from geoattn.geometry import healpix, lat_lon_grid
        >>> grid, pixels = lat_lon_grid(9, 16), healpix(2)
        >>> layer = SphereAttention(8, grid, pixels, num_heads=2, cutoff=0.6)
        >>> layer(torch.randn(1, 48, 8), torch.randn(1, 144, 8)).shape
        torch.Size([1, 48, 8])
    """

    def __init__(
        self,
        channels: int,
        sources: SpherePoints,
        targets: SpherePoints | None = None,
        num_heads: int = 4,
        *,
        cutoff: float | None = None,
        taper: bool = False,
        weighted: bool = True,
        neighborhood: Neighborhood | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        if channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")
        targets = sources if targets is None else targets
        self.num_heads, self.num_targets, self.num_sources = num_heads, targets.num_points, sources.num_points
        self.points = FixedPoints(sources, targets, cutoff, taper, weighted, neighborhood)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """Attention of the targets' features to the sources'; see the class for shapes.

        Raises:
            ShapeError: if a number of points does not fit.
        """
        source = x if source is None else source
        for name, value, number in (("x", x, self.num_targets), ("source", source, self.num_sources)):
            if value.ndim != 3 or value.shape[1] != number:
                raise ShapeError(name, f"shape {tuple(value.shape)}", f"[B, {number}, C]")
        q, k, v = self._map(self.query, x), self._map(self.key, source), self._map(self.value, source)
        return self.out(self.points.attend(q, k, v).flatten(2))

    def _map(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """``[B, N, H, D]``, in a disk in the memory order of the folded batch, so that no copy follows."""
        local = self.points.neighborhood is not None
        y = linear(x.transpose(0, 1)).transpose(0, 1) if local else linear(x)
        return y.unflatten(2, (self.num_heads, -1))
