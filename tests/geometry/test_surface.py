"""Reference axes, angular order and the 14 features, against distances alone, rotations and special cases."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from geoattn.geometry.surface import NUM_FEATURES, angular_order, local_reference_axes, surface_features
from geoattn.kernels import knn


def cloud(n: int = 60, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Random points and unit normals."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64), dim=-1)
    return pos.to(dtype), normal.to(dtype)


def ordered(pos: Tensor, normal: Tensor, k: int = 9) -> Tensor:
    return angular_order(pos, pos, normal, knn(pos, k=k, loop=True)[0])


def rotation(seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(Rotation.random(rng=seed).as_matrix()).to(dtype)


def from_distances(pos: Tensor, normal: Tensor, idx: Tensor, stride: int = 1) -> Tensor:
    """The features from pairwise distances alone, by the law of cosines; a normal is the point at its tip."""
    n = len(pos)
    d2 = torch.cdist(*[torch.cat([pos, pos + normal])] * 2, compute_mode="donot_use_mm_for_euclid_dist") ** 2

    def dot(start: int, u: int, v: int) -> float:
        return float(d2[start, u] + d2[start, v] - d2[u, v]) / 2

    def length(a: int, b: int) -> float:
        return math.sqrt(d2[a, b]) + 1e-7

    def angle(start: int, u: int, v: int) -> float:
        return dot(start, u, v) / (length(start, u) * length(start, v))

    def tilt(start: int, end: int) -> float:  # of the edge against the normal at its start
        return dot(start, end, n + start) / length(start, end)

    rows = []
    for p in range(len(idx)):
        for slot in range(idx.shape[1]):
            x = int(idx[p, slot])
            a, b = int(idx[p, (slot - stride) % idx.shape[1]]), int(idx[p, (slot + stride) % idx.shape[1]])
            px_nb = (dot(p, x, n + b) - dot(p, x, b)) / length(p, x)
            lengths = length(p, b) * length(p, x) * length(p, a) * length(p, x)
            fold = (dot(p, b, a) * d2[p, x] - dot(p, b, x) * dot(p, x, a)) / lengths
            rows.append([
                math.sqrt(d2[p, x]), tilt(p, x), tilt(x, p),
                angle(p, x, a), tilt(p, a), tilt(a, p), angle(a, p, x), tilt(x, a), tilt(a, x),
                angle(p, b, x), angle(b, p, x), -tilt(b, x), px_nb, float(fold),
            ])  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64).view(*idx.shape, NUM_FEATURES)


class TestFeatures:
    @pytest.mark.parametrize("stride", [1, 2])
    def test_agree_with_distances_alone(self, stride: int) -> None:
        pos, normal = cloud()
        idx = ordered(pos, normal)
        found = surface_features(pos, normal, pos, normal, idx, stride)
        expected = from_distances(pos, normal, idx, stride)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
    def test_rotation_and_translation_change_nothing(self, dtype: torch.dtype, tolerance: float) -> None:
        pos, normal = cloud(500)
        turn, shift = rotation(), torch.tensor([0.3, -2.0, 1.0], dtype=torch.float64)
        idx = ordered(pos, normal)
        moved = [(pos @ turn.T + shift).to(dtype), (normal @ turn.T).to(dtype)]
        again = ordered(*moved)
        assert (again != idx).any(1).double().mean() <= 1e-2  # ties of angles in float32 shift the order
        same = (again == idx).all(1)
        before = surface_features(pos.to(dtype), normal.to(dtype), pos.to(dtype), normal.to(dtype), idx)
        after = surface_features(*moved, *moved, again)
        assert (before[same] - after[same]).abs().max() < tolerance

    def test_a_mirror_image_is_told_apart(self) -> None:
        pos, normal = cloud()
        mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
        here = surface_features(pos, normal, pos, normal, ordered(pos, normal))
        there = surface_features(
            pos @ mirror, normal @ mirror, pos @ mirror, normal @ mirror, ordered(pos @ mirror, normal @ mirror)
        )
        assert (here - there).abs().amax((1, 2)).min() > 1e-3

    def test_fold_and_tilts_in_a_plane(self) -> None:
        angles = torch.tensor([0.0, 0.7, 1.9, 3.0, 4.1], dtype=torch.float64)
        pos = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], -1)
        normal = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(5, 3)
        center = torch.zeros(1, 3, dtype=torch.float64)
        found = surface_features(pos, normal, center, normal[:1], torch.arange(5)[None])[0]
        assert found[:, [1, 2, 4, 5, 7, 8, 11, 12]].abs().max() < 1e-15  # all that have a normal in them
        before, after = (angles - angles.roll(1)).sin(), (angles.roll(-1) - angles).sin()
        # b x x points down where a x x points up: the two triangles lie on both sides of the edge
        torch.testing.assert_close(found[:, 13], -before * after, rtol=0, atol=1e-6)

    def test_gradients(self) -> None:
        pos, normal = cloud(12)
        idx = ordered(pos, normal, 4)
        torch.autograd.gradcheck(
            lambda p, n: surface_features(p, n, p[:5], n[:5], idx[:5, 1:]),
            (pos.requires_grad_(), normal.requires_grad_()),
        )

    def test_missing_neighbours_are_skipped_in_the_cycle(self) -> None:
        pos, normal = cloud()
        idx = ordered(pos, normal, 5)[:4]
        padded = torch.cat([idx, torch.full((4, 3), -1)], 1)
        found = surface_features(pos, normal, pos[:4], normal[:4], padded)
        torch.testing.assert_close(found[:, :5], surface_features(pos, normal, pos[:4], normal[:4], idx))
        assert (found[:, 5:] == 0).all()

    @pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
    def test_nothing(self, shape: tuple[int, int]) -> None:
        pos, normal = cloud(3)
        idx = torch.empty(shape, dtype=torch.int64)
        assert surface_features(pos, normal, pos[: shape[0]], normal[: shape[0]], idx).shape == (*shape, NUM_FEATURES)

    @pytest.mark.parametrize("pos", [torch.zeros(6, 3), torch.linspace(0, 1, 6)[:, None].expand(6, 3)])
    def test_coincident_and_collinear_points_are_finite(self, pos: Tensor) -> None:
        pos = pos.clone().requires_grad_()
        idx = knn(pos, k=4, loop=True)[0]
        axis, _ = local_reference_axes(pos.detach(), pos.detach(), idx)
        idx = angular_order(pos.detach(), pos.detach(), axis, idx)
        found = surface_features(pos, axis, pos, axis, idx)
        found.sum().backward()
        assert found.isfinite().all()
        assert pos.grad is not None
        assert pos.grad.isfinite().all()


class TestAngularOrder:
    def test_is_that_of_the_angles_on_a_circle(self) -> None:
        angle = torch.tensor([4.0, 1.0, 0.0, 2.5, 6.0], dtype=torch.float64)
        radius = torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0], dtype=torch.float64)
        pos = torch.stack([radius * angle.cos(), radius * angle.sin(), torch.ones(5, dtype=torch.float64)], -1)
        center, axis = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
        idx = torch.tensor([[0, -1, 1, 2, 3, 4]])
        assert angular_order(pos, center, axis, idx).tolist() == [[2, 1, 3, 0, 4, -1]]
        assert angular_order(pos, center, -axis, idx).tolist() == [[2, 4, 0, 3, 1, -1]]

    def test_the_centre_itself_is_last(self) -> None:
        pos, normal = cloud()
        assert (ordered(pos, normal)[:, -1] == torch.arange(60)).all()


class TestAxes:
    def test_of_a_plane_and_its_gap(self) -> None:
        pos, _ = cloud(40)
        flat = pos * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
        outward = torch.tensor([[0.0, 0.1, -1.0]], dtype=torch.float64)
        axis, gap = local_reference_axes(flat, flat[:1], torch.arange(40)[None], outward)
        torch.testing.assert_close(axis, torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64))
        assert gap > 0.1

    def test_turn_with_the_points_and_keep_their_sign(self) -> None:
        pos, _ = cloud(200)
        idx, _ = knn(pos, k=16, loop=True)
        turn = rotation()
        axis, gap = local_reference_axes(pos, pos, idx)
        turned, _ = local_reference_axes(pos @ turn.T, pos @ turn.T, idx)
        torch.testing.assert_close(turned, axis @ turn.T, rtol=0, atol=1e-10 / float(gap.min()))

    def test_do_not_depend_on_missing_neighbours(self) -> None:
        pos, _ = cloud()
        idx, _ = knn(pos, k=8, loop=True)
        padded = torch.cat([idx, torch.full((60, 2), -1)], 1)
        torch.testing.assert_close(local_reference_axes(pos, pos, padded), local_reference_axes(pos, pos, idx))

    def test_of_nothing_and_of_one_point(self) -> None:
        pos = torch.ones(1, 3)
        for idx in (torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 2), -1), torch.empty(1, 0, dtype=torch.int64)):
            axis, gap = local_reference_axes(pos, pos, idx)
            assert axis.isfinite().all()
            assert gap == 0
