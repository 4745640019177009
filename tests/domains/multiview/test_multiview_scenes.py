import numpy as np
import pytest
import torch

from geoattn.domains.multiview.batch import Trial, collate, make_sample, trial_sample
from geoattn.domains.multiview.records import camera_distance, check_scene, in_unit
from geoattn.domains.multiview.scenes import Thing, World, draw_world, look_at, make_scenes, pinhole, render
from geoattn.errors import InputError
from geoattn.geometry.cameras import relative_poses
from geoattn.geometry.rays import pixel_rays, project

SKY = np.zeros((2, 3))
GROUND = np.zeros((2, 3))


def world_of(*things, frame=None):
    return World(things, GROUND, SKY, np.array([0.0, 0.0, 1.0]), np.eye(4) if frame is None else frame)


def sphere(center, radius, color):
    return Thing("sphere", np.array(center), np.full(3, radius), 0.0, np.array(color))


def test_a_scene_depends_on_its_seed_and_number_alone():
    two, five = make_scenes(2, 3, 8, seed=4), make_scenes(5, 3, 8, seed=4)
    for a, b in zip(two, five, strict=False):
        assert (a.images == b.images).all() and (a.extrinsics == b.extrinsics).all() and a.id == b.id
    assert (make_scenes(1, 3, 8, seed=5)[0].images != two[0].images).any()
    for scene in five:
        check_scene(scene)
        assert scene.images.std() > 10  # something is to be seen


def test_images_agree_with_the_projection_of_what_is_there():
    """A small red ball stands in every image where `project` puts its centre."""
    frame = np.eye(4)
    frame[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    frame[:3, 3] = [3.0, -2.0, 0.5]
    ball = np.array([0.5, 0.3, 0.4])
    world = world_of(sphere(ball, 0.12, [1.0, 0.0, 0.0]), frame=frame)
    eyes = [(3.5, 0.5, 2.0), (-2.0, 3.0, 1.5), (0.5, -4.0, 2.5)]
    poses = np.stack([look_at(np.array(eye), np.array([0.1, 0.2, 0.3])) for eye in eyes]) @ np.linalg.inv(frame)
    cameras = np.tile(pinhole(96), (3, 1, 1))
    images = render(world, poses, cameras, (96, 96))
    place = torch.from_numpy(frame[:3, :3] @ ball + frame[:3, 3])
    for image, pose, camera in zip(images, poses, cameras, strict=True):
        rows, columns = np.nonzero(image[..., 0] > 30)
        uv, depth = project(place[None], torch.from_numpy(camera), torch.from_numpy(pose))
        assert depth.item() > 0 and len(rows) > 10
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], uv[0].numpy(), atol=1.0)


def test_a_box_is_as_wide_as_it_is_and_turns_about_the_vertical():
    box = Thing("box", np.array([0.0, 0.0, 0.3]), np.array([0.6, 0.1, 0.3]), 0.0, np.array([0.0, 1.0, 0.0]))
    turned = Thing("box", box.center, box.half, np.pi / 2, box.color)
    pose, camera = look_at(np.array([0.0, -4.0, 0.3]), box.center)[None], pinhole(128)[None]
    wide, thin = ((render(world_of(b), pose, camera, (128, 128))[0, 64, :, 1] > 30).sum() for b in (box, turned))
    focal = camera[0, 0, 0]
    assert abs(wide - focal * 1.2 / 3.9) <= 2 and abs(thin - focal * 0.2 / 3.4) <= 2


def test_shadows_fall_away_from_the_light():
    light = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)
    world = World([sphere([0, 0, 0.5], 0.5, [0, 0, 0])], np.ones((2, 3)), SKY, light, np.eye(4))
    pose, camera = look_at(np.array([0.0, -4.0, 4.0]), np.zeros(3))[None], pinhole(64)[None]
    image = render(world, pose, camera, (64, 64))[0].astype(int)
    points = torch.tensor([[-0.9, 0.0, 0.0], [0.9, 0.0, 0.0]], dtype=torch.float64)  # of the ground
    uv = project(points, torch.from_numpy(camera[0]), torch.from_numpy(pose[0]))[0].long()
    dark, bright = (image[v, u].mean() for u, v in uv.tolist())
    assert dark < 0.5 * bright


