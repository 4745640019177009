"""Local geometry of surfaces: reference axes, the order of neighbours around an axis, and 14 invariant features.

Everything here is invariant to rotation and translation of the points, and depends on one neighbourhood alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NUM_FEATURES = 14
NUM_CONTEXT = 11
TINY = 1e-7


def local_reference_axes(
    pos: Tensor, center: Tensor, idx: Tensor, outward: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The direction in which each neighbourhood is thinnest: its normal, where it is a piece of a surface.

    With ``d_j = x_j - p`` and weights ``w_j`` proportional to ``max_j |d_j| - |d_j|``, the axis is the eigenvector of
    ``sum_j w_j d_j d_j^T`` with the smallest eigenvalue. An eigenvector has no sign: this one points along
    ``outward`` (``<axis, outward> >= 0``); without, to the side on which the neighbours lie,
    ``sum_j w_j <axis, d_j> >= 0``. Where that product is 0 within rounding, as in a plane without ``outward``, the sign
    means nothing.

    Args:
        pos: ``[N, 3]`` points.
        center: ``[M, 3]`` centres p, points or not.
        idx: ``[M, K]`` neighbours, rows of ``pos``; -1 for none.
        outward: ``[M, 3]`` a direction per centre that says which side is outside, given normals for instance.

    Returns:
        ``axis [M, 3]``, unit, and ``gap [M]``: by how much the smallest eigenvalue is below the next, relative to the
        largest. Where it is 0 (collinear, coincident or isotropic neighbourhoods, or none) the axis is arbitrary.

    Source: RISurConv, arXiv 2408.06110, whose code leaves the sign free. Cost: ``O(M K)`` and ``M`` 3 x 3 eigenproblems
    in float64.
    """
    valid = idx >= 0
    d = (pos[idx.clamp_min(0)] - center[:, None]).double() * valid[..., None]
    length = d.norm(dim=-1)
    weight = (length.amax(1, keepdim=True) - length) * valid if idx.shape[1] else length
    weight = weight / weight.sum(1, keepdim=True).clamp_min(TINY**2)
    values, vectors = torch.linalg.eigh(torch.einsum("mk,mki,mkj->mij", weight, d, d))
    axis = vectors[..., 0]
    side = torch.einsum("mk,mki->mi", weight, d) if outward is None else outward.double()
    axis = torch.where((axis * side).sum(-1, keepdim=True) < 0, -axis, axis)
    gap = (values[:, 1] - values[:, 0]) / values[:, 2].clamp_min(TINY**4)
    return axis.to(pos.dtype), gap.to(pos.dtype)


def angular_order(pos: Tensor, center: Tensor, axis: Tensor, idx: Tensor) -> Tensor:
    """The neighbours of each centre counter-clockwise around its axis, from the one with the longest projection on.

    Angles within rounding of a full turn count as 0. Neighbours on the axis, the centre itself among them, follow in
    their old order, then the missing ones (-1).

    Args:
        pos: ``[N, 3]``.
        center: ``[M, 3]``.
        axis: ``[M, 3]``, unit.
        idx: ``[M, K]``, -1 for none.

    Returns:
        ``idx`` with each row reordered.
    """
    if not idx.numel():
        return idx
    d = pos[idx.clamp_min(0)] - center[:, None]
    flat = d - (d * axis[:, None]).sum(-1, keepdim=True) * axis[:, None]
    length = flat.norm(dim=-1).masked_fill(idx < 0, -1)
    e1 = _unit(flat.gather(1, length.argmax(1)[:, None, None].expand(-1, 1, 3)))
    e2 = torch.linalg.cross(axis[:, None], e1)
    angle = torch.atan2((flat * e2).sum(-1), (flat * e1).sum(-1)) % math.tau
    angle = angle.masked_fill(angle > math.tau - (1e-9 if pos.dtype == torch.float64 else 1e-4), 0)
    angle = angle.masked_fill(length <= TINY * d.norm(dim=-1).amax(1, keepdim=True), 8).masked_fill(idx < 0, 9)
    return idx.gather(1, angle.sort(dim=1, stable=True).indices)


