"""`pca_frames`: the orthonormal frames that a cloud of points chooses itself, and their derivatives."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geoattn.errors import ShapeError

SMALLEST_GAP = 1e-6  # relative to the largest eigenvalue: closer axes do not turn with the points in derivatives
DEGENERATE = {torch.float32: 1e-4, torch.float64: 1e-12}  # relative gap that rounding of the coordinates explains


class Frames(NamedTuple):
    """The frames of each cloud; a point in frame f is ``(pos - center) @ rotation[f]``.

    Attributes:
        rotation: ``[B, F, D, D]``, orthogonal; axis a is the column ``rotation[..., :, a]``.
        center: ``[B, D]``, the mean of the points.
        gap: ``[B]``, the smallest difference of two eigenvalues of the covariance over the largest eigenvalue, from 0
            to 1; without gradient. Frames turn by about ``noise / gap`` when points move by ``noise`` times their
            spread, and at 0 the points choose no frame.
    """

    rotation: Tensor
    center: Tensor
    gap: Tensor


def pca_frames(
    pos: Tensor,
    ptr: Tensor | None = None,
    *,
    special: bool = True,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Frames:
    r"""All frames along the principal axes of each cloud: the axes with every choice of signs.

    .. math::
        c = \tfrac1n \textstyle\sum_i x_i, \qquad \sum_i (x_i - c)(x_i - c)^\top = V \Lambda V^\top
            \ (\lambda_1 \le \dots \le \lambda_D), \qquad \{ V \operatorname{diag}(s) : s \in \{-1, 1\}^D \}

    As a set they turn with the points, so the mean over them of a function of the points in each frame is invariant.
    That needs distinct eigenvalues. Where two meet, as for methane, a cube or points on a line, nothing in the points
    prefers one basis of their common subspace, and what eigh returns depends on how the cloud stands. ``samples`` mends
    it in distribution: uniformly random bases of each such subspace, drawn anew in each call, whose law turns with the
    points. Which frames are exact is a matter of the gap; no choice of finitely many frames with equal weights is
    continuous everywhere (Dym et al., arXiv:2402.16077).

    Paper: Puny et al., "Frame Averaging for Invariant and Equivariant Network Design", ICLR 2022, arXiv:2110.03336.

    Args:
        pos: ``[N, D]`` floating-point points of all clouds.
        ptr: ``[B+1]`` integers, where each cloud begins in ``pos``, and N; None for one cloud.
        special: rotations alone, ``F = 2^(D-1)`` (4 in space); otherwise reflections too, ``F = 2^D``.
        samples: None for the frames of the eigenvectors as they come; otherwise this many times as many frames, with
            random bases of the subspaces whose eigenvalues meet within rounding (`DEGENERATE`).
        generator: of ``samples``; torch's own if None.

    Returns:
        `Frames` in the dtype of ``pos``; computed in float64.

    Derivatives: exact to any order, through eigenvectors and all; forces from a frame-averaged energy need them. Axes
    whose relative gap is below `SMALLEST_GAP` are held where they are against each other, so that derivatives are
    finite for every input; those of close axes are as large as 1 / gap.

    Symmetry: under an orthogonal map and a translation the set of frames and the centre move along, exactly where
    ``gap > 0``; with ``special`` under rotations. Invariant to permutations.

    Cost: O(N D^2 + B D^3) time; memory O(N D^2). Nothing is padded.

    Edge cases: a cloud of one point, of none or of equal points has gap 0 and the axes of the coordinates.

    Raises:
        ShapeError: if a shape or dtype does not fit, or ``samples`` is below 1.

    Example:
        >>> import torch
        >>> frames = pca_frames(torch.tensor([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]))
        >>> frames.rotation.shape, bool(frames.gap > 0.1)
        (torch.Size([1, 4, 3, 3]), True)
    """
    ptr = _checked(pos, ptr, samples)
    num_clouds, dim = len(ptr) - 1, pos.shape[1]
    wide = pos.double()
    cloud = torch.arange(num_clouds, device=pos.device).repeat_interleave(ptr.diff())
    count = ptr.diff().clamp(min=1).to(wide.dtype)[:, None]
    center = wide.new_zeros(num_clouds, dim).index_add(0, cloud, wide) / count
    centred = wide - center[cloud]
    rest = wide.new_zeros(num_clouds, dim).index_add(0, cloud, centred) / count
    centred, center = centred - rest[cloud], center + rest  # the second pass takes the rounding of the first
    outer = (centred[:, :, None] * centred[:, None, :]).flatten(1)
    covariance = wide.new_zeros(num_clouds, dim * dim).index_add(0, cloud, outer).view(-1, dim, dim)
    reach = wide.new_zeros(num_clouds).index_add(0, cloud, wide.detach().square().sum(1))
    flat = covariance.detach().diagonal(dim1=1, dim2=2).sum(1) <= 1e-28 * reach  # rounding is no spread
    covariance = covariance.masked_fill(flat[:, None, None], 0.0)

    values, axes = eigh(covariance)
    values = values.detach()
    largest = values[:, -1:].clamp(min=torch.finfo(values.dtype).tiny)
    gaps = values.diff(dim=1) / largest
    gap = gaps.amin(1) if dim > 1 else torch.ones_like(values[:, 0])
    gap = gap.clamp(min=0.0).masked_fill(flat, 0.0)
    axes = axes[:, None]
    if samples is not None:
        meet = gaps <= DEGENERATE.get(pos.dtype, DEGENERATE[torch.float32])
        axes = axes @ _random_bases(meet, samples, generator)
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=dim)), dtype=wide.dtype, device=pos.device)
    if special:
        signs = signs[signs.prod(1) > 0]
        turn = torch.linalg.det(axes.detach()).sign()
        axes = torch.cat([axes[..., :-1], axes[..., -1:] * turn[..., None, None]], dim=-1)
    rotation = (axes[:, :, None] * signs[:, None, :]).flatten(1, 2)
    return Frames(rotation.to(pos.dtype), center.to(pos.dtype), gap.to(pos.dtype))


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[B, D]``, ascending, and eigenvectors ``[B, D, D]`` in columns, of symmetric matrices.

    As ``torch.linalg.eigh``, whose gradient is infinite where two eigenvalues are equal. Here eigenvectors whose
    relative gap is below `SMALLEST_GAP` do not turn into each other; other derivatives are exact, to any order.

    Example:
        >>> import torch
        >>> equal = torch.eye(2)[None].requires_grad_()
        >>> eigh(equal)[1].sum().backward()
        >>> equal.grad.abs().max()
        tensor(0.)
    """
    return _Eigh.apply(matrix)


