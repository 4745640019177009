"""RISur networks on pyramids: invariance, independence of the batch, odd clouds."""

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from geoattn.geometry.surface_pyramid import SurfacePyramid, surface_pyramid
from geoattn.models import RISurClassifier, RISurSegmenter

LEVELS = [(48, 8), (12, 6)]


def pyramid(pos: Tensor, ptr: Tensor | None = None, num_points: int | None = None) -> SurfacePyramid:
    return surface_pyramid(pos, LEVELS, ptr=ptr, up_neighbors=(4, 4), num_points=num_points)


def networks(context: int = 8, paper: bool = False) -> list[nn.Module]:
    torch.manual_seed(0)
    options = {"edge_channels": 8, "context": context, "paper": paper}
    made = [RISurClassifier(5, (16, 32, 64), **options), RISurSegmenter(3, (16, 32), **options)]
    return [model.double().eval() for model in made]


def points(n: int = 200, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("context", [0, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_rotation_and_translation_change_nothing(context: int, dtype: torch.dtype, tolerance: float) -> None:
    pos = points()
    turn = torch.from_numpy(Rotation.random(rng=3).as_matrix())
    for model in networks(context):
        before = model.to(dtype)(pyramid(pos.to(dtype)))
        after = model(pyramid((pos @ turn.T + 2).to(dtype)))
        assert ((before - after).abs().max() / before.abs().max()) < tolerance


def test_a_mirror_image_is_told_apart() -> None:
    pos = points()
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    for model in networks():
        assert (model(pyramid(pos)) - model(pyramid(pos @ mirror))).abs().max() > 1e-6


@pytest.mark.parametrize("paper", [False, True])
def test_a_cloud_does_not_feel_the_batch(paper: bool) -> None:
    clouds = [points(200), points(30, 1), points(3, 2), points(200, 3), points(1, 4)]
    one_by_one = [pyramid(cloud) for cloud in clouds]
    ptr = torch.tensor([0, *torch.tensor([len(cloud) for cloud in clouds]).cumsum(0)])
    classifier, segmenter = networks(paper=paper)
    for together in (SurfacePyramid.cat(one_by_one), pyramid(torch.cat(clouds), ptr)):
        torch.testing.assert_close(classifier(together), torch.cat([classifier(p) for p in one_by_one]))
        torch.testing.assert_close(segmenter(together), torch.cat([segmenter(p) for p in one_by_one]))


def test_the_order_of_the_points_changes_nothing() -> None:
    pos = points()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(5))
    before, after = pyramid(pos), pyramid(pos[order])
    classifier, segmenter = networks()
    torch.testing.assert_close(classifier(before), classifier(after), rtol=0, atol=1e-12)
    per_point = torch.empty(2, 200, 3, dtype=torch.float64)
    per_point[0, before.index], per_point[1, order[after.index]] = segmenter(before), segmenter(after)
    torch.testing.assert_close(per_point[0], per_point[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "pos",
    [torch.zeros(1, 3), torch.zeros(20, 3), torch.linspace(-1, 1, 20)[:, None].expand(20, 3), torch.empty(0, 3)],
    ids=["one point", "all equal", "on a line", "empty"],
)
def test_odd_clouds_give_finite_results_and_gradients(pos: Tensor) -> None:
    clouds = pyramid(torch.cat([pos.double(), points(60)]), torch.tensor([0, len(pos), len(pos) + 60]))
    for model in networks():
        model.train()
        found = model(clouds)
        found.sum().backward()
        assert found.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_every_parameter_learns() -> None:
    clouds = pyramid(torch.cat([points(), points(seed=1)]), torch.tensor([0, 200, 400]))
    for model in networks():
        model.train()
        (model(clouds) ** 2).sum().backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None]
