"""Canonicalisation: exact symmetry of any network, a pose that is returned and not kept, and a prior."""

import pytest
import torch
from torch import nn

from geoattn.errors import InputError, ShapeError
from geoattn.geometry import MatrixGroup
from geoattn.layers import Canonicalize, VectorNetwork, prior_regularization
from geoattn.testing import assert_equivariant, random_orthogonal

F64 = torch.float64


class Mlp(nn.Module):
    def __init__(self, dim=3):
        super().__init__()
        self.net, self.dim = nn.Sequential(nn.Linear(2 * dim, 32), nn.Tanh(), nn.Linear(32, 2 * dim + 1)), dim

    def forward(self, pos, vel, mask=None):
        force, moved, number = self.net(torch.cat([pos, vel], -1)).split([self.dim, self.dim, 1], dim=-1)
        inside = torch.ones_like(number) if mask is None else mask[..., None]
        return force, pos + moved, (number * inside).sum(1)


def network(group="SO3", **options):
    torch.manual_seed(1)
    dim = int(group[-1])
    canonicalizer = VectorNetwork(MatrixGroup.rotations(dim))
    names = {"inputs": ("vector",), "out": ("vector", "position", "invariant")}
    return Canonicalize(Mlp(dim), canonicalizer, group, **names, **options).double()


@pytest.mark.parametrize("method", ["svd", "gram_schmidt"])
@pytest.mark.parametrize("group", ["SO3", "O3", "SO2"])
def test_exact_symmetry(group, method):
    wrapped, dim = network(group, method=method), int(group[-1])

    def fn(pos, vel):
        force, moved, number = wrapped(pos[None], vel[None])
        return force[0], moved[0], number[0]

    values = {"pos": torch.randn(7, dim, dtype=F64), "vel": torch.randn(7, dim, dtype=F64)}
    specs = {
        "in_specs": {"pos": "position/node", "vel": "vector/node"},
        "out_specs": {"force": "vector/node", "moved": "position/node", "number": "invariant"},
    }
    symmetry = f"{'SE' if group.startswith('S') else 'E'}({dim})"
    for kind in (symmetry, "permutation"):
        assert_equivariant(fn, values, group=kind, tolerance=1e-10, **specs)
    if group == "SO3":
        with pytest.raises(AssertionError, match="reflection"):
            assert_equivariant(fn, values, group="E(3)", **specs)


def test_without_orthonormal_axes_symmetry_is_lost():
    """The network behind a canonicalizer that is not equivariant: the check can fail."""
    wrapped = network()
    wrapped.canonicalizer = nn.Sequential(nn.Flatten(), nn.Linear(21, 9), nn.Unflatten(1, (3, 3))).double()
    pos, vel, turn = torch.randn(1, 7, 3, dtype=F64), torch.randn(1, 7, 3, dtype=F64), random_orthogonal(3)
    assert (wrapped(pos, vel)[2] - wrapped(pos @ turn.T, vel @ turn.T)[2]).abs().max() > 1e-3


def test_the_pose_is_returned_and_nothing_is_kept():
    wrapped = network()
    pos, vel = torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 7, 3, dtype=F64)
    before = dict(wrapped.__dict__)
    outputs, pose = wrapped(pos, vel, return_pose=True)
    assert wrapped.__dict__ == before
    assert not list(wrapped.buffers())
    turn = random_orthogonal(3)
    again = wrapped(pos @ turn.T + 1, vel @ turn.T, return_pose=True)[1]
    torch.testing.assert_close(again.rotation, turn @ pose.rotation, atol=1e-10, rtol=0)
    upright = wrapped.net((pos - pose.center[:, None]) @ pose.rotation, vel @ pose.rotation)
    torch.testing.assert_close(outputs[0], upright[0] @ pose.rotation.mT)
    torch.testing.assert_close(outputs[1], upright[1] @ pose.rotation.mT + pose.center[:, None])
    torch.testing.assert_close(torch.linalg.det(pose.rotation), torch.ones(2, dtype=F64))


def test_padding_and_the_rest_of_the_batch_are_not_seen():
    wrapped = network()
    pos, vel = torch.randn(2, 7, 3, dtype=F64), torch.randn(2, 7, 3, dtype=F64)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    together = wrapped(pos.masked_fill(~mask[..., None], float("nan")), vel, mask=mask)[2]
    torch.testing.assert_close(together[1], wrapped(pos[1:, :4], vel[1:, :4])[2][0])
    torch.testing.assert_close(together[:1], wrapped(pos[:1], vel[:1])[2])


@pytest.mark.parametrize("count", [1, 2, 8])
def test_one_point_a_line_and_a_cube_are_finite(count):
    cube = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=F64)
    pos = cube[None, :count].clone().requires_grad_()
    force, moved, number = network()(pos, torch.zeros(1, count, 3, dtype=F64))
    (gradient,) = torch.autograd.grad(force.sum() + moved.square().sum() + number.sum(), pos)
    assert gradient.isfinite().all()
    assert number.isfinite().all()


def test_derivatives():
    wrapped = network()
    pos, vel = (torch.randn(1, 5, 3, dtype=F64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(wrapped, (pos, vel), atol=1e-6)
    for output in wrapped(pos, vel):
        output.square().sum().backward(retain_graph=True)
    assert all(parameter.grad.abs().max() > 0 for parameter in wrapped.canonicalizer.parameters())


def test_the_prior_teaches_the_canonicalizer_to_leave_clouds_upright():
    torch.manual_seed(0)
    canonicalizer = VectorNetwork()
    wrapped = Canonicalize(nn.Identity(), canonicalizer, out="vector")
    pos = torch.randn(64, 12, 3) * torch.tensor([1.0, 2.0, 4.0]) + torch.rand(64, 12, 1) ** 4 * torch.tensor(
        [9.0, 9, 9]
    )
    optimizer = torch.optim.Adam(canonicalizer.parameters(), 1e-2)
    first = prior_regularization(wrapped.pose(pos).rotation)
    for _ in range(60):
        loss = prior_regularization(wrapped.pose(pos).rotation)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.7 * first


def test_refusals():
    with pytest.raises(InputError, match="group"):
        Canonicalize(nn.Identity(), VectorNetwork(), "SE3")
    with pytest.raises(ShapeError, match="canonicalizer"):
        Canonicalize(nn.Identity(), nn.Flatten())(torch.zeros(2, 5, 3))
    with pytest.raises(ShapeError, match="noise"):
        VectorNetwork(noise_channels=2)(torch.zeros(2, 5, 3))
