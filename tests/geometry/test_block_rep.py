"""Block representations: matrices written out, products of group elements, e3nn, every way to store, errors."""

import math

import pytest
import torch
from e3nn.o3 import Irrep
from scipy.spatial.transform import Rotation

from geoattn.errors import ShapeError
from geoattn.geometry.block_rep import BlockRep, projection_matrices
from geoattn.geometry.cameras import invert_pose

F64 = torch.float64
MIXED = [("triv", 1), ("se3", 8), ("so3", 16), ("so2", 12), ("t2", 6), ("projective", 4)]


def poses(*shape, size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    pose = torch.eye(4, dtype=F64).repeat(count, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.random(count, rng=seed).as_matrix())
    pose[:, :3, 3] = size * torch.randn(count, 3, generator=generator, dtype=F64)
    return pose.view(*shape, 4, 4)


def mixed(lead=(2,), elements=3, seed=0):
    pose = poses(*lead, elements, seed=seed)
    position = torch.rand(*lead, elements, 2, dtype=F64)
    return BlockRep(MIXED, pose=pose, position=position, projection=pose * 1.5)


def test_matrices_are_those_of_the_table():
    pose, position = poses(1), torch.tensor([[0.3, 0.6]], dtype=F64)
    R, t = pose[0, :3, :3], pose[0, :3, 3]
    se3 = torch.eye(4, dtype=F64)
    se3[:3, :3], se3[:3, 3] = R.T, -0.5 * R.T @ t
    rep = BlockRep([("se3", 8)], pose=pose).scaled(0.5)
    torch.testing.assert_close(rep.matrix()[0], torch.block_diag(se3, se3), atol=1e-15, rtol=0)
    turns = []
    for axis in (0.3, 0.6):
        for frequency in (0.5, 1.0):
            a = 2 * math.pi * 3 * frequency * axis
            turns.append(torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]], dtype=F64))
    rep = BlockRep([("so2", 8)], position=position, turns=3.0)
    torch.testing.assert_close(rep.matrix()[0], torch.block_diag(*turns), atol=1e-14, rtol=0)
    t2 = torch.tensor([[1.0, 0, 0.3], [0, 1, 0.6], [0, 0, 1]], dtype=F64)
    torch.testing.assert_close(BlockRep([("t2", 3)], position=position).matrix()[0], t2)
    rep = BlockRep([("projective", 4)], projection=2 * pose)
    torch.testing.assert_close(rep.matrix()[0], torch.linalg.inv(2 * pose[0]))
    assert torch.equal(BlockRep([("triv", 3)]).matrix(), torch.eye(3)[None])


def test_so3_agrees_with_e3nn_and_multiplies():
    g, h = poses(2)[:, None, :3, :3]
    D = lambda rotation: BlockRep([("so3", 8)], rotation=rotation).matrix()[0]
    torch.testing.assert_close(D(g)[:3, :3], g[0].T)  # P belongs to the inverse
    expected = torch.block_diag(*(Irrep(name).D_from_matrix(g[0].T.contiguous()) for name in ("1o", "2e")))
    torch.testing.assert_close(D(g), expected, atol=1e-6, rtol=0)  # e3nn's tables are float32
    torch.testing.assert_close(D(g @ h), D(h) @ D(g), atol=1e-12, rtol=0)
    torch.testing.assert_close(D(g).T @ D(g), torch.eye(8, dtype=F64), atol=1e-12, rtol=0)


def test_applying_is_multiplying_by_the_matrix():
    rep, x = mixed(), torch.randn(2, 4, 6, 47, dtype=F64)
    P = rep.matrix().repeat_interleave(2, 1)[:, None]
    multiply = lambda M: (M @ x[..., None])[..., 0]
    torch.testing.assert_close(rep.apply(x), multiply(P), atol=1e-13, rtol=0)
    torch.testing.assert_close(rep.apply_inverse(x), multiply(torch.linalg.inv(P)), atol=1e-12, rtol=0)
    torch.testing.assert_close(rep.apply_inverse_transpose(x), multiply(torch.linalg.inv(P).mT), atol=1e-12, rtol=0)


@pytest.mark.parametrize("way", ["apply", "apply_inverse", "apply_inverse_transpose"])
def test_an_element_per_view_is_the_same_as_one_per_token(way):
    pose, position = poses(2, 3), torch.rand(2, 30, 2, dtype=F64)
    build = lambda p: BlockRep(MIXED, pose=p, position=position, projection=p)
    x = torch.randn(2, 4, 30, 47, dtype=F64, requires_grad=True)
    per_view = getattr(build(pose), way)(x)
    per_token = getattr(build(pose.repeat_interleave(10, 1)), way)(x)
    torch.testing.assert_close(per_view, per_token, atol=1e-13, rtol=0)
    weight = torch.randn_like(x)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (per_view, per_token)]
    torch.testing.assert_close(*gradients, atol=1e-13, rtol=0)


