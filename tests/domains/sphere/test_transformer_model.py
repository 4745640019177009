"""What a task makes of the networks on a globe."""

import torch

from geoattn.domains.sphere.batch import FieldBatch
from geoattn.domains.sphere.records import SphereGrid
from geoattn.domains.sphere.transformer_model import SphereModel
from geoattn.hub.registry import class_of, name_of

RING = SphereGrid("healpix", size=2, order="ring")


def model(grid: SphereGrid = RING, base=(1,), **options) -> SphereModel:
    torch.manual_seed(0)
    return SphereModel(grid.to_dict(), 2, 1, base, channels=[8], num_heads=2, num_layers=1, window=3.0, **options)


def batch(num: int = 2, points: int = 48) -> FieldBatch:
    inputs = torch.randn(num, 2, points, generator=torch.Generator().manual_seed(0))
    present = inputs > -1
    known = torch.zeros(num, 1, points, dtype=torch.bool)
    return FieldBatch(inputs * present, present, torch.zeros(num, 1, points), known)


def test_forecast_is_a_change_of_the_last_state():
    made = model()
    made.change.zero_()
    assert torch.equal(made(batch()), batch().inputs[:, 1:2])


def test_missing_is_told_apart_from_the_mean():
    made, x = model(base=()), batch()
    torch.nn.init.normal_(made.network.direct.weight)
    filled = FieldBatch(x.inputs, torch.ones_like(x.present), x.targets, x.known)
    assert not torch.allclose(made(x), made(filled))


def test_targets_are_not_looked_at():
    x = batch()
    other = FieldBatch(x.inputs, x.present, x.targets + 1, ~x.known)
    assert torch.equal(model()(x), model()(other))


def test_same_weights_on_other_points():
    made = model().eval()
    there = made.on(SphereGrid("healpix", size=4, order="ring"))
    assert not there.training
    assert there(batch(points=192)).shape == (2, 1, 192)
    back = there.on(RING)
    assert torch.equal(back(batch()), made(batch()))


def test_nested_pixels_give_the_same():
    from geoattn.geometry.sphere import healpix

    ring, nested = healpix(2, "ring").xyz, healpix(2, "nested").xyz
    order = torch.cdist(nested, ring).argmin(1)
    x = batch()
    turned = FieldBatch(*(one[..., order] for one in vars(x).values()))
    made = model()
    found = made.on(SphereGrid("healpix", size=2, order="nested"))(turned)
    torch.testing.assert_close(found, made(x)[..., order], rtol=0, atol=1e-5)


def test_registered():
    assert name_of(model()) == "sphere/transformer"
    assert class_of("sphere/transformer") is SphereModel
