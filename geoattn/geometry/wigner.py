"""Wigner matrices of real harmonics, as polynomials in the entries of the rotation, and rotations to the polar axis."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant
from geoattn.geometry.clebsch_gordan import clebsch_gordan


def wigner_d(rotation: Tensor, lmax: int) -> list[Tensor]:
    r"""Wigner matrices ``D^l(R)`` of degrees ``0..lmax``: ``Y_l(R u) = D^l(R) Y_l(u)``, and ``D^1(R) = R``.

    Recursion in the entries of R, without angles: with A the isometry from degree l into degrees 1 and l-1 (the
    Clebsch-Gordan coefficients), ``A D^l = (R (x) D^(l-1)) A``. Each row of ``D^l`` follows from one of these
    equations (two for ``m = -l`` and ``m = l``), so row m needs row m of ``D^(l-1)`` only. The result is a polynomial
    of degree l in R, smooth at every rotation, with derivatives of every order.

    Args:
        rotation: ``[..., 3, 3]`` rotations. What is not a rotation gives matrices that represent nothing.
        lmax: highest degree, at least 0.

    Returns:
        a list of ``[..., 2l + 1, 2l + 1]`` in the dtype of ``rotation``, orthogonal; also under autocast.

    Raises:
        ShapeError: if ``rotation`` is not ``[..., 3, 3]``, or ``lmax`` is negative.

    Symmetry: ``D(R1 R2) = D(R1) D(R2)``.

    Cost: per matrix ``sum_l 3 (2l - 1) (2l + 1)^2`` multiplications (11 500 for L = 6), about 10 operations per degree.
    They are matrix products: on CUDA ``torch.set_float32_matmul_precision("high")`` rounds them to TF32, and symmetry
    then holds to 1e-3 only.

    Example:
        >>> import torch
        >>> turn = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
        >>> [tuple(D.shape) for D in wigner_d(turn, lmax=2)]
        [(1, 1), (3, 3), (5, 5)]
    """
    return wigner_rows(rotation, lmax, lmax)


def wigner_rows(rotation: Tensor, lmax: int, mmax: int) -> list[Tensor]:
    """The rows ``|m| <= mmax`` of ``wigner_d``: a list of ``[..., 2 min(l, mmax) + 1, 2l + 1]``.

    Cost: that of ``wigner_d`` times the share of the rows kept (``sum_l (2 min(l, M) + 1) 3 (2l - 1) (2l + 1)``).
    """
    if rotation.ndim < 2 or rotation.shape[-2:] != (3, 3):
        raise ShapeError("rotation", f"shape {tuple(rotation.shape)}", "[..., 3, 3]")
    if lmax < 0:
        raise ShapeError("lmax", f"{lmax}", "a degree of at least 0")
    if mmax < 0:
        raise ShapeError("mmax", f"{mmax}", "an order of at least 0")
    with torch.autocast(rotation.device.type, enabled=False):  # 16 bits would be felt as a broken symmetry
        matrices = [torch.ones_like(rotation[..., :1, :1])]
        if lmax >= 1:
            matrices.append(rotation if mmax >= 1 else rotation[..., 1:2, :])
        for degree in range(2, lmax + 1):
            matrices.append(_next_rows(rotation, matrices[-1], degree, mmax))
    return matrices


def _next_rows(rotation: Tensor, below: Tensor, degree: int, mmax: int) -> Tensor:
    """Rows ``|m| <= mmax`` of ``D^l`` from those of ``D^(l-1)``."""
    order = min(degree - 1, mmax)
    like = (rotation.dtype, rotation.device)
    # rows |m| < l: the equation for component (y, m), divided by its coefficient
    factor = rotation[..., 1:2, :] * _inverse_coefficient(degree, order, *like)[:, None]
    product = below.unsqueeze(-1) * factor.unsqueeze(-2)
    if mmax >= degree:  # rows -l and l: (z + ix)^l from (z + ix)^(l-1)
        outer, sides = below[..., :: 2 * degree - 2, :], rotation[..., ::2, :]  # the first and the last row of each
        ends = outer.unsqueeze(-3).unsqueeze(-1) * sides.unsqueeze(-2).unsqueeze(-3)
        lowest, highest = torch.einsum("...ijab,nij->...nab", ends, _end_coefficients(degree, *like)).split(1, -3)
        product = torch.cat([lowest, product, highest], dim=-3)
    return product.flatten(-2) @ _isometry(degree, *like)


@constant
def _isometry(degree: int) -> Tensor:
    """``[(2l - 1) 3, 2l + 1]`` A: degree l in the product of degrees l-1 (outer index) and 1."""
    coupling = clebsch_gordan(degree - 1, 1, degree)
    return coupling.flatten(0, 1) * (2 * degree + 1) ** 0.5


@constant
def _inverse_coefficient(degree: int, order: int) -> Tensor:
    """``[2 order + 1]`` the inverses of A at row (m, y), column m."""
    coupling = _isometry(degree, torch.float64, "cpu").view(2 * degree - 1, 3, 2 * degree + 1)
    return 1 / coupling[:, 1, 1:-1].diagonal()[degree - 1 - order : degree + order]


@constant
def _end_coefficients(degree: int) -> Tensor:
    """``[2, 2, 2]`` A at columns -l and l; rows x, z of degree 1 times rows -(l-1), l-1 of degree l-1."""
    coupling = _isometry(degree, torch.float64, "cpu").view(2 * degree - 1, 3, 2 * degree + 1)
    return coupling[[0, -1]][:, [0, 2]][:, :, [0, -1]].permute(2, 1, 0)


def rotation_to_y(unit: Tensor) -> Tensor:
    r"""Rotations ``R`` with ``R u = (0, 1, 0)``: the frame in which u is the polar axis.

    In the half space ``y >= 0`` this is the shortest rotation; where ``y < 0``, half a turn about x and then the
    shortest rotation. Within each of the two charts R is rational in u, and its denominator ``1 + |y|`` is never
    small, so all derivatives are bounded, at the six axis directions too. R jumps (by a roll about y) at ``y = 0``:
    functions that do not depend on the roll, such as SO(2)-equivariant maps between rotating there and back, do not.

    Args:
        unit: ``[..., 3]`` unit vectors, or zero vectors, for which R is the identity.

    Returns:
        ``[..., 3, 3]``. The middle row is u itself.

    Raises:
        ShapeError: if ``unit`` is not ``[..., 3]``.

    Symmetry: ``R(Q u) Q`` and ``R(u)`` differ by a roll about y, for every rotation Q.

    Example:
        >>> import torch
        >>> R = rotation_to_y(torch.tensor([0.0, 0.0, 1.0]))
        >>> (R @ torch.tensor([0.0, 0.0, 1.0])).tolist()
        [0.0, 1.0, 0.0]
    """
    if unit.ndim == 0 or unit.shape[-1] != 3:
        raise ShapeError("unit", f"shape {tuple(unit.shape)}", "[..., 3]")
    x, y, z = unit.unbind(-1)
    side = torch.where(y < 0, -1.0, 1.0).to(unit.dtype)
    inverse = 1 / (1 + side * y)
    xx, xz, zz = x * x * inverse, x * z * inverse, z * z * inverse
    middle = torch.where((unit == 0).all(-1), 1.0, y)
    entries = [1 - xx, -side * x, -xz, x, middle, z, -side * xz, -z, side * (1 - zz)]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))
