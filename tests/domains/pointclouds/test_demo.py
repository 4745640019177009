import numpy as np
import pytest

from geoattn.domains.pointclouds.demo import CLASS_NAMES, SEGMENT_NAMES, demo_clouds, make_shape, write_demo
from geoattn.domains.pointclouds.rotations import random_rotation, rotated
from geoattn.domains.pointclouds.shapes import Box, Cone, Ellipsoid, Torus
from geoattn.errors import InputError

TURN = random_rotation(np.random.default_rng(5))
SURFACES = {
    "box": (Box(size=(1, 2, 3)), 22.0),
    "cylinder": (Cone(bottom=1, top=1, height=2), 6 * np.pi),
    "open cone": (Cone(bottom=3, top=0, height=4, caps=(False, False)), 15 * np.pi),
    "frustum": (Cone(bottom=3, top=1, height=2), np.pi * (4 * 8**0.5 + 9 + 1)),
    "sphere": (Ellipsoid(radii=(2, 2, 2)), 16 * np.pi),
    "spheroid": (Ellipsoid(radii=(1, 1, 2)), 2 * np.pi * (1 + 2 / 0.75**0.5 * np.arcsin(0.75**0.5))),
    "torus": (Torus(ring=2, tube=0.5), 4 * np.pi**2),
    "half a torus": (Torus(ring=2, tube=0.5, arc=np.pi), 2 * np.pi**2),
}


@pytest.mark.parametrize("name", SURFACES)
def test_area(name):
    surface, area = SURFACES[name]
    assert surface.area == pytest.approx(area, rel=0.011)


@pytest.mark.parametrize("name", SURFACES)
def test_points_are_spread_by_area(name):
    """The divergence theorem: on a closed surface the mean of n is 0 and that of x . n is 3 volumes per area."""
    surface, area = SURFACES[name]
    points, normals = surface.sample(np.random.default_rng(0), 200_000)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-12)
    volume = {"box": 6, "cylinder": 2 * np.pi, "frustum": np.pi * 2 / 3 * 13, "sphere": 32 / 3 * np.pi}
    volume |= {"spheroid": 8 / 3 * np.pi, "torus": np.pi**2}
    if name in volume:
        np.testing.assert_allclose(normals.mean(axis=0), 0, atol=6e-3)
        assert (points * normals).sum(axis=1).mean() == pytest.approx(3 * volume[name] / area, rel=0.012)


@pytest.mark.parametrize("name", SURFACES)
def test_normals_are_at_right_angles_to_the_surface(name):
    """Between near points of a smooth surface the step is at right angles to the normal."""
    surface, _ = SURFACES[name]
    moved = type(surface)(**{**surface.__dict__, "center": (1, 2, 3), "rotation": TURN})
    points, normals = moved.sample(np.random.default_rng(1), 4000)
    distance = np.linalg.norm(points[:, None] - points[None, :1000], axis=-1)
    distance[np.arange(1000), np.arange(1000)] = np.inf
    near = distance.argmin(axis=0)
    step = points[near] - points[:1000]
    same_side = (normals[near] * normals[:1000]).sum(axis=1) > 0.9  # not across an edge
    cosine = np.abs((step * normals[:1000]).sum(axis=1)) / np.linalg.norm(step, axis=1)
    assert same_side.mean() > 0.7 and cosine[same_side].mean() < 0.1


def test_shapes_repeat_and_do_not_depend_on_how_many_follow():
    few, many = demo_clouds(5, 64, seed=3), demo_clouds(9, 64, seed=3)
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.points, other.points)
        assert one.id == other.id
    assert not np.array_equal(few[0].points, demo_clouds(1, 64, seed=4)[0].points)


def test_labels_parts_and_sizes():
    clouds = demo_clouds(70, 512, rotations="none", scales=False)
    assert np.bincount([cloud.label for cloud in clouds]).tolist() == [10] * len(CLASS_NAMES)
    for cloud in clouds:
        kind = CLASS_NAMES[cloud.label]
        names = {SEGMENT_NAMES[k] for k in cloud.segment}
        assert names == {name for name in SEGMENT_NAMES if name.startswith(kind)}
        assert cloud.points.dtype == cloud.normals.dtype == np.float32
        assert np.ptp(cloud.points, axis=0).max() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-6)
    sizes = [np.linalg.norm(cloud.points, axis=1).max() for cloud in demo_clouds(70, 64)]
    assert 2 < max(sizes) / min(sizes) < 6


def test_noise_moves_points_and_not_normals():
    exact, noisy = (demo_clouds(1, 256, noise=noise, rotations="none", scales=False)[0] for noise in (0.0, 0.02))
    assert np.std(noisy.points - exact.points) == pytest.approx(0.02, rel=0.1)
    np.testing.assert_array_equal(noisy.normals, exact.normals)


def test_unknown_kinds_and_sizes():
    with pytest.raises(InputError, match="'chair'"):
        make_shape("chiar", 64, np.random.default_rng(0))
    for options in ({"num_clouds": 0}, {"num_points": 1}):
        with pytest.raises(InputError, match="expected at least 1 of at least 8"):
            demo_clouds(**options)
    with pytest.raises(InputError, match="'.xyz' or '.ply'"):
        write_demo(".", [], ".docx")


def test_rotations():
    rng = np.random.default_rng(0)
    drawn = np.stack([random_rotation(rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn @ drawn.swapaxes(1, 2), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(drawn), 1, atol=1e-12)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.04)  # of all entries, by symmetry
    # the angle of a uniform rotation has density (1 - cos a) / pi: its mean is pi / 2 + 2 / pi
    angle = np.arccos(np.clip((np.trace(drawn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angle.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.04)
    for k, up in enumerate("xyz"):
        turns = np.stack([random_rotation(rng, "z", up) for _ in range(500)])
        np.testing.assert_allclose(turns[:, :, k], np.tile(np.eye(3)[k], (500, 1)), atol=1e-12)
        np.testing.assert_allclose(turns.mean(axis=0), np.diag(np.eye(3)[k]), atol=0.1)
    np.testing.assert_array_equal(random_rotation(rng, "none"), np.eye(3))
    for options in ({"kind": "so3"}, {"up": "w"}):
        with pytest.raises(InputError):
            random_rotation(rng, **options)


def test_normals_turn_with_points():
    cloud = demo_clouds(1, 64)[0]
    turned = rotated(cloud, TURN)
    np.testing.assert_allclose(turned.points, cloud.points @ TURN.T, atol=1e-6)
    np.testing.assert_allclose(turned.normals, cloud.normals @ TURN.T, atol=1e-6)
