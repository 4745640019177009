"""IterativeSE3Transformer: symmetry of every pass, and gradients through the geometry."""

import e3nn.o3
import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.models import IterativeSE3Transformer


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(**options) -> IterativeSE3Transformer:
    torch.manual_seed(0)
    return IterativeSE3Transformer("1x0e", "4x0e + 4x1o", num_iterations=2, num_layers=1, edge_channels=1, **options)


def points(num: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    i = torch.arange(num)
    edges = torch.stack([i.repeat(num), i.repeat_interleave(num)])
    edges = edges[:, edges[0] != edges[1]]
    return {
        "x": torch.ones(num, 1),
        "pos": torch.randn(num, 3, generator=generator),
        "edge_index": edges,
        "edge_attr": torch.rand(edges.shape[1], 1, generator=generator),
    }


def test_every_pass_is_equivariant():
    model, given = make(), points()
    rotation = e3nn.o3.rand_matrix()
    turned = model(**{**given, "pos": given["pos"] @ rotation.T + 2})
    for found, expected in zip(turned, model(**given), strict=True):
        torch.testing.assert_close(found, expected @ rotation.T + 2, rtol=1e-10, atol=1e-10)


def test_the_last_pass_teaches_the_first_through_the_geometry_unless_it_is_detached():
    gradients = []
    for detach in (False, True):
        model = make(detach_basis=detach)
        model(**points())[-1].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.passes[0].parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).abs().max() > 1e-6


def test_gradient_of_positions_is_right():
    model, given = make(), points(3)
    pos = given.pop("pos").requires_grad_()
    assert torch.autograd.gradcheck(lambda pos: model(pos=pos, **given)[-1], (pos,))


def test_no_iteration_is_refused():
    with pytest.raises(ShapeError, match="num_iterations"):
        IterativeSE3Transformer("1x0e", "1x0e", num_iterations=0)