def test_frames_of_worlds_differ_and_do_not_show():
    still, moved = make_scenes(3, 4, 8, moved=False), make_scenes(3, 4, 8)
    frames = [world.frame for world in (draw_world(np.random.default_rng([0, k])) for k in range(3))]
    for a, b, frame in zip(still, moved, frames, strict=True):
        assert np.abs(frame[:3, 3]).max() > 0.1
        np.testing.assert_allclose(
            b.extrinsics @ frame @ np.linalg.inv(b.extrinsics[0] @ frame),
            relative_poses(torch.from_numpy(b.extrinsics)).numpy(),
            atol=1e-12,
        )
        assert a.images.shape == b.images.shape


def test_scenes_refuse_nothing_to_draw():
    with pytest.raises(InputError, match="num 0"):
        make_scenes(0)


def test_units_of_length():
    scene = make_scenes(1, 5, 8)[0]
    distance = camera_distance(scene)
    new = in_unit(scene, distance)
    assert camera_distance(new) == pytest.approx(1, abs=1e-12) and new.scale == distance
    assert camera_distance(in_unit(new, 1 / distance)) == pytest.approx(distance)
    assert (new.extrinsics[:, :3, :3] == scene.extrinsics[:, :3, :3]).all()


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_sample_holds_what_its_rays_see():
    scene = make_scenes(1, 6, 8)[0]
    rays = np.array([[3, 17, 63], [0, 8, 9]])
    sample = make_sample(scene, [4, 1], [0, 5], rays)
    assert sample.images.shape == (1, 2, 3, 8, 8) and sample.pixels.shape == (1, 2, 3, 2)
    assert sample.pixels[0, 0, 1].tolist() == [1.5, 2.5]  # pixel 17 of rows of 8
    np.testing.assert_allclose(sample.colors[0, 1, 2].numpy() * 255, scene.images[5, 1, 1], atol=1e-4)
    np.testing.assert_allclose(sample.images[0, 1].movedim(0, -1).numpy() * 255, scene.images[1], atol=1e-4)
    assert {getattr(sample, name).dtype for name in sample.__dataclass_fields__} == {torch.float32}
    np.testing.assert_allclose(sample.extrinsics[0, 0], np.eye(4), atol=1e-7)
    as_file = make_sample(scene, [4, 1], [0, 5], rays, frame="file")
    np.testing.assert_allclose(as_file.target_extrinsics[0].numpy(), scene.extrinsics[[0, 5]], atol=1e-6)


def test_rays_of_a_sample_are_those_of_the_scene():
    """Rays in the frame of the sample, led back to the world, are the rays of the file."""
    scene = make_scenes(1, 4, 8)[0]
    trial = Trial(scene, (2, 0), 3)
    sample = trial_sample(trial)
    cameras, poses = sample.target_intrinsics[0, 0], sample.target_extrinsics[0, 0]
    origin, direction = pixel_rays(cameras, poses, uv=sample.pixels[0, 0])
    world = [torch.from_numpy(values[3]) for values in (scene.intrinsics, scene.extrinsics)]
    true_origin, true_direction = (values.flatten(0, 1) for values in pixel_rays(*world, 8, 8))
    to_world = torch.from_numpy(np.linalg.inv(scene.extrinsics[2]))
    turn, shift = to_world[:3, :3], to_world[:3, 3]
    np.testing.assert_allclose(direction.double() @ turn.T, true_direction, atol=1e-5)
    np.testing.assert_allclose(origin.double() @ turn.T + shift, true_origin, atol=1e-5)
    assert sample.colors.shape == (1, 1, 64, 3)
    np.testing.assert_allclose(sample.colors[0, 0].reshape(8, 8, 3), trial.truth, atol=1e-6)


def test_batches_join_samples_and_move():
    scenes = make_scenes(3, 4, 8)
    batch = collate([make_sample(scene, [0, 1], [2]) for scene in scenes])
    assert len(batch) == 3 and batch.colors.shape == (3, 1, 64, 3)
    assert batch.to(torch.float64).pixels.dtype == torch.float64


def test_a_sample_does_not_depend_on_the_frame_of_the_world():
    scene = make_scenes(1, 4, 8)[0]
    shift = np.eye(4)
    shift[:3, 3] = [1e4, -2e4, 300.0]
    far = type(scene)(**(vars(scene) | {"extrinsics": scene.extrinsics @ shift}))
    near, away = make_sample(scene, [0, 1], [2, 3]), make_sample(far, [0, 1], [2, 3])
    torch.testing.assert_close(away.target_extrinsics, near.target_extrinsics, atol=1e-6, rtol=0)
