"""Orbit distance and probabilistic symmetrisation: exact for fixed noise, 1/sqrt(n) for fresh noise."""

import numpy as np
import pytest
import torch
from torch import nn

from geoattn.errors import ShapeError
from geoattn.geometry import MatrixGroup
from geoattn.layers import OrbitDistance, VectorNetwork
from geoattn.testing import random_orthogonal

F64 = torch.float64


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 32), nn.Tanh(), nn.Linear(32, dim))

    def forward(self, pos, mask=None):
        value = self.net(pos)
        return value.mean(1), value if mask is None else (value * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class Blind(nn.Module):
    """A generator that does not look at the points: the negative control."""

    noise_channels = 4

    def forward(self, pos, noise, mask=None):
        return torch.eye(4, dtype=F64) + 0.1 * noise[:, :4]


def layer(group, **options):
    torch.manual_seed(3)
    generator = VectorNetwork(group, noise_channels=4)
    return OrbitDistance(Mlp(group.dim), generator, group, out=("invariant", "vector"), **options).double()


def test_fixed_noise_is_exact_for_rotations():
    wrapped = layer(MatrixGroup.rotations(3), project=True)
    pos, noise, turn = torch.randn(2, 6, 3, dtype=F64), torch.randn(2, 5, 6, 4, dtype=F64), random_orthogonal(3)
    (number, vectors), defect = wrapped(pos, noise=noise)
    (again, turned), _ = wrapped(pos @ turn.T, noise=noise)
    assert defect.shape == (2, 5)
    assert defect.min() > 1e-3  # of the free matrices
    assert wrapped.group.defect(wrapped.matrices(pos, noise=noise)[0]).max() < 1e-12
    torch.testing.assert_close(again, number, atol=1e-11, rtol=0)
    torch.testing.assert_close(turned, vectors @ turn.T, atol=1e-11, rtol=0)
    order = torch.randperm(6)
    torch.testing.assert_close(wrapped(pos[:, order], noise=noise[:, :, order])[0][0], number)


def test_without_projection_the_defect_says_how_wrong_it_is():
    wrapped = layer(MatrixGroup.rotations(3))
    _, defect = wrapped(torch.randn(2, 6, 3, dtype=F64))
    assert defect.min() > 1e-2


def test_fresh_noise_falls_as_one_over_sqrt_n():
    wrapped = layer(MatrixGroup.rotations(3), project=True)
    pos = torch.randn(1, 6, 3, dtype=F64)
    counts, spreads = [4, 16, 64, 256], []
    with torch.no_grad():
        for count in counts:
            wrapped.samples = count
            spreads.append(torch.cat([wrapped(pos)[0][0] for _ in range(100)]).std(0).mean().item())
    slope = np.polyfit(np.log(counts), np.log(spreads), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)


def test_the_loss_brings_lorentz_matrices_to_where_the_projection_arrives():
    group = MatrixGroup.lorentz()
    wrapped = layer(group, samples=1)

    def momenta(count):
        space = torch.randn(count, 8, 3, dtype=F64)
        return torch.cat([(1 + space.square().sum(-1, keepdim=True)).sqrt(), space], dim=-1)

    train, test, noise = momenta(32), momenta(64), torch.randn(64, 3, 8, 4, dtype=F64)
    optimizer = torch.optim.Adam(wrapped.generator.parameters(), 1e-2)
    defects = []
    for _ in range(150):
        defect = wrapped(train)[1].mean()
        defects.append(defect.item())
        optimizer.zero_grad()
        defect.backward()
        optimizer.step()
    assert np.mean(defects[-10:]) < 0.8 * np.mean(defects[:10])
    boost = torch.eye(4, dtype=F64)
    boost[0, 0] = boost[1, 1] = np.cosh(1.5)
    boost[0, 1] = boost[1, 0] = np.sinh(1.5)
    free, _ = wrapped.matrices(test, noise=noise)
    assert group.defect(free).min() > 1e-2
    wrapped.project = True
    assert group.defect(wrapped.matrices(test, noise=noise)[0]).max() < 1e-9
    (number, vectors), _ = wrapped(test, noise=noise)
    (again, boosted), _ = wrapped(test @ boost.T, noise=noise)
    torch.testing.assert_close(again, number, atol=1e-9, rtol=0)
    torch.testing.assert_close(boosted, vectors @ boost.T, atol=1e-8, rtol=0)
    wrapped.generator = Blind()
    assert (wrapped(test, noise=noise)[0][0] - wrapped(test @ boost.T, noise=noise)[0][0]).abs().max() > 1e-3


def test_padding_is_not_seen():
    wrapped = layer(MatrixGroup.rotations(3), project=True)
    pos, noise = torch.randn(2, 6, 3, dtype=F64), torch.randn(2, 5, 6, 4, dtype=F64)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    matrices = wrapped.matrices(pos.masked_fill(~mask[..., None], float("nan")), mask, noise)[0]
    torch.testing.assert_close(matrices[1], wrapped.matrices(pos[1:, :4], None, noise[1:, :, :4])[0][0])


def test_gradients_and_refusals():
    wrapped = layer(MatrixGroup.rotations(3), project=True)
    pos = torch.randn(1, 4, 3, dtype=F64, requires_grad=True)
    noise = torch.randn(1, 2, 4, 4, dtype=F64)
    assert torch.autograd.gradcheck(lambda p: wrapped(p, noise=noise)[0], pos, atol=1e-6)
    with pytest.raises(ShapeError, match="noise"):
        wrapped(pos, noise=noise[0])
    with pytest.raises(ShapeError, match=r"\[B, N, 3\]"):
        wrapped(pos[..., :2])
