"""Rows of latitude and their weights: quadrature rules in the cosine of the colatitude."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import Legendre, legendre
from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint


def latitudes(nlat: int, kind: str = "equiangular") -> tuple[Tensor, Tensor]:
    r"""Colatitudes of a grid's rows, from north to south, and the weights of a quadrature rule in their cosine.

    ================================ ================================================ ==============================
    kind                             colatitudes                                      exact for polynomials of degree
    ================================ ================================================ ==============================
    "equiangular"                    :math:`\pi i / (n - 1)`, poles included          n - 1 (Clenshaw-Curtis)
    "cells"                          :math:`\pi (i + 1/2) / n`                        n - 1 (Fejer)
    "legendre-gauss"                 roots of the Legendre polynomial of degree n     2n - 1
    "lobatto"                        poles, roots of the derivative of that of n - 1  2n - 3
    "equiangular-trapezoidal"        equally spaced in the cosine, poles included     1
    ================================ ================================================ ==============================

    The names are those of torch-harmonics, "cells" apart; despite its name the last is not equally spaced in angle.

    Args:
        nlat: n, number of rows; at least 1, at least 2 where the poles are included.
        kind: one of the names above.

    Returns:
        ``colatitude [nlat]`` ascending, radians, and ``weight [nlat]``, positive with sum 2; both float64.

    Raises:
        ShapeError: for an unknown kind or too few rows.

    Cost: O(nlat^2), for "legendre-gauss" and "lobatto" O(nlat^3) in the eigenvalue problem of the roots.

    Example:
        >>> colatitude, weight = latitudes(3)
        >>> weight.mul(3).tolist()
        [1.0, 4.0, 1.0]
    """
    if kind not in _RULES:
        raise ShapeError("kind", repr(kind), f"one of {sorted(_RULES)}", nearest_hint(kind, list(_RULES)))
    rule, fewest = _RULES[kind]
    if nlat < fewest:
        raise ShapeError("nlat", f"{nlat}", f"at least {fewest} for kind={kind!r}")
    colatitude, weight = rule(nlat)
    return torch.from_numpy(colatitude), torch.from_numpy(weight * (2 / weight.sum()))


def _clenshaw_curtis(n: int) -> tuple[np.ndarray, np.ndarray]:
    colatitude = np.pi * np.arange(n) / (n - 1)
    weight = _cosine_integrals(colatitude, n - 1) * 2 / (n - 1)
    weight[[0, -1]] /= 2
    return colatitude, weight


def _fejer(n: int) -> tuple[np.ndarray, np.ndarray]:
    colatitude = np.pi * (np.arange(n) + 0.5) / n
    return colatitude, _cosine_integrals(colatitude, n) * 2 / n


def _cosine_integrals(colatitude: np.ndarray, order: int) -> np.ndarray:
    """The sum over even k <= order of cos(k theta) times the integral of T_k over [-1, 1]; both ends count half."""
    even = np.arange(0, order + 1, 2)
    half = np.where((even == 0) | (even == order), 0.5, 1)
    return np.cos(np.outer(colatitude, even)) @ (half * 2 / (1 - even.astype(float) ** 2))


def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    node, weight = legendre.leggauss(n)
    return np.arccos(node[::-1]), weight[::-1].copy()


def _lobatto(n: int) -> tuple[np.ndarray, np.ndarray]:
    polynomial = Legendre.basis(n - 1)
    slope, bend = polynomial.deriv(1), polynomial.deriv(2)
    inner = np.sort(slope.roots().real) if n > 2 else np.empty(0)
    for _ in range(2):  # Newton's steps: the eigenvalue problem loses digits
        inner = inner - slope(inner) / bend(inner)
    node = np.concatenate([[-1.0], (inner - inner[::-1]) / 2, [1.0]])
    weight = 2 / (n * (n - 1) * polynomial(node) ** 2)
    return np.arccos(node[::-1]), weight[::-1].copy()


def _trapezoidal(n: int) -> tuple[np.ndarray, np.ndarray]:
    weight = np.full(n, 2 / (n - 1))
    weight[[0, -1]] /= 2
    return np.arccos(np.linspace(1, -1, n)), weight


_RULES: dict[str, tuple[Callable[[int], tuple[np.ndarray, np.ndarray]], int]] = {
    "equiangular": (_clenshaw_curtis, 2),
    "cells": (_fejer, 1),
    "legendre-gauss": (_gauss, 1),
    "lobatto": (_lobatto, 2),
    "equiangular-trapezoidal": (_trapezoidal, 2),
}


def recognize(colatitude: Tensor) -> tuple[str, Tensor, Tensor] | None:
    """The rule whose rows are these, as ``(kind, colatitude, weight)`` in their order, or None.

    Coordinates in files are rounded: rows are taken for a rule's if all are within a hundredth of its mean spacing.
    """
    order = colatitude.argsort()
    for kind, (_, fewest) in _RULES.items():
        if len(colatitude) < fewest:
            continue
        exact, weight = latitudes(len(colatitude), kind)
        if bool(((colatitude[order] - exact).abs() < 0.01 * math.pi / len(colatitude)).all()):
            place = order.argsort()
            return kind, exact[place], weight[place]
    return None


def areas_between_midpoints(colatitude: Tensor) -> Tensor:
    """``[nlat]`` weights summing to 2: the zone up to the midpoints between rows; equal rows share theirs."""
    row, inverse, count = colatitude.unique(return_inverse=True, return_counts=True)
    edge = torch.cat([row.new_zeros(1), (row[1:] + row[:-1]) / 2, row.new_full((1,), math.pi)])
    return (-edge.cos().diff() / count)[inverse]


def arcs_between_midpoints(longitude: Tensor) -> Tensor:
    """``[nlon]`` weights summing to 2 pi: the arc up to the midpoints between columns; equal columns share theirs."""
    turn = 2 * math.pi
    longitude = longitude % turn
    rounded = (longitude / turn * 1e9).round() % 1e9
    group, inverse, count = rounded.unique(return_inverse=True, return_counts=True)
    around = torch.where(rounded == 0, torch.remainder(longitude + 1, turn) - 1, longitude)  # just below 360 is 0
    column = torch.zeros_like(group).index_add(0, inverse, around) / count
    gap = torch.cat([column, column[:1] + turn]).diff()
    return ((gap + gap.roll(1)) / 2 / count)[inverse]