class _Eigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, grad_values: Tensor, grad_vectors: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        gap = values[:, None, :] - values[:, :, None]
        smallest = SMALLEST_GAP * values.detach().abs().amax(1)[:, None, None]
        close = gap.detach().abs() <= smallest
        turn = (vectors.mT @ grad_vectors / gap.masked_fill(close, 1.0)).masked_fill(close, 0.0)
        grad = vectors @ (torch.diag_embed(grad_values) + turn) @ vectors.mT
        return (grad + grad.mT) / 2


def _random_bases(meet: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Orthogonal ``[B, samples, D, D]``, uniform within each block of axes whose neighbours ``meet [B, D-1]``."""
    block = torch.nn.functional.pad((~meet).cumsum(1), (1, 0))
    same = block[:, None, :, None] == block[:, None, None, :]
    shape = (same.shape[0], samples, *same.shape[2:])
    gaussian = torch.randn(shape, generator=generator, dtype=torch.float64).to(meet.device)
    q, r = torch.linalg.qr(gaussian * same)  # of a block-diagonal matrix, so block-diagonal itself
    return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :] * same


def _checked(pos: Tensor, ptr: Tensor | None, samples: int | None) -> Tensor:
    if pos.ndim != 2 or not pos.is_floating_point() or pos.shape[1] < 1:
        raise ShapeError("pos", f"{pos.dtype} of shape {tuple(pos.shape)}", "floating-point [N, D]")
    if samples is not None and samples < 1:
        raise ShapeError("samples", f"{samples}", "at least 1, or None")
    if ptr is None:
        return torch.tensor([0, len(pos)], device=pos.device)
    if ptr.ndim != 1 or ptr.is_floating_point() or len(ptr) < 1:
        raise ShapeError("ptr", f"{ptr.dtype} of shape {tuple(ptr.shape)}", "integers [B+1]")
    if not torch.compiler.is_compiling() and (ptr[0] != 0 or ptr[-1] != len(pos) or bool((ptr.diff() < 0).any())):
        raise ShapeError("ptr", f"{ptr.tolist()[:9]}", f"ascending from 0 to N = {len(pos)}")
    return ptr.long()