def surface_features(
    pos: Tensor, normal: Tensor, center: Tensor, center_normal: Tensor, idx: Tensor, stride: int = 1
) -> Tensor:
    """``[M, K, 14]`` lengths and angles that describe each neighbour x of a centre p, its neighbours a and b in angular
    order, and the four normals; 0 where there is no neighbour.

    With ``u(v) = v / (|v| + 1e-7)``, a and b the neighbours ``stride`` places before and after x in the cyclic order::

        0  |x - p|                  3  u(x-p) . u(a-p)      9   u(b-p) . u(x-p)
        1  u(x-p) . n_p             4  u(a-p) . n_p         10  u(b-p) . u(b-x)
        2  u(p-x) . n_x             5  u(p-a) . n_a         11  u(b-x) . n_b
                                    6  u(a-p) . u(a-x)      12  u(x-p) . n_b
                                    7  u(a-x) . n_x         13  (u(b-p) x u(x-p)) . (u(a-p) x u(x-p))
                                    8  u(x-a) . n_a

    Args:
        pos, normal: ``[N, 3]`` points and their unit normals.
        center, center_normal: ``[M, 3]`` centres and their normals or axes.
        idx: ``[M, K]`` neighbours in angular order (`angular_order`), missing ones (-1) last.
        stride: how many places a and b are away from x.

    Symmetry: invariant to rotations and translations. A mirror image has another order, so it is told apart. Lengths
    (feature 0) follow the scale. Differentiable in positions and normals. Cost: ``O(M K)``.

    Source: RISurConv, arXiv 2408.06110, the features of its code.
    """
    if not idx.numel():
        return pos.new_zeros(*idx.shape, NUM_FEATURES)
    valid = idx >= 0
    count = valid.sum(1, keepdim=True).clamp_min(1)
    slot = torch.arange(idx.shape[1], device=idx.device)
    safe = idx.clamp_min(0)
    x, n_x = pos[safe], normal[safe]
    p, n_p = center[:, None], center_normal[:, None]
    before, after = (slot - stride) % count, (slot + stride) % count
    i_a, i_b = safe.gather(1, before), safe.gather(1, after)
    a, n_a, b, n_b = pos[i_a], normal[i_a], pos[i_b], normal[i_b]
    px, pa, pb, xa, xb = _unit(x - p), _unit(a - p), _unit(b - p), _unit(a - x), _unit(b - x)
    features = [
        (x - p).norm(dim=-1), _dot(px, n_p), -_dot(px, n_x),
        _dot(px, pa), _dot(pa, n_p), -_dot(pa, n_a), _dot(pa, xa), _dot(xa, n_x), -_dot(xa, n_a),
        _dot(pb, px), _dot(pb, xb), _dot(xb, n_b), _dot(px, n_b),
        _dot(torch.linalg.cross(pb, px), torch.linalg.cross(pa, px)),
    ]  # fmt: skip
    return torch.stack(features, -1) * valid[..., None]


def cloud_context(pos: Tensor, normal: Tensor, ptr: Tensor) -> Tensor:
    """``[N, 11]`` invariants that say where in its cloud a point is and how its surface lies there.

    With r the point relative to the centroid, n its normal and e_1, e_2, e_3 the principal axes of the cloud::

        0  |r|      1  u(r) . n      2-4  |r . e_a|      5-7  |n . e_a|      8-10  standard deviation along e_a

    Axes come in the order of ascending deviation. Absolute values do away with their free signs, so all is invariant to
    rotation, translation and reflection. Where two deviations are equal the axes are arbitrary: a cube has no
    principal axes, and what is said of its points changes with the slightest noise.

    Args:
        pos: ``[N, 3]``.
        normal: ``[N, 3]`` unit.
        ptr: ``[B+1]`` where each cloud begins.

    Cost: ``O(N)`` and B 3 x 3 eigenproblems in float64.
    """
    counts = ptr.diff()
    cloud = torch.arange(len(counts), device=pos.device).repeat_interleave(counts)
    share = 1 / counts.clamp_min(1).double()
    x = pos.double()
    mean = x.new_zeros(len(counts), 3).index_add(0, cloud, x) * share[:, None]
    r = x - mean[cloud]
    second = x.new_zeros(len(counts), 3, 3).index_add(0, cloud, r[:, :, None] * r[:, None]) * share[:, None, None]
    variance, axes = torch.linalg.eigh(second)
    along, facing = (torch.einsum("ni,nia->na", v.double(), axes[cloud]).abs() for v in (r, normal))
    radial = _dot(_unit(r), normal.double())[:, None]
    spread = variance.clamp_min(0).sqrt()[cloud]
    return torch.cat([r.norm(dim=-1, keepdim=True), radial, along, facing, spread], -1).to(pos.dtype)


def _unit(v: Tensor) -> Tensor:
    return v / (v.norm(dim=-1, keepdim=True) + TINY)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(-1)
