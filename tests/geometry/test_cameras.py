"""Cameras: checks, conventions against scipy, rays and projections there and back, invariance to the world's frame."""

import pytest
import torch
from scipy.spatial.transform import Rotation

from geoattn.errors import ShapeError
from geoattn.geometry.cameras import (
    check_poses,
    from_colmap,
    from_opengl,
    invert_pose,
    relative_poses,
    to_colmap,
    to_opengl,
)
from geoattn.geometry.rays import pixel_centres, pixel_rays, pluecker, project, scale_intrinsics

F64 = torch.float64
K = torch.tensor([[80.0, 0.5, 33.0], [0.0, 90.0, 20.0], [0.0, 0.0, 1.0]], dtype=F64)


def poses(*shape, size=1.0, seed=0):
    """Random rigid motions; scipy's rotations."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    pose = torch.eye(4, dtype=F64).repeat(count, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.random(count, rng=seed).as_matrix())
    pose[:, :3, 3] = size * torch.randn(count, 3, generator=generator, dtype=F64)
    return pose.view(*shape, 4, 4)


def test_checks_say_which_pose_and_why():
    good = poses(2, 3)
    assert check_poses("extrinsics", good) is good
    for change, message in [
        (lambda p: p[1, 2, :3, :3].mul_(2), r"extrinsics\[1, 2\].*R\^T R.*scale"),
        (lambda p: p[0, 1, 0].neg_(), r"extrinsics\[0, 1\].*determinant -1.*left-handed"),
        (lambda p: p.copy_(p.mT.clone()), r"extrinsics\[0, 0\].*last row.*Transpose"),
        (lambda p: p[1, 0, 0, 3].fill_(torch.nan), r"extrinsics\[1, 0\].*not finite"),
    ]:
        bad = good.clone()
        change(bad)
        with pytest.raises(ShapeError, match=message):
            check_poses("extrinsics", bad)
    with pytest.raises(ShapeError, match="Append the row"):
        check_poses("extrinsics", good[..., :3, :])
    rounded = (good * 1e4).round() / 1e4  # what a file of four digits keeps
    check_poses("extrinsics", rounded)


def test_inverse_is_exact():
    pose = poses(5, size=10.0)
    torch.testing.assert_close(invert_pose(pose) @ pose, torch.eye(4, dtype=F64).expand(5, 4, 4), atol=1e-13, rtol=0)


def test_opengl_axes_and_back():
    # a camera of Blender at z = 5 that looks down at the origin, its image's top to +y: no rotation at all
    matrix_world = torch.eye(4, dtype=F64)
    matrix_world[2, 3] = 5.0
    uv, depth = project(torch.tensor([[1.0, 1.0, 0.0]], dtype=F64), torch.eye(3, dtype=F64), from_opengl(matrix_world))
    torch.testing.assert_close(depth, torch.tensor([5.0], dtype=F64))
    torch.testing.assert_close(uv, torch.tensor([[0.2, -0.2]], dtype=F64))  # to the right and up
    pose = poses(7)
    torch.testing.assert_close(from_opengl(to_opengl(pose)), pose, atol=1e-14, rtol=0)
    torch.testing.assert_close(to_opengl(from_opengl(pose)), pose, atol=1e-14, rtol=0)


def test_colmap_agrees_with_scipy_at_every_rotation():
    pose = poses(50)
    half_turns = torch.from_numpy(Rotation.from_rotvec(torch.pi * torch.eye(3).numpy()).as_matrix())
    pose[:3, :3, :3] = half_turns
    pose[3, :3, :3] = torch.eye(3)
    quaternion, translation = to_colmap(pose)
    expected = torch.from_numpy(Rotation.from_matrix(pose[:, :3, :3].numpy()).as_matrix())
    torch.testing.assert_close(from_colmap(quaternion, translation)[:, :3, :3], expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(from_colmap(-3 * quaternion, translation), pose, atol=1e-14, rtol=0)
    scipy = torch.from_numpy(Rotation.from_matrix(pose[4:, :3, :3].numpy()).as_quat(canonical=True))
    torch.testing.assert_close(quaternion[4:], scipy.roll(1, -1), atol=1e-14, rtol=0)
    with pytest.raises(ShapeError, match="zero quaternion"):
        from_colmap(torch.zeros(2, 4), torch.zeros(2, 3))
    with pytest.raises(ShapeError, match="w, x, y, z"):
        from_colmap(torch.zeros(2, 4), torch.zeros(3))


@pytest.mark.parametrize("reference", ["first", "mean"])
def test_relative_poses_do_not_see_the_worlds_frame(reference):
    extrinsics, frame = poses(2, 4), poses(1, size=1e4, seed=1)[0]
    relative = relative_poses(extrinsics, reference)
    torch.testing.assert_close(relative_poses(extrinsics @ frame, reference), relative, atol=1e-10, rtol=0)
    between = lambda e: e[:, :, None] @ invert_pose(e)[:, None]
    torch.testing.assert_close(between(relative), between(extrinsics), atol=1e-12, rtol=0)
    places = invert_pose(relative)[..., :3, 3]
    if reference == "first":
        torch.testing.assert_close(relative[:, 0], torch.eye(4, dtype=F64).expand(2, 4, 4), atol=1e-14, rtol=0)
    else:
        assert places.mean(1).abs().max() < 1e-14


@pytest.mark.parametrize("reference", ["first", "mean"])
def test_views_that_are_not_there_change_nothing(reference):
    extrinsics = poses(1, 3)
    padded = torch.cat([extrinsics, torch.zeros(1, 2, 4, 4, dtype=F64)], 1)
    relative = relative_poses(padded, reference, mask=torch.tensor([[True, True, True, False, False]]))
    torch.testing.assert_close(relative[:, :3], relative_poses(extrinsics, reference))
    assert (relative[:, 3:] == torch.eye(4)).all()
    with pytest.raises(ShapeError, match="mask"):
        relative_poses(extrinsics, mask=torch.tensor([[False, True, True]]))
    with pytest.raises(ShapeError, match="first"):
        relative_poses(extrinsics, "frist")


def test_points_on_rays_fall_on_their_pixels():
    extrinsics, intrinsics = poses(2, 3), K.expand(2, 3, 3, 3)
    origin, direction = pixel_rays(intrinsics, extrinsics, 4, 6)
    assert origin.shape == direction.shape == (2, 3, 4, 6, 3)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(2, 3, 4, 6, dtype=F64))
    points = (origin + 2.5 * direction).flatten(2, 3)
    uv, depth = project(points, intrinsics, extrinsics)
    assert (depth > 0).all()
    torch.testing.assert_close(uv, pixel_centres(4, 6, K).flatten(0, 1).expand(2, 3, 24, 2), atol=1e-10, rtol=0)
    places = 30 * torch.rand(2, 3, 5, 2, dtype=F64)
    origin, direction = pixel_rays(intrinsics, extrinsics, uv=places)
    torch.testing.assert_close(project(origin + direction, intrinsics, extrinsics)[0], places, atol=1e-10, rtol=0)
    for wrong in ({}, {"height": 3}, {"height": 3, "width": 4, "uv": places}):
        with pytest.raises(ShapeError, match="uv"):
            pixel_rays(intrinsics, extrinsics, **wrong)


def test_resized_images_see_the_same():
    points = torch.randn(6, 3, dtype=F64) + torch.tensor([0.0, 0.0, 5.0], dtype=F64)
    eye = torch.eye(4, dtype=F64)
    uv, half = project(points, K, eye)[0], project(points, scale_intrinsics(K, (40, 64), (20, 16)), eye)[0]
    torch.testing.assert_close(half, uv * torch.tensor([0.25, 0.5], dtype=F64))


def test_pluecker_is_the_line():
    origin, direction = torch.randn(2, 5, 3, dtype=F64)
    line = pluecker(origin, direction)
    torch.testing.assert_close(pluecker(origin + 3 * direction, direction), line)
    assert (line[:, :3] * line[:, 3:]).sum(-1).abs().max() < 1e-13