def test_features_in_any_layout_and_dtype():
    rep, x = mixed(), torch.randn(2, 4, 6, 47, dtype=F64)
    strided = torch.randn(6, 47, 4, 2, dtype=F64).copy_(x.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
    torch.testing.assert_close(rep.apply(strided), rep.apply(x), atol=1e-14, rtol=0)
    low = x.bfloat16()
    assert torch.equal(rep.apply(low), rep.apply(low.float()).bfloat16())  # rounded once
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(rep.apply(x.float()), rep.apply(x).float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rep.to(torch.float32).apply(x), rep.apply(x), atol=1e-5, rtol=1e-5)


def test_points_move():
    pose, x = poses(1, 5), torch.randn(1, 2, 5, 9, dtype=F64)
    rep = BlockRep([("point", 9)], pose=pose).scaled(0.7)
    R, t = pose[:, None, :, None, :3, :3], 0.7 * pose[:, None, :, None, :3, 3]
    moved = ((x.unflatten(-1, (3, 3)) - t)[..., None, :] @ R)[..., 0, :].flatten(-2)
    torch.testing.assert_close(rep.apply(x), moved, atol=1e-14, rtol=0)
    torch.testing.assert_close(rep.apply_inverse(moved), x, atol=1e-14, rtol=0)
    for call in (rep.matrix, lambda: rep.apply_inverse_transpose(x)):
        with pytest.raises(ShapeError, match="point"):
            call()


def test_derivatives_reach_poses_and_scale():
    x = torch.randn(1, 1, 2, 14, dtype=F64)
    rotvec = torch.randn(1, 1, 3, dtype=F64, requires_grad=True)
    scale = torch.tensor(0.3, dtype=F64, requires_grad=True)

    def run(x, rotvec, scale):
        a, b, c = rotvec.unbind(-1)
        skew = torch.stack([0 * a, -c, b, c, 0 * a, -a, -b, a, 0 * a], -1).unflatten(-1, (3, 3))
        pose = torch.nn.functional.pad(torch.linalg.matrix_exp(skew), (0, 1, 0, 1))
        pose = pose + torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0]))
        pose = pose + torch.nn.functional.pad(rotvec[..., None], (3, 0, 0, 1))
        rep = BlockRep([("se3", 4), ("so3", 8), ("so2", 2)], pose=pose, position=rotvec[..., :1])
        return rep.scaled(scale).apply_inverse_transpose(x)

    torch.autograd.gradcheck(run, (x.requires_grad_(), rotvec, scale))
    torch.autograd.gradgradcheck(run, (x, rotvec, scale))


def test_projections_scale_with_the_image():
    intrinsics = torch.tensor([[50.0, 0.0, 30.0], [0.0, 60.0, 20.0], [0.0, 0.0, 1.0]], dtype=F64)
    double = intrinsics * torch.tensor([2.0, 2.0, 1.0])[:, None]
    small, large = projection_matrices(intrinsics, poses(3), (40, 60)), projection_matrices(double, poses(3), (80, 120))
    torch.testing.assert_close(small, large)
    image = (
        small @ invert_pose(poses(3)) @ torch.tensor([30 * 0.02, 0.0, 1.0, 1.0], dtype=F64)
    )  # 30 pixels to the right
    torch.testing.assert_close(image[:, 0], torch.full((3,), 0.5, dtype=F64), atol=1e-12, rtol=0)


def test_errors_say_what_to_do():
    for blocks, options, message in [
        ([("se3", 8), ("so2", 4)], {"head_size": 16}, "12 channels in all.*head size 16"),
        ([("se3", 6)], {}, "multiple of 4"),
        ([("so4", 8)], {}, "Did you mean 'so"),
        ([], {}, "at least one block"),
        ([("se3", 8)], {}, "without what it is built from.*pose"),
        ([("so3", 8)], {}, "rotation"),
        ([("so2", 4)], {"position": torch.rand(3, 3)}, "2 A a divisor"),
        ([("t2", 3)], {"position": torch.rand(3, 3)}, "t2"),
        ([("projective", 4)], {"projection": torch.rand(3, 3)}, "projection"),
        ([("se3", 8)], {"pose": torch.eye(4)}, r"pose\[None\]"),
        ([("se3", 8)], {"pose": torch.zeros(2, 4, 4)}, r"pose\[0\].*must be the identity"),
    ]:
        with pytest.raises(ShapeError, match=message):
            BlockRep(blocks, **options)
    with pytest.raises(ShapeError, match="sum of"):
        mixed().apply(torch.randn(2, 1, 3, 7))
    with pytest.raises(ShapeError, match="4 tokens for 3 elements"):
        mixed().apply(torch.randn(2, 1, 4, 47))
