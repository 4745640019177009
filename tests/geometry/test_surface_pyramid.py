"""Pyramids of clouds: levels, neighbours, batches, changes of scale."""

from dataclasses import fields

import torch
from torch import Tensor

from geoattn.geometry.surface import surface_features
from geoattn.geometry.surface_pyramid import SurfacePyramid, surface_pyramid
from geoattn.kernels import farthest_points

LEVELS = [(40, 8), (10, 6)]


def points(n: int = 120, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(a: SurfacePyramid, b: SurfacePyramid) -> None:
    for field in fields(a):
        torch.testing.assert_close(getattr(a, field.name), getattr(b, field.name), rtol=0, atol=1e-9)


def test_levels_are_farthest_points_of_each_other() -> None:
    pos = points()
    found = surface_pyramid(pos, LEVELS, num_points=80)
    expected, _ = farthest_points(pos, 80, start="centroid")
    assert torch.equal(found.index, expected)
    assert [ptr.tolist() for ptr in found.ptr] == [[0, 80], [0, 40], [0, 10], [0, 1]]
    again, _ = farthest_points(found.pos, 40)
    assert torch.equal(again, torch.arange(40))


def test_neighbours_are_the_nearest_of_the_level_before() -> None:
    found = surface_pyramid(points(), LEVELS)
    for level, (m, k) in enumerate(LEVELS):
        there = found.pos[: len(found.pos) if level == 0 else LEVELS[level - 1][0]]
        nearest = torch.cdist(found.pos[:m], there).argsort(1)[:, :k]
        assert torch.equal(found.idx[level].sort(1).values, nearest.sort(1).values)
        expected = surface_features(there, found.normal, found.pos[:m], found.normal[:m], found.idx[level])
        torch.testing.assert_close(found.features[level], expected)
    assert found.idx[-1].sort(1).values.tolist() == [list(range(10))]


def test_a_batch_is_its_clouds() -> None:
    clouds = [points(120), points(30, 1), points(0), points(5, 2)]
    ptr = torch.tensor([0, 120, 150, 150, 155])
    together = surface_pyramid(torch.cat(clouds), LEVELS, ptr=ptr, up_neighbors=(4, 4))
    assert_same(together, SurfacePyramid.cat([surface_pyramid(c, LEVELS, up_neighbors=(4, 4)) for c in clouds]))


def test_given_normals_are_used_and_estimated_ones_point_outward() -> None:
    pos = torch.nn.functional.normalize(points(400), dim=-1)
    estimated = surface_pyramid(pos, LEVELS)
    assert (estimated.normal * estimated.pos).sum(-1).min() > 0.8  # of a sphere
    given = surface_pyramid(pos, LEVELS, normal=-pos)
    torch.testing.assert_close(given.normal, -given.pos)


def test_scaling_changes_lengths_alone() -> None:
    ptr = torch.tensor([0, 120, 200])
    pos, factor = points(200), torch.tensor([0.5, 2.0])
    before = surface_pyramid(pos, LEVELS, ptr=ptr, up_neighbors=(4, 4))
    larger = pos * factor.double().repeat_interleave(ptr.diff())[:, None]
    after = surface_pyramid(larger, LEVELS, ptr=ptr, up_neighbors=(4, 4))
    scaled = before.scaled(factor)
    for field in fields(scaled):
        torch.testing.assert_close(getattr(scaled, field.name), getattr(after, field.name), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled.features[0][..., 0], after.features[0][..., 0])


def test_dtypes() -> None:
    found = surface_pyramid(points(), LEVELS).to(torch.float32)
    assert found.pos.dtype == found.features[0].dtype == torch.float32
    assert found.idx[0].dtype == found.index.dtype == torch.int64


def test_empty_batch() -> None:
    found = surface_pyramid(points(0), LEVELS, ptr=torch.tensor([0]))
    assert found.num_clouds == 0
    assert found.features[-1].shape[0] == 0
