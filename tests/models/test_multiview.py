"""The network of views: what it ignores, what it knows, that rays and scenes do not meet, that it learns."""

from dataclasses import fields, replace

import pytest
import torch

from geoattn.domains.multiview.batch import Trial, ViewBatch, collate, make_sample, trial_sample
from geoattn.domains.multiview.scenes import make_scenes
from geoattn.domains.multiview.transformer_model import MultiViewModel
from geoattn.errors import ShapeError
from geoattn.models.multiview import MultiViewTransformer
from geoattn.testing import random_orthogonal

F64 = torch.float64
POSES = ["gta", "absolute", "rope"]


def small(pose="gta"):
    torch.manual_seed(0)
    model = MultiViewModel(pose, channels=32, num_heads=2, encoder_layers=1, decoder_layers=1).double().eval()
    with torch.no_grad():  # colours that are not cut off, whatever the weights
        model.network.color[-1].weight.mul_(0.1)
        model.network.color[-1].bias.fill_(0.5)
    return model


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(3, views=4, size=16, supersample=1)


@pytest.fixture(scope="module")
def batch(scenes):
    return collate([trial_sample(Trial(scene, (0, 2, 3), 1), "file", F64) for scene in scenes])


def moved(batch, seed=0):
    """Each scene with a world frame of its own."""
    generator = torch.Generator().manual_seed(seed)
    motion = torch.eye(4, dtype=F64).repeat(len(batch), 1, 1, 1)
    for k in range(len(batch)):
        motion[k, 0, :3, :3] = random_orthogonal(3, generator=generator)
        motion[k, 0, :3, 3] = 3 * torch.randn(3, generator=generator)
    return replace(batch, extrinsics=batch.extrinsics @ motion, target_extrinsics=batch.target_extrinsics @ motion)


def rows(batch, which):
    return ViewBatch(*(getattr(batch, field.name)[which] for field in fields(batch)))


def test_with_gta_the_world_frame_changes_nothing(batch):
    model = small()
    colors = model(batch)
    assert colors.std() > 1e-4 and colors.min() > 0 and colors.max() < 1
    assert (model(moved(batch)) - colors).abs().max() < 1e-10


@pytest.mark.parametrize("pose", ["absolute", "rope"])
def test_embedded_rays_know_the_world_frame(batch, pose):
    model = small(pose)
    assert (model(moved(batch)) - model(batch)).abs().max() > 1e-4


def test_poses_relative_to_the_first_view_hide_the_frame_from_all(scenes):
    model = small("absolute")
    sample = trial_sample(Trial(scenes[0], (0, 2), 1), "first", F64)
    shift = torch.eye(4, dtype=F64)
    shift[:3, :3], shift[:3, 3] = random_orthogonal(3, generator=torch.Generator().manual_seed(1)), 5.0
    elsewhere = replace(scenes[0], extrinsics=scenes[0].extrinsics @ shift.numpy())
    again = trial_sample(Trial(elsewhere, (0, 2), 1), "first", F64)
    assert (model(sample) - model(again)).abs().max() < 1e-10


@pytest.mark.parametrize("pose", POSES)
def test_views_may_come_in_any_order_and_each_with_its_own_camera(batch, pose):
    model, order = small(pose), [2, 0, 1]
    given = {name: getattr(batch, name)[:, order] for name in ("images", "extrinsics", "intrinsics")}
    torch.testing.assert_close(model(replace(batch, **given)), model(batch), rtol=0, atol=1e-10)
    wrong = model(replace(batch, images=given["images"]))  # images without their cameras
    assert (wrong - model(batch)).abs().max() > 1e-6


@pytest.mark.parametrize("pose", POSES)
def test_scenes_of_a_batch_do_not_meet(batch, pose):
    model = small(pose)
    alone = torch.cat([model(rows(batch, slice(k, k + 1))) for k in range(len(batch))])
    torch.testing.assert_close(model(batch), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("pose", POSES)
def test_rays_do_not_meet_and_pieces_are_the_whole(batch, pose, monkeypatch):
    model = small(pose)
    whole = model(batch)
    monkeypatch.setattr("geoattn.domains.multiview.transformer_model.RAYS_AT_ONCE", 37)
    torch.testing.assert_close(model(batch), whole, rtol=0, atol=1e-12)
    some = replace(batch, pixels=batch.pixels[:, :, 5:6], colors=batch.colors[:, :, 5:6])
    torch.testing.assert_close(model(some), whole[:, :, 5:6], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pose", POSES)
def test_a_ray_is_what_counts_not_the_pixel_that_it_falls_on(batch, pose):
    model = small(pose)
    scale = torch.tensor([2.0, 3.0, 1.0], dtype=F64)  # pixels of another width and height
    other = replace(batch, target_intrinsics=batch.target_intrinsics * scale[:, None], pixels=batch.pixels * scale[:2])
    assert (model(other) - model(batch)).abs().max() < 1e-10


@pytest.mark.parametrize("pose", POSES)
def test_every_part_matters_and_gets_a_gradient(scenes, pose):
    model = small(pose).train()
    sample = make_sample(scenes[0], [0, 1], [2, 3], dtype=F64)
    assert sample.colors.dtype == F64 and sample.colors.shape == (1, 2, 256, 3)
    images = sample.images.requires_grad_()
    model(replace(sample, images=images)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert (images.grad.abs().amax((0, 2, 3, 4)) > 0).all()  # of both views
    colors = model(sample)
    other = torch.roll(sample.target_extrinsics, 1, 1)  # the cameras of the two targets exchanged
    assert (model(replace(sample, target_extrinsics=other)) - colors).abs().max() > 1e-6
    assert (model(replace(sample, pixels=sample.pixels.flip(2))) - colors).abs().max() > 1e-6
    zoomed = sample.target_intrinsics * torch.tensor([2.0, 2, 1], dtype=F64)[:, None]
    assert (model(replace(sample, target_intrinsics=zoomed)) - colors).abs().max() > 1e-6


def test_it_learns_a_few_views_by_heart(scenes):
    torch.manual_seed(0)
    model = MultiViewModel(channels=32, num_heads=2, encoder_layers=1, decoder_layers=1)
    sample = make_sample(scenes[0], [0, 1], [2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    variance = sample.colors.var((0, 1, 2)).mean()
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(sample) - sample.colors).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.6 * variance


def test_bad_sizes_are_refused(batch):
    with pytest.raises(ShapeError, match="num_heads: got 0"):
        MultiViewTransformer(32, num_heads=0)
    with pytest.raises(ShapeError, match="24 for 2 heads"):
        MultiViewTransformer(24, num_heads=2)
    with pytest.raises(ShapeError, match="14 x 16 pixels"):
        small()(replace(batch, images=batch.images[..., :14, :]))
