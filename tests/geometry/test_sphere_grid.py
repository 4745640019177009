"""Quadrature on the sphere, and transforms to and from grids."""

import math

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.sphere_grid import grid_transforms, sphere_grid

F64 = torch.float64


def test_quadrature_is_exact_up_to_its_degree():
    """5 latitudes: degree 9; 7 longitudes: order 6."""
    points, weights = sphere_grid(5, 7)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(35, dtype=F64))
    integrals = weights @ spherical_harmonics(points, 9, "integral")
    orders = torch.cat([torch.arange(-degree, degree + 1) for degree in range(10)])
    expected = torch.zeros(100, dtype=F64)
    expected[0] = math.sqrt(4 * math.pi)
    torch.testing.assert_close(integrals[orders.abs() < 7], expected[orders.abs() < 7], atol=1e-12, rtol=0)
    assert integrals[orders.abs() == 7].abs().max() > 1e-3  # the first order that 7 longitudes cannot tell from 0


@pytest.mark.parametrize("lmax", [0, 1, 4, 8])
def test_coarsest_grid_keeps_the_coefficients(lmax):
    to_grid, from_grid = grid_transforms(lmax, lmax + 1, 2 * lmax + 1, F64)
    torch.testing.assert_close(from_grid @ to_grid, torch.eye((lmax + 1) ** 2, dtype=F64), atol=1e-12, rtol=0)


def test_values_are_those_of_the_harmonics():
    points, _ = sphere_grid(4, 7)
    to_grid, _ = grid_transforms(3, 4, 7, F64)
    torch.testing.assert_close(to_grid, spherical_harmonics(points, 3, "integral"))


def test_product_of_functions_is_projected():
    """y * y = 1/3 + (y^2 - 1/3): degrees 0 and 2, nothing of degree 1."""
    points, _ = sphere_grid(3, 5)
    _, from_grid = grid_transforms(2, 3, 5, F64)
    coefficients = from_grid @ points[:, 1].square()
    torch.testing.assert_close(coefficients[0] / math.sqrt(4 * math.pi), torch.tensor(1 / 3, dtype=F64))
    assert coefficients[1:4].abs().max() < 1e-14
    assert coefficients[6] > 0.1


def test_coarse_grids_are_refused():
    with pytest.raises(ShapeError, match="got 4, 8, expected at least 5, 9 for degrees up to 4"):
        grid_transforms(4, 4, 8, F64)
    with pytest.raises(ShapeError, match="at least 1 of each"):
        sphere_grid(0, 3)
