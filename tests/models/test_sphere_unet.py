"""What the network of several levels promises, whatever its weights."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import SpherePoints, healpix, lat_lon_grid
from geoattn.models.sphere_transformer import Place
from geoattn.models.sphere_unet import SphereUNet

GRID = lat_lon_grid(8, 16, "legendre-gauss")


def network(points: SpherePoints = GRID, seed: int = 0, **options) -> SphereUNet:
    torch.manual_seed(seed)
    return SphereUNet(2, 3, points, channels=(8, 16), num_heads=2, window=3.0, **options).double()


def fields(batch: int = 2, points: SpherePoints = GRID) -> torch.Tensor:
    return torch.randn(batch, 2, points.num_points, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("planar", [False, True])
def test_shift_by_a_cell_of_the_coarsest_grid_commutes(planar):
    model, x = network(planar=planar), fields()
    turn = lambda y: y.unflatten(-1, GRID.shape).roll(2, -1).flatten(-2)
    assert (model(turn(x)) - turn(model(x))).abs().max() > 1e-4  # it is told where points are
    for part in model.modules():
        if isinstance(part, Place):
            torch.nn.init.zeros_(part.map.weight)
    torch.testing.assert_close(model(turn(x)), turn(model(x)), rtol=0, atol=1e-10)


def test_samples_never_meet():
    model, x = network(), fields(3)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=0, atol=1e-12)


def test_other_points_same_state_dict():
    model = network()
    other = network(healpix(2), seed=1)
    other.load_state_dict(model.state_dict())
    assert other(fields(1, healpix(2))).shape == (1, 3, 48)


def test_planar_copy_has_the_same_parameters_and_needs_a_grid():
    shapes = [{k: v.shape for k, v in network(planar=planar).state_dict().items()} for planar in (False, True)]
    assert shapes[0] == shapes[1]
    with pytest.raises(ShapeError, match="planar"):
        network(healpix(2), planar=True)


def test_every_parameter_learns():
    model = network()
    (model(fields()) * torch.randn(2, 3, GRID.num_points).double()).sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_one_width_for_each_level():
    with pytest.raises(ShapeError, match="channels"):
        SphereUNet(2, 3, GRID, channels=())
