"""What the spherical transformer promises, whatever its weights."""

import math

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import SpherePoints, healpix, lat_lon_grid
from geoattn.models.sphere_transformer import Place, SphereTransformer, coarser, disk_radius

GRID = lat_lon_grid(12, 24, "legendre-gauss")


def network(points: SpherePoints = GRID, seed: int = 0, **options) -> SphereTransformer:
    torch.manual_seed(seed)
    made = SphereTransformer(3, 2, points, channels=8, num_heads=2, num_layers=2, window=4.0, **options)
    torch.nn.init.normal_(made.direct.weight)  # it starts at zero
    return made.double()


def fields(batch: int = 2, points: SpherePoints = GRID, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, points.num_points, generator=torch.Generator().manual_seed(seed)).double()


def shifted(x: torch.Tensor, columns: int, points: SpherePoints = GRID) -> torch.Tensor:
    return x.unflatten(-1, points.shape).roll(columns, -1).flatten(-2)


def without_place(model: torch.nn.Module) -> torch.nn.Module:
    for part in model.modules():
        if isinstance(part, Place):
            torch.nn.init.zeros_(part.map.weight)
    return model


@pytest.mark.parametrize("planar", [False, True])
def test_shift_by_a_cell_of_the_inner_grid_commutes(planar):
    model, x = without_place(network(planar=planar)), fields()
    # two columns of the grid are one of the inner grid
    torch.testing.assert_close(model(shifted(x, 2)), shifted(model(x), 2), rtol=0, atol=1e-10)


def test_place_breaks_the_symmetry_on_purpose():
    model, x = network(), fields()
    assert (model(shifted(x, 2)) - shifted(model(x), 2)).abs().max() > 1e-3


def test_features_of_a_place_do_not_depend_on_which_points_are_there():
    north = GRID.xyz[:, 2] > 0.5
    part = SpherePoints(GRID.xyz[north], GRID.weight[north], None, "scattered")
    whole, few = Place(GRID, 8).double(), Place(part, 8).double()
    few.load_state_dict(whole.state_dict())
    x = torch.zeros(1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(few(x), whole(x)[:, north], rtol=0, atol=1e-12)
    assert whole.harmonics.abs().max() <= 1


def test_samples_never_meet():
    model, x = network(), fields(3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=0, atol=1e-12)


def test_other_points_same_state_dict():
    model = network()
    for points in (lat_lon_grid(9, 16), healpix(2)):
        other = network(points, seed=1)
        other.load_state_dict(model.state_dict())
        assert other(fields(1, points)).shape == (1, 2, points.num_points)


def test_same_field_on_a_denser_grid_gives_nearly_the_same():
    coarse, dense = lat_lon_grid(16, 32, "cells"), lat_lon_grid(48, 96, "cells")
    inner, model = healpix(3), network(lat_lon_grid(16, 32, "cells"), inner=healpix(3))
    other = network(dense, inner=inner)
    other.load_state_dict(model.state_dict())

    def smooth(points):
        x, y, z = points.xyz.T
        return torch.stack([x * y, z, x])[None]

    a = model(smooth(coarse)).unflatten(-1, coarse.shape)
    b = other(smooth(dense)).unflatten(-1, dense.shape)[..., 1::3, 1::3]
    assert (a - b).norm() < 0.2 * a.norm()


def test_planar_copy_has_as_many_parameters_and_another_answer():
    sphere, plane = network(), network(planar=True)
    assert {k: v.shape for k, v in sphere.state_dict().items()} == {k: v.shape for k, v in plane.state_dict().items()}
    plane.load_state_dict(sphere.state_dict())
    assert (sphere(fields()) - plane(fields())).abs().max() > 1e-4


def test_planar_needs_a_grid():
    with pytest.raises(ShapeError, match="planar"):
        network(healpix(2), planar=True)


def test_every_parameter_learns():
    model = network()
    model(fields()).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_gradient_is_right():
    points = lat_lon_grid(4, 6, "cells")
    model = network(points)
    assert torch.autograd.gradcheck(model, fields(1, points).requires_grad_())


def test_wrong_number_of_points():
    with pytest.raises((ShapeError, RuntimeError)):
        network()(fields(1, healpix(2)))


def test_no_heads_are_refused():
    with pytest.raises(ShapeError, match="num_heads: got 0"):
        SphereTransformer(3, 2, GRID, channels=8, num_heads=0)


@pytest.mark.parametrize("planar", [False, True])
def test_blocks_share_who_looks_at_whom(planar):
    first, second = network(planar=planar).blocks
    assert first.attention.points.neighborhood is second.attention.points.neighborhood


def test_coarser_points():
    assert coarser(GRID).shape == (6, 12)
    assert coarser(lat_lon_grid(9, 15)).shape == (5, 8)
    assert coarser(healpix(4)).num_points == healpix(2).num_points


def test_disk_has_the_area_of_its_cells():
    points = healpix(8)
    cell = 4 * math.pi / points.num_points
    assert math.pi * disk_radius(points, 3.0) ** 2 == pytest.approx(9 * cell)
    assert disk_radius(points, 1e6) == math.pi
