"""Estimated normals and their sides, on shapes whose normals are known."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from geoattn.geometry.normals import estimate_normals, orient_normals


def sphere(n: int = 600, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)


def torus(n: int = 1500) -> tuple[Tensor, Tensor]:
    """Points and normals; those of the inner side look towards the centroid."""
    u, v = torch.rand(2, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * math.tau
    normal = torch.stack([v.cos() * u.cos(), v.cos() * u.sin(), v.sin()], -1)
    return torch.stack([u.cos(), u.sin(), torch.zeros_like(u)], -1) + 0.4 * normal, normal


def test_of_spheres_in_a_batch() -> None:
    pos = torch.cat([sphere(), 5 + 2 * sphere(300, 1)])
    normal, gap = estimate_normals(pos, ptr=torch.tensor([0, 600, 900]))
    assert (normal[:600] * pos[:600]).sum(-1).min() > 0.97
    assert (normal[600:] * (pos[600:] - 5) / 2).sum(-1).min() > 0.95
    assert gap.min() > 0


def test_turn_with_the_points() -> None:
    pos = sphere() * torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64)
    turn = torch.from_numpy(Rotation.random(rng=0).as_matrix())
    normal, _ = estimate_normals(pos)
    turned, _ = estimate_normals(pos @ turn.T + 1)
    torch.testing.assert_close(turned, normal @ turn.T, rtol=0, atol=1e-9)


def test_sides_spread_from_outside_to_the_inner_side() -> None:
    pos, truth = torus()
    estimated, _ = estimate_normals(pos)
    assert ((estimated * truth).sum(-1) > 0).double().mean() < 0.9
    assert ((orient_normals(pos, estimated) * truth).sum(-1) > 0.9).double().mean() > 0.99


def test_sides_of_a_sphere_and_of_two_far_ones() -> None:
    pos = torch.cat([sphere(200), 30 + sphere(200, 1)])
    signs = torch.where(torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.5, -1, 1)[:, None]
    truth = torch.cat([sphere(200), sphere(200, 1)])
    found = orient_normals(pos, truth * signs)
    per_piece = (found * truth).sum(-1).view(2, 200)
    assert (per_piece.abs().mean(1) > 0.999).all()
    assert per_piece[0].std() == pytest.approx(0, abs=1e-9)  # all sides of a piece agree
    assert per_piece[1].std() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(count: int) -> None:
    pos = sphere(count)
    normal, _ = estimate_normals(pos)
    assert orient_normals(pos, normal).shape == (count, 3)
    assert normal.isfinite().all()
