"""Clebsch-Gordan products of features of all degrees, as a table for `geoattn.kernels.sparse_bilinear`."""

from __future__ import annotations

import functools

import torch

from geoattn.errors import InputError
from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.kernels import BilinearTable


def clebsch_gordan_paths(
    lmax_x: int, lmax_y: int, lmax_out: int, *, reflections: bool = False
) -> list[tuple[int, int, int]]:
    """All (l_x, l_y, l_out) with |l_x - l_y| <= l_out <= l_x + l_y up to the given degrees, in ascending order.

    With ``reflections`` only those whose sum is even, which keep parity (-1)^l.
    """
    return [
        (l_x, l_y, l_out)
        for l_x in range(lmax_x + 1)
        for l_y in range(lmax_y + 1)
        for l_out in range(abs(l_x - l_y), min(l_x + l_y, lmax_out) + 1)
        if not reflections or (l_x + l_y + l_out) % 2 == 0
    ]


@functools.cache
def clebsch_gordan_table(lmax_x: int, lmax_y: int, lmax_out: int, *, reflections: bool = False) -> BilinearTable:
    """The tensor product of features with one component per degree and order, l-major, as one table.

    Path p of the table is ``clebsch_gordan_paths(...)[p]``, with the coefficients of `clebsch_gordan`, of unit
    Frobenius norm each. `sparse_bilinear` with it is SO(3)-equivariant, with ``reflections`` O(3)-equivariant.

    Args:
        lmax_x: largest degree of x, so I = (lmax_x + 1)^2.
        lmax_y: largest degree of y, J = (lmax_y + 1)^2.
        lmax_out: largest degree of the result, K = (lmax_out + 1)^2.
        reflections: keep only the paths with l_x + l_y + l_out even.

    Raises:
        InputError: if a degree is negative.

    Example:
        >>> clebsch_gordan_table(1, 1, 1)
        BilinearTable(16 coefficients, sizes=(4, 4, 4, 5))
    """
    for name, degree in {"lmax_x": lmax_x, "lmax_y": lmax_y, "lmax_out": lmax_out}.items():
        if degree < 0:
            raise InputError(f"{name}: got {degree}, expected a degree of 0 or more.")
    paths = clebsch_gordan_paths(lmax_x, lmax_y, lmax_out, reflections=reflections)
    indices, values = [], []
    for path, degrees in enumerate(paths):
        block = clebsch_gordan(*degrees)
        places = block.nonzero()
        values.append(block[tuple(places.T)])
        first = torch.tensor([degree**2 for degree in degrees])
        indices.append(torch.cat([places + first, torch.full_like(places[:, :1], path)], dim=1))
    i, j, k, p = torch.cat(indices).T
    sizes = ((lmax_x + 1) ** 2, (lmax_y + 1) ** 2, (lmax_out + 1) ** 2, len(paths))
    return BilinearTable(i, j, k, p, torch.cat(values), sizes)
