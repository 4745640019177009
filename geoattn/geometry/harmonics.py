"""Real spherical harmonics by recursion on polynomials: no angles, no poles."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant

MAX_DEGREE = 12


def spherical_harmonics(
    unit: Tensor, lmax: int, normalization: Literal["component", "norm", "integral"] = "component"
) -> Tensor:
    r"""Real spherical harmonics ``Y_lm`` of degrees ``0..lmax`` of unit vectors.

    The conventions are e3nn's: y is the polar axis, components run over ``m = -l..l`` within each degree, and degree 1
    is the vector ``(x, y, z)`` itself times a constant. With :math:`(z + ix)^m = C_m + i S_m`, :math:`Y_{lm} \propto
    C_m`, :math:`Y_{l,-m} \propto S_m` times a polynomial in y of the recursion (up to a factor per component)

    .. math:: p_{l}^m = y\, p_{l-1}^m - \frac{(l-1)^2 - m^2}{4 (l-1)^2 - 1}\, r^2\, p_{l-2}^m, \qquad p_m^m = 1

    ``r^2`` is kept, so the result is the homogeneous polynomial ``r^l Y_lm`` of any vector (what
    ``e3nn.o3.spherical_harmonics(..., normalize=False)`` gives): smooth everywhere, and zero at the zero vector for
    ``l > 0``. Make ``unit`` with ``geoattn.geometry.edges.safe_unit``; then the composition has the right derivatives
    of every order at points, and value and derivatives of 0 at zero length.

    Args:
        unit: ``[..., 3]`` unit vectors, or zero vectors.
        lmax: highest degree L, 0 to 12.
        normalization: the sum of squares over m is ``2l + 1`` ("component"), 1 ("norm"), or ``(2l + 1) / (4 pi)``
            ("integral": orthonormal on the sphere).

    Returns:
        ``[..., (L + 1)^2]`` in the dtype of ``unit``, degrees one after the other.

    Raises:
        ShapeError: if ``unit`` is not ``[..., 3]`` or ``lmax`` is not in 0..12.

    Symmetry: ``Y_l(R u) = D^l(R) Y_l(u)``, and ``Y_l(-u) = (-1)^l Y_l(u)``.

    Cost: about 7 operations per degree on ``[2l + 1, ...]`` arrays, ``6 (L + 1)^2`` multiplications per vector.

    Example:
        >>> import torch
        >>> spherical_harmonics(torch.tensor([0.0, 1.0, 0.0]), lmax=1, normalization="norm").tolist()
        [1.0, 0.0, 1.0, 0.0]
    """
    if unit.ndim == 0 or unit.shape[-1] != 3:
        raise ShapeError("unit", f"shape {tuple(unit.shape)}", "[..., 3]")
    if not 0 <= lmax <= MAX_DEGREE:
        raise ShapeError("lmax", f"{lmax}", f"a degree from 0 to {MAX_DEGREE}")
    x, y, z = unit.movedim(-1, 0).unsqueeze(1).unbind(0)  # [1, ...]: components lead, so that rows are contiguous
    columns = (-1,) + (1,) * (unit.ndim - 1)
    below = torch.ones_like(x)
    degrees = [below]
    if lmax >= 1:
        square = x * x + y * y + z * z
        sine, cosine, polar = x, z, torch.cat([x, y, z])
        degrees.append(polar)
    for degree in range(2, lmax + 1):
        drop = _drop(degree, unit.dtype, unit.device).view(columns)
        lowest, inner, highest = (y * polar).split([1, 2 * degree - 3, 1])
        inner = torch.addcmul(inner, drop * square, below)
        sine, cosine = torch.addcmul(z * sine, x, cosine), torch.addcmul(z * cosine, x, sine, value=-1)
        below, polar = polar, torch.cat([sine, lowest, inner, highest, cosine])
        degrees.append(polar)
    scale = _scale(lmax, normalization, unit.dtype, unit.device)
    return torch.cat(degrees).movedim(0, -1).contiguous() * scale


@constant
def _drop(degree: int) -> Tensor:
    """``-((l-1)^2 - m^2) / (4 (l-1)^2 - 1)`` for ``|m| <= l - 2``: what the recursion takes off."""
    m = torch.arange(2 - degree, degree - 1, dtype=torch.float64)
    return (m * m - (degree - 1) ** 2) / (4 * (degree - 1) ** 2 - 1)


@constant
def _scale(lmax: int, normalization: str) -> Tensor:
    """``[(lmax + 1)^2]`` from polynomials with leading coefficient 1 to harmonics."""
    degree_factor = {
        "component": lambda degree: math.sqrt(2 * degree + 1),
        "norm": lambda degree: 1.0,
        "integral": lambda degree: math.sqrt((2 * degree + 1) / (4 * math.pi)),
    }
    if normalization not in degree_factor:
        raise ShapeError("normalization", repr(normalization), "'component', 'norm' or 'integral'")
    scales = []
    for degree in range(lmax + 1):
        factor = degree_factor[normalization](degree)
        for m in map(abs, range(-degree, degree + 1)):
            # leading coefficient of the m-th derivative of the Legendre polynomial, then the norm of the product
            leading = math.factorial(2 * degree) / (2**degree * math.factorial(degree) * math.factorial(degree - m))
            norm = (1 if m == 0 else 2) * math.factorial(degree - m) / math.factorial(degree + m)
            scales.append(factor * leading * math.sqrt(norm))
    return torch.tensor(scales, dtype=torch.float64)
