"""`EdgeFrame`: features of nodes, seen from frames in which an edge is the polar axis."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry._constants import constant
from geoattn.geometry.wigner import rotation_to_y, wigner_rows


def m_sizes(lmax: int, mmax: int) -> list[int]:
    """The number of degrees that have order m, for ``m = 0..mmax``: ``[L + 1, L, ..., L + 1 - M]``.

    In M-major order the first ``m_sizes[0]`` rows are those of ``m = 0``; then come, for each ``m >= 1``,
    ``m_sizes[m]`` rows of ``+m`` and as many of ``-m``.

    Raises:
        ShapeError: unless ``0 <= mmax <= lmax``.

    Example:
        >>> m_sizes(6, 2)
        [7, 6, 5]
    """
    if not 0 <= mmax <= lmax:
        raise ShapeError("mmax", f"{mmax}", f"an order from 0 to lmax = {lmax}")
    return [lmax + 1 - m for m in range(mmax + 1)]


def m_major(lmax: int, mmax: int) -> list[tuple[int, int]]:
    """The ``(l, m)`` of every row in M-major order: ``m = 0`` for all l, then for each ``m >= 1`` ``+m``, then ``-m``.

    Example:
        >>> m_major(2, 1)
        [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, -1), (2, -1)]
    """
    orders = [0] + [sign * m for m in range(1, len(m_sizes(lmax, mmax))) for sign in (1, -1)]
    return [(degree, m) for m in orders for degree in range(abs(m), lmax + 1)]


class EdgeFrame:
    """For each edge the Wigner matrix that turns features so that the edge is the polar axis y.

    There a convolution with harmonics of the edge is block-diagonal in the order m, which is why the rows are in
    M-major order (see ``m_major``). Rows of ``|m| > mmax`` are left out: with ``mmax < lmax``, ``rotate_back`` after
    ``rotate`` is a projection. The roll about the edge is the one of ``rotation_to_y``; what commutes with rolls
    (SO(2)-equivariant maps do) gives a result that does not depend on it.

    An edge of length zero has no direction; its matrix is the identity, which is not equivariant. Send nothing there:
    ``EdgeBasis.weight`` is 0.

    Attributes:
        rotation: ``[E, S_M, S]``, ``S = (L + 1)^2``; orthonormal rows. Derivatives by the unit vectors are bounded.
        lmax: L, highest degree.
        mmax: M, highest order kept, at most L.

    Cost: memory ``E S_M S``; built by ``wigner_rows``.

    Example:
        >>> import torch
        >>> frame = EdgeFrame.build(torch.tensor([[0.0, 0.6, 0.8]]), lmax=2, mmax=1)
        >>> frame.rotate(torch.randn(1, 9, 4)).shape
        torch.Size([1, 7, 4])
    """

    def __init__(self, rotation: Tensor, lmax: int, mmax: int) -> None:
        self.rotation = rotation
        self.lmax = lmax
        self.mmax = mmax

    @classmethod
    def build(cls, unit: Tensor, lmax: int, mmax: int) -> EdgeFrame:
        """The frames of unit vectors ``[E, 3]`` (or zero vectors).

        Raises:
            ShapeError: if ``unit`` is not ``[E, 3]``, or not ``0 <= mmax <= lmax``.
        """
        if unit.ndim != 2:
            raise ShapeError("unit", f"shape {tuple(unit.shape)}", "[E, 3]")
        num_rows, size = len(m_major(lmax, mmax)), (lmax + 1) ** 2
        blocks = wigner_rows(rotation_to_y(unit), lmax, mmax)
        values = torch.cat([block.flatten(1) for block in blocks], dim=1)
        places = _places(lmax, mmax, torch.int64, unit.device)
        # copied into zeros, rather than gathered, so that the derivative is a gather
        rotation = values.new_zeros(unit.shape[0], num_rows * size).index_copy_(1, places, values)
        return cls(rotation.unflatten(1, (num_rows, size)), lmax, mmax)

    def rotate(self, x: Tensor) -> Tensor:
        """Features ``[E, S, C]`` in space -> ``[E, S_M, C]`` in the edges' frames, M-major, in the rotation's dtype.

        Cost: one batched matrix product, ``E S_M S C`` multiplications.
        """
        return self._multiply("x", self.rotation, x)

    def rotate_back(self, z: Tensor) -> Tensor:
        """Features ``[E, S_M, C]`` in the edges' frames -> ``[E, S, C]`` in space; the transpose of ``rotate``."""
        return self._multiply("z", self.rotation.mT, z)

    def _multiply(self, argument: str, matrix: Tensor, x: Tensor) -> Tensor:
        num_edges, _, size = matrix.shape
        if x.ndim != 3 or x.shape[:2] != (num_edges, size):
            raise ShapeError(argument, f"shape {tuple(x.shape)}", f"[E = {num_edges}, {size}, C]")
        with torch.autocast(matrix.device.type, enabled=False):  # in 16 bits the symmetry would not hold
            return torch.bmm(matrix, x.to(matrix.dtype))


@constant
def _places(lmax: int, mmax: int) -> Tensor:
    """Where the entries of the blocks of ``wigner_rows`` stand in the flattened ``[S_M, S]`` matrix."""
    row_of = {row: place for place, row in enumerate(m_major(lmax, mmax))}
    size = (lmax + 1) ** 2
    return torch.tensor(
        [
            row_of[degree, m] * size + column
            for degree in range(lmax + 1)
            for m in range(-min(degree, mmax), min(degree, mmax) + 1)
            for column in range(degree**2, (degree + 1) ** 2)
        ]
    )
