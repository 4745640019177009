"""`EdgeBasis`: all that equivariant layers need to know of the edges, computed once and shared by every layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.geometry.edge_frame import EdgeFrame
from geoattn.geometry.edges import (
    bessel_basis,
    edge_vectors,
    gaussian_basis,
    polynomial_envelope,
    safe_norm,
    safe_unit,
)
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.kernels import Neighborhood


class EdgeBasis:
    """Lengths, directions, harmonics, radial functions and frames of the edges, all in CSR order of ``nbr``.

    Everything is differentiable in the positions, twice and more, at edges along the axes and of length zero too.
    Harmonics, radial functions and frames are made when first asked for, and kept. Use ``detach`` for a basis
    without gradients: a basis made under ``torch.no_grad`` would silence derivatives unseen.

    Attributes:
        nbr: the edges, in CSR order (``nbr.in_csr_order()``).
        vector: ``[E, 3]``, ``pos[source] - pos[target]`` (plus the shift), in the unit of the positions.
        distance: ``[E]``, lengths.
        unit: ``[E, 3]``, directions; 0 where the length is 0.
        weight: ``[E]``, the envelope of the distance (1 without a cutoff), and 0 on edges of length zero, which have
            no direction: only functions of degree 0 are defined there.
        cutoff: distance at which ``weight`` vanishes; None without.

    Symmetry: ``distance``, ``weight`` and ``radial`` are E(3)-invariant; ``vector``, ``unit`` and ``harmonics`` rotate,
    reflect and do not translate.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 1]]), num_targets=2)
        >>> basis = EdgeBasis.build(torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), nbr)
        >>> basis.distance.tolist(), basis.harmonics(2).shape
        ([5.0, 5.0], torch.Size([2, 9]))
    """

    def __init__(
        self,
        nbr: Neighborhood,
        vector: Tensor,
        distance: Tensor,
        unit: Tensor,
        weight: Tensor,
        cutoff: float | None = None,
    ) -> None:
        self.nbr = nbr
        self.vector = vector
        self.distance = distance
        self.unit = unit
        self.weight = weight
        self.cutoff = cutoff
        self._made: dict[tuple[Any, ...], Any] = {}

    @classmethod
    def build(
        cls, pos: Tensor, nbr: Neighborhood, cutoff: float | None = None, shift: Tensor | None = None
    ) -> EdgeBasis:
        """The basis of the edges ``nbr`` between points.

        Args:
            pos: ``[N, 3]`` positions. Kept in its own precision under autocast.
            nbr: the edges.
            cutoff: distance at which ``weight`` vanishes, with two continuous derivatives; None for no envelope.
            shift: ``[E, 3]`` in the caller's order, added to the edge vectors (periodic images).

        Raises:
            ShapeError: if ``pos`` is not ``[N, 3]`` or does not fit ``nbr``, or ``cutoff`` is not positive.
        """
        if pos.ndim != 2 or pos.shape[1] != 3:
            raise ShapeError("pos", f"shape {tuple(pos.shape)}", "[N, 3]")
        vector = edge_vectors(pos, nbr, shift)
        distance = safe_norm(vector)
        weight = (distance > 0).to(distance.dtype)
        if cutoff is not None:
            weight = weight * polynomial_envelope(distance, cutoff)
        return cls(nbr.in_csr_order(), vector, distance, safe_unit(vector, distance), weight, cutoff)

    def harmonics(self, lmax: int) -> Tensor:
        """Spherical harmonics of the directions, "component" normalised: ``[E, (lmax + 1)^2]``.

        Those of a lower degree are the first columns of those of a higher one. At length zero only l = 0 is not 0.
        """
        return self.once(("harmonics", lmax), lambda: spherical_harmonics(self.unit, lmax))

    def frame(self, lmax: int, mmax: int) -> EdgeFrame:
        """The rotations to the edges' frames; see ``EdgeFrame``."""
        return self.once(("frame", lmax, mmax), lambda: EdgeFrame.build(self.unit, lmax, mmax))

    def radial(self, num: int, kind: Literal["gaussian", "bessel"] = "gaussian", cutoff: float | None = None) -> Tensor:
        """Radial functions of the distance, ``[E, num]``, without the envelope.

        Args:
            num: number of functions.
            kind: "gaussian" (``gaussian_basis`` on ``[0, cutoff]``) or "bessel" (``bessel_basis``).
            cutoff: the largest distance; that of the basis if None.

        Raises:
            ShapeError: if ``kind`` is neither, or there is no cutoff.
        """
        cutoff = self.cutoff if cutoff is None else cutoff
        if cutoff is None:
            raise ShapeError("cutoff", "None", "a distance", "The basis was built without one.")
        if kind == "gaussian":
            return self.once(("gaussian", num, cutoff), lambda: gaussian_basis(self.distance, 0.0, cutoff, num))
        if kind == "bessel":
            return self.once(("bessel", num, cutoff), lambda: bessel_basis(self.distance, cutoff, num))
        raise ShapeError("kind", repr(kind), "'gaussian' or 'bessel'")

    def detach(self) -> EdgeBasis:
        """The same basis without gradients."""
        return EdgeBasis(
            self.nbr,
            self.vector.detach(),
            self.distance.detach(),
            self.unit.detach(),
            self.weight.detach(),
            self.cutoff,
        )

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What ``make()`` returns, made when first asked for and kept: for what a family of layers shares besides.

        Args:
            key: names it, starting with a word of its own.
            make: makes it out of this basis.
        """
        key = (*key, torch.is_grad_enabled())  # what is made without gradients must not serve where they are wanted
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
