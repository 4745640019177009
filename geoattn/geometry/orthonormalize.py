"""`orthonormalize`: the orthogonal matrix nearest to vectors, and one made of them in turn."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError

SMALLEST_SUM = 1e-6  # of two singular values, relative to the largest, that determine how the result turns


def orthonormalize(vectors: Tensor, method: Literal["svd", "gram_schmidt"] = "svd", *, special: bool = True) -> Tensor:
    r"""An orthogonal matrix from vectors, which turns with them: ``orthonormalize(R V) = R orthonormalize(V)``.

    ``"svd"``: of all orthogonal matrices the nearest one, the polar factor :math:`U W^\top` of
    :math:`V = U S W^\top`; with ``special`` and a negative determinant the axis of the smallest singular value is
    turned round, which gives the nearest rotation. ``"gram_schmidt"``: the first vector's direction, then each next
    one's rest; with ``special`` the last axis is turned round where the determinant is negative. Gram-Schmidt
    divides by the angle between vectors, so for nearly parallel ones it multiplies noise; the polar factor does not.

    Args:
        vectors: ``[..., D, D]``, the vectors in **columns**: ``vectors[..., :, a]``.
        method: see above.
        special: determinant 1; else 1 or -1, as the vectors' own.

    Returns:
        ``[..., D, D]``, orthogonal, in the dtype of ``vectors``; 16-bit input is computed in float32.

    Derivatives: exact to any order. Where the vectors do not determine the result (for "svd" where the two smallest
    singular values, with the sign of the determinant in the smallest, add up to less than `SMALLEST_SUM` times the
    largest; for "gram_schmidt" where a vector depends on those before) the result is finite and the gradient 0.

    Symmetry: exactly equivariant under rotations from the left; without ``special`` also under reflections. Not where
    the vectors do not determine it.

    Raises:
        ShapeError: for other shapes or methods.

    Example:
        >>> import torch
        >>> orthonormalize(torch.tensor([[2.0, 0.0], [0.0, 0.1]])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if vectors.ndim < 2 or vectors.shape[-1] != vectors.shape[-2] or not vectors.is_floating_point():
        raise ShapeError("vectors", f"{vectors.dtype} of shape {tuple(vectors.shape)}", "floating-point [..., D, D]")
    if method not in ("svd", "gram_schmidt"):
        raise ShapeError("method", repr(method), "'svd' or 'gram_schmidt'")
    work = vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors
    with torch.autocast(vectors.device.type, enabled=False):
        result = _Polar.apply(work, special) if method == "svd" else _gram_schmidt(work, special)
    return result.to(vectors.dtype)


class _Polar(torch.autograd.Function):
    """Polar factor Q of V. From ``V = Q P``, P symmetric: ``dQ = Q X`` with X skew and ``X P + P X = Q'dV - dV'Q``."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, special: bool) -> Tensor:
        u, s, wt = torch.linalg.svd(vectors)
        if special:
            turn = torch.linalg.det(u @ wt).sign()[..., None]
            u = torch.cat([u[..., :-1], u[..., -1:] * turn[..., None]], dim=-1)
            s = torch.cat([s[..., :-1], s[..., -1:] * turn], dim=-1)
        q = u @ wt
        ctx.save_for_backward(vectors, q)
        # a matrix of one column has no axes to turn
        ctx.blind = s[..., -2:].sum(-1) <= SMALLEST_SUM * s[..., 0] if s.shape[-1] > 1 else s[..., 0] >= 0
        return q

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        vectors, q = ctx.saved_tensors
        dim = q.shape[-1]
        if dim == 1:
            return torch.zeros_like(grad), None
        p = q.mT @ vectors
        p = (p + p.mT) / 2
        row, column = torch.triu_indices(dim, dim, 1, device=q.device)
        basis = p.new_zeros(len(row), dim, dim)  # of skew matrices
        place = torch.arange(len(row), device=q.device)
        basis[place, row, column], basis[place, column, row] = 1.0, -1.0
        moved = basis @ p[..., None, :, :] + p[..., None, :, :] @ basis
        operator = moved[..., row, column]  # symmetric, eigenvalues s_i + s_j
        identity = torch.eye(len(row), dtype=p.dtype, device=p.device)
        operator = torch.where(ctx.blind[..., None, None], identity, operator)
        turn = q.mT @ grad
        right = (turn - turn.mT)[..., row, column].masked_fill(ctx.blind[..., None], 0.0)
        solved = torch.linalg.solve(operator, right[..., None])[..., 0]
        return q @ torch.einsum("...k,kij->...ij", solved, basis), None


def _gram_schmidt(vectors: Tensor, special: bool) -> Tensor:
    with torch.no_grad():  # what takes over where vectors depend on each other
        q, r = torch.linalg.qr(vectors)
        diagonal = r.diagonal(dim1=-2, dim2=-1)
        q = q * torch.where(diagonal < 0, -1.0, 1.0)[..., None, :].to(q.dtype)
        longest = vectors.square().sum(-2).amax(-1).sqrt()
        smallest = 8 * torch.finfo(vectors.dtype).eps * longest
        dependent = (diagonal.abs().amin(-1) <= smallest)[..., None, None]
    safe = torch.where(dependent, q, vectors)
    axes: list[Tensor] = []
    for column in safe.unbind(-1):
        rest = column
        for _ in range(2):  # the second pass takes the rounding of the first
            for axis in axes:
                rest = rest - (rest * axis).sum(-1, keepdim=True) * axis
        axes.append(rest / rest.square().sum(-1, keepdim=True).sqrt())
    result = torch.stack(axes, dim=-1)
    if special:
        turn = torch.linalg.det(result.detach()).sign()[..., None, None]
        result = torch.cat([result[..., :-1], result[..., -1:] * turn], dim=-1)
    return torch.where(dependent, result.detach(), result)
