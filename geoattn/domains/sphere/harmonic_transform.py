"""Spherical harmonic transforms of scalar fields and of winds on a Gauss-Legendre grid, float64.

Harmonics are orthonormal with the Condon-Shortley phase, as in SciPy and physics: ``Y_lm = P_lm(cos theta) exp(i m
phi)`` with ``int |Y_lm|^2 = 1``. A real field has the coefficients of orders ``m >= 0`` alone; the others follow.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geoattn.errors import ShapeError


def legendre_functions(x: np.ndarray, num_degrees: int) -> np.ndarray:
    """``[M, L, n]``: orthonormal associated Legendre functions at ``x [n]``, with M = L = ``num_degrees``.

    The recurrence goes up in the degree at fixed order, from ``P_mm``, which is stable. Near the poles ``P_mm`` of
    large orders underflows to zero, where the functions are as good as zero up to degrees of about 1,000.

    Source: Holmes and Featherstone (2002), J. Geodesy 76, 279, eqs. 11 and 12, orthonormal instead of 4-pi.

    Example:
        >>> round(float(legendre_functions(np.array([0.3]), 2)[0, 0, 0] ** 2 * 4 * np.pi), 12)
        1.0
    """
    sine = np.sqrt(1 - x**2)
    table = np.zeros((num_degrees, num_degrees, len(x)))
    diagonal = np.full(len(x), np.sqrt(1 / (4 * np.pi)))
    for m in range(num_degrees):
        if m:
            diagonal = -np.sqrt((2 * m + 1) / (2 * m)) * sine * diagonal
        table[m, m] = diagonal
        for l in range(m + 1, num_degrees):  # noqa: E741
            a = np.sqrt((4 * l**2 - 1) / (l**2 - m**2))
            b = np.sqrt(((l - 1) ** 2 - m**2) / (4 * (l - 1) ** 2 - 1)) if l > m + 1 else 0.0
            table[m, l] = a * (x * table[m, l - 1] - b * table[m, l - 2])
    return table


class HarmonicTransform:
    """Between fields on a Gauss-Legendre grid and coefficients of the degrees below ``num_degrees``.

    Rows of the grid go from north to south, columns from longitude 0 eastwards. Coefficients are complex128
    ``[..., L, M]`` (degree, order; L = M = ``num_degrees``), zero where the order is larger than the degree. Both
    directions are exact for fields of degrees below ``num_degrees`` if that is at most ``nlat`` and ``nlon / 2``.
    Winds are fields on the unit sphere: divide gradients by the radius.

    Cost: O(L^2 nlat) per field, and as many numbers are stored.

    Args:
        nlat: rows of the grid.
        nlon: columns of the grid.
        num_degrees: L, degrees 0 .. L - 1.
        device: of the tables and of all fields.

    Raises:
        ShapeError: more degrees than the grid can tell apart.

    Example:
        >>> transform = HarmonicTransform(8, 16, 5)
        >>> field = transform.colatitude.cos()[:, None].expand(8, 16)
        >>> coefficients = transform.analyse(field)
        >>> round(float(coefficients[1, 0].real) ** 2, 12) == round(4 * np.pi / 3, 12)
        True
    """

    def __init__(self, nlat: int, nlon: int, num_degrees: int, device: torch.device | str = "cpu") -> None:
        if not 1 <= num_degrees <= min(nlat, nlon // 2):
            raise ShapeError(
                "num_degrees", str(num_degrees), f"1 .. {min(nlat, nlon // 2)} for a grid of {nlat} x {nlon}"
            )
        self.nlat, self.nlon, self.num_degrees = nlat, nlon, num_degrees
        x, weight = np.polynomial.legendre.leggauss(nlat)
        x, weight = x[::-1].copy(), weight[::-1].copy()  # from the north pole
        sine = np.sqrt(1 - x**2)
        values = legendre_functions(x, num_degrees)
        degree, order = np.arange(num_degrees)[None, :, None], np.arange(num_degrees)[:, None, None]
        below = np.zeros_like(values)  # P of degree l - 1
        below[:, 1:] = values[:, :-1]
        factor = np.sqrt(np.maximum((2 * degree + 1) * (degree**2 - order**2) / np.maximum(2 * degree - 1, 1), 0.0))
        slope = (degree * x * values - factor * below) / sine
        self.colatitude = torch.from_numpy(np.arccos(x)).to(device)
        self.longitude = torch.arange(nlon, dtype=torch.float64, device=device) * (2 * np.pi / nlon)
        self.weight = torch.from_numpy(weight).to(device)
        self._values, self._slopes, self._turns = (
            torch.from_numpy(table).to(device) for table in (values, slope, order * values / sine)
        )  # P, dP / d theta, m P / sin theta: [M, L, nlat]
        degrees = torch.arange(num_degrees, dtype=torch.float64, device=device)[:, None]
        self.laplacian = -degrees * (degrees + 1)  # [L, 1], eigenvalues on the unit sphere
        self._inverse = torch.where(self.laplacian < 0, 1 / self.laplacian.clamp(max=-1), 0.0)

    def analyse(self, field: Tensor) -> Tensor:
        """``[..., L, M]`` coefficients of real fields ``[..., nlat, nlon]``: the projection on the harmonics."""
        return self._project(self._fourier(field), self._values)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """``[..., nlat, nlon]`` real fields of coefficients ``[..., L, M]``."""
        return self._columns(self._evaluate(coefficients, self._values))

    def wind(self, vorticity: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """The eastward and the northward wind ``[..., nlat, nlon]`` of coefficients of its vorticity and divergence.

        The mean of a vorticity or a divergence over the sphere is zero: what is given at degree 0 counts for nothing.
        """
        psi, chi = self._inverse * vorticity, self._inverse * divergence
        psi_slope, psi_turn = self._evaluate(psi, self._slopes), 1j * self._evaluate(psi, self._turns)
        chi_slope, chi_turn = self._evaluate(chi, self._slopes), 1j * self._evaluate(chi, self._turns)
        return self._columns(psi_slope + chi_turn), self._columns(psi_turn - chi_slope)

    def curl_and_divergence(self, east: Tensor, north: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients ``[..., L, M]`` of the vertical vorticity and the divergence of ``[..., nlat, nlon]`` winds.

        The derivative is taken of the harmonics (integration by parts), so that degree 0 of both is exactly zero.
        """
        u, v = self._fourier(east), self._fourier(north)
        divergence = 1j * self._project(u, self._turns) + self._project(v, self._slopes)
        vorticity = 1j * self._project(v, self._turns) - self._project(u, self._slopes)
        return vorticity, divergence

    def integral(self, field: Tensor) -> Tensor:
        """``[...]``: the integral of ``[..., nlat, nlon]`` over the unit sphere, 4 pi for ones."""
        return (field.sum(dim=-1) * self.weight).sum(dim=-1) * (2 * np.pi / self.nlon)

    def _fourier(self, field: Tensor) -> Tensor:
        """``[..., nlat, M]``, weighted for the sum over the rows."""
        if field.shape[-2:] != (self.nlat, self.nlon):
            raise ShapeError("field", f"shape {tuple(field.shape)}", f"[..., {self.nlat}, {self.nlon}]")
        waves = torch.fft.rfft(field, dim=-1)[..., : self.num_degrees]
        return waves * (self.weight * (2 * np.pi / self.nlon))[:, None]

    def _columns(self, waves: Tensor) -> Tensor:
        return torch.fft.irfft(waves, n=self.nlon, dim=-1) * self.nlon

    def _project(self, waves: Tensor, table: Tensor) -> Tensor:
        """The sum over rows: ``[..., nlat, M]`` to ``[..., L, M]``."""
        return _by_order(waves, table.mT)

    def _evaluate(self, coefficients: Tensor, table: Tensor) -> Tensor:
        """The sum over degrees: ``[..., L, M]`` to ``[..., nlat, M]``."""
        return _by_order(coefficients, table)


def _by_order(values: Tensor, table: Tensor) -> Tensor:
    """Multiply complex ``[..., a, M]`` by real ``[M, a, b]``, each order by itself: ``[..., b, M]``."""
    lead = values.shape[:-2]
    rows = torch.view_as_real(values.reshape(-1, *values.shape[-2:]).contiguous())  # [B, a, M, 2]
    num_orders, _, size = table.shape
    flat = rows.permute(2, 0, 3, 1).reshape(num_orders, -1, rows.shape[1])  # [M, B * 2, a]
    out = torch.bmm(flat, table).reshape(num_orders, -1, 2, size).permute(1, 3, 0, 2)
    return torch.view_as_complex(out.contiguous()).reshape(*lead, size, num_orders)
