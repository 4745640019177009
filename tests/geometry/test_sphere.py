"""Quadrature exact to its degree, areas that sum to the sphere, and neighbourhoods equal to brute force."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import (
    cubed_sphere,
    geodesic_distance,
    geodesic_neighborhood,
    healpix,
    lat_lon_grid,
    lat_lon_points,
    latitudes,
    scattered,
    window_neighborhood,
)
from geoattn.testing import random_orthogonal

DEGREE = {
    "equiangular": lambda n: n - 1,
    "cells": lambda n: n - 1,
    "legendre-gauss": lambda n: 2 * n - 1,
    "lobatto": lambda n: 2 * n - 3,
    "equiangular-trapezoidal": lambda n: 1,
}


@pytest.mark.parametrize("kind", DEGREE)
@pytest.mark.parametrize("nlat", [2, 3, 8, 17, 64])
def test_rows_integrate_legendre_polynomials_up_to_their_degree(kind, nlat):
    colatitude, weight = latitudes(nlat, kind)
    assert bool((colatitude.diff() > 0).all()) and bool((weight > 0).all())
    integral = weight.numpy() @ legendre.legvander(colatitude.cos().numpy(), DEGREE[kind](nlat) + 2)
    assert abs(integral[0] - 2) < 1e-12
    assert np.abs(integral[1 : DEGREE[kind](nlat) + 1]).max(initial=0) < 1e-12
    assert np.abs(integral).max() > 1e-6  # and no further: the rule is the one that is named


def test_gauss_nodes_are_numpys():
    colatitude, weight = latitudes(12, "legendre-gauss")
    node, expected = legendre.leggauss(12)
    np.testing.assert_allclose(colatitude.cos().numpy()[::-1], node, atol=1e-14)
    np.testing.assert_allclose(weight.numpy()[::-1], expected, atol=1e-14)


@pytest.mark.parametrize("kind", DEGREE)
def test_grids_cover_the_sphere_and_keep_the_longitude_of_poles(kind):
    grid = lat_lon_grid(9, 16, kind)
    assert abs(float(grid.weight.sum()) - 4 * math.pi) < 1e-12
    torch.testing.assert_close(grid.xyz.norm(dim=1), torch.ones(144).double())
    torch.testing.assert_close(grid.longitude.view(9, 16), (torch.arange(16) * math.pi / 8).double().expand(9, 16))
    torch.testing.assert_close(grid.colatitude.view(9, 16)[:, 5], latitudes(9, kind)[0], atol=1e-12, rtol=0)
    x, y, z = grid.xyz.T
    degree_one = torch.stack([x, y, z, x * y * (kind != "equiangular-trapezoidal")]) @ grid.weight
    assert float(degree_one.abs().max()) < 1e-12


def test_grids_of_files_are_recognised_in_any_order():
    grid = lat_lon_grid(7, 12)
    latitude = torch.linspace(90, -90, 7).float()
    longitude = torch.arange(-180.0, 180.0, 30)
    found = lat_lon_points(latitude.flip(0), longitude)
    assert (found.kind, found.shape) == ("equiangular", (7, 12))
    same = found.xyz.view(7, 12, 3).flip(0).roll(6, 1)
    torch.testing.assert_close(same, grid.xyz.view(7, 12, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.weight.view(7, 12).flip(0).flatten(), grid.weight, atol=1e-12, rtol=0)
    gauss = 90 - latitudes(32, "legendre-gauss")[0].rad2deg()
    assert lat_lon_points((gauss * 1e3).round() / 1e3, longitude).kind == "legendre-gauss"
    assert lat_lon_points(torch.arange(-87.5, 90, 5), longitude).kind == "cells"


def test_other_grids_get_the_areas_between_midpoints():
    found = lat_lon_points(torch.tensor([60.0, -30.0, 0.0]), torch.tensor([0.0, 90.0, 360.0]))
    assert found.kind == "rectilinear"
    rows = found.weight.view(3, 3).sum(1) / (2 * math.pi)
    north, south = math.sin(math.radians(30)), math.sin(math.radians(-15))
    torch.testing.assert_close(rows, torch.tensor([1 - north, south + 1, north - south]).double())
    columns = found.weight.view(3, 3).sum(0) / (4 * math.pi)
    torch.testing.assert_close(columns, torch.tensor([0.25, 0.5, 0.25]).double())  # 0 and 360 share


@pytest.mark.parametrize("order", ["ring", "nested"])
@pytest.mark.parametrize("nside", [1, 2, 8, 16])
def test_healpix_centres(order, nside):
    astropy = pytest.importorskip("astropy_healpix")
    longitude, latitude = astropy.HEALPix(nside, order=order).healpix_to_lonlat(np.arange(12 * nside**2))
    expected = torch.from_numpy(np.stack([longitude.rad, latitude.rad], 1))
    points = healpix(nside, order)
    assert abs(float(points.weight.sum()) - 4 * math.pi) < 1e-12
    torch.testing.assert_close(points.longitude, expected[:, 0], atol=1e-12, rtol=0)
    torch.testing.assert_close(math.pi / 2 - points.colatitude, expected[:, 1], atol=1e-12, rtol=0)


def test_nested_pixels_are_those_of_the_rings():
    rows = [sorted(map(tuple, healpix(4, order).xyz.mul(1e9).round().tolist())) for order in ("ring", "nested")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_cubed_sphere(n):
    points = cubed_sphere(n)
    assert points.num_points == 6 * n * n
    assert abs(float(points.weight.sum()) - 4 * math.pi) < 1e-12
    assert len(points.xyz.mul(1e9).round().unique(dim=0)) == 6 * n * n
    assert float((points.xyz.T @ points.weight).abs().max()) < 1e-12  # as symmetric as the cube


@pytest.mark.parametrize(
    ("lowest", "highest", "width"),
    [(-90, 90, 360), (1, 90, 360), (10, 20, 10), (0, 0, 360), (40, 40, 90)],  # all, half, a patch, equator, a circle
)
@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 60])
def test_scattered_points_have_the_areas_of_their_cells(lowest, highest, width, num):
    latitude = lowest + (highest - lowest) * torch.rand(num).double()
    points = scattered(latitude, width * torch.rand(num).double())
    assert abs(float(points.weight.sum()) - 4 * math.pi) < 1e-9
    sample = torch.nn.functional.normalize(torch.randn(40_000, 3).double(), dim=1)
    share = torch.bincount((sample @ points.xyz.T).argmax(1), minlength=num) / 40_000
    assert float((share - points.weight / (4 * math.pi)).abs().max()) < 0.012


def test_points_in_one_place_share_their_cell():
    latitude, longitude = torch.tensor([90.0, 90, 0, 0, 0, -45, -45]), torch.tensor([0.0, 77, 0, 120, 240, 10, 370])
    weight = scattered(latitude, longitude).weight
    once = scattered(latitude[[0, 2, 3, 4, 5]], longitude[[0, 2, 3, 4, 5]]).weight
    torch.testing.assert_close(weight[[0, 2, 3, 4, 5]], once * torch.tensor([0.5, 1, 1, 1, 0.5]).double())
    torch.testing.assert_close(weight[[1, 6]], weight[[0, 5]])


@pytest.mark.parametrize("cutoff", [0.2, math.pi / 8, 1.7, math.pi])
def test_neighborhoods_equal_brute_force(cutoff):
    targets, sources = lat_lon_grid(9, 16), healpix(3)
    for a, b in ((targets, sources), (targets, targets)):
        nbr = geodesic_neighborhood(a, b, cutoff)
        angle = geodesic_distance(a.xyz[:, None], b.xyz)
        target, source = (angle <= cutoff * 1.001).nonzero(as_tuple=True)
        assert nbr.edge_index.tolist() == [source.tolist(), target.tolist()]
    if cutoff == math.pi / 8:  # one spacing: neighbours in latitude are inside, and all points of a pole are one place
        assert nbr.degree[:16].tolist() == [32] * 16


def test_neighborhoods_turn_with_the_points():
    grid, turn = lat_lon_grid(9, 16), random_orthogonal(3, 1)
    turned = type(grid)(grid.xyz @ turn.T, grid.weight, None, "turned")
    assert geodesic_neighborhood(turned, turned, 0.5).edge_index.equal(
        geodesic_neighborhood(grid, grid, 0.5).edge_index
    )


def test_windows_wrap_in_longitude_alone():
    nbr = window_neighborhood((4, 8), (4, 8), 3)
    assert nbr.source[nbr.target == 0].tolist() == [7, 0, 1, 15, 8, 9]
    assert nbr.source[nbr.target == 20].tolist() == [11, 12, 13, 19, 20, 21, 27, 28, 29]
    assert window_neighborhood((4, 8), (4, 8), 9).degree.max() == 4 * 8  # no column twice
    coarse = window_neighborhood((2, 4), (4, 8), 1)
    assert coarse.source.tolist() == [8, 10, 12, 14, 24, 26, 28, 30]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: latitudes(8, "gauss"), "kind"),
        (lambda: latitudes(1, "lobatto"), "nlat"),
        (lambda: healpix(3, "nested"), "nside"),
        (lambda: healpix(2, "rings"), "order"),
        (lambda: scattered(torch.tensor([91.0]), torch.tensor([0.0])), "latitude"),
        (lambda: scattered(torch.tensor([0.0, torch.nan]), torch.zeros(2)), "latitude"),
        (lambda: scattered(torch.zeros(2), torch.zeros(3)), "longitude"),
        (lambda: geodesic_neighborhood(healpix(1), healpix(1), 0.0), "cutoff"),
        (lambda: window_neighborhood((4, 8), (4, 8), 0), "size"),
    ],
)
def test_errors_name_the_argument(call, argument):
    with pytest.raises(ShapeError) as error:
        call()
    assert error.value.argument == argument
