"""Frame averaging of networks that know nothing of symmetry: exact, in one call, with forces that are right."""

import pytest
import torch
from torch import nn

from geoattn.errors import InputError, ShapeError
from geoattn.layers import FrameAveraging
from geoattn.testing import assert_equivariant, equivariance_error, random_orthogonal

F64 = torch.float64


class Mlp(nn.Module):
    """Mean over points of a network of their coordinates: no symmetry but permutation. Counts its calls."""

    def __init__(self, out=4, dim=3, extra=0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim + extra, 32), nn.Tanh(), nn.Linear(32, out))
        self.batches = []

    def forward(self, pos, *inputs, mask=None):
        self.batches.append(len(pos))
        value = self.net(torch.cat([pos, *inputs], dim=-1))
        if mask is None:
            return value.mean(1)
        return (value * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


class PerPoint(nn.Module):
    """A vector, a position and a number of each point."""

    def __init__(self, dim=3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * dim + 1, 32), nn.Tanh(), nn.Linear(32, 2 * dim + 1))
        self.dim = dim

    def forward(self, pos, vel, charge):
        value = self.net(torch.cat([pos, vel, charge], dim=-1))
        force, moved, number = value.split([self.dim, self.dim, 1], dim=-1)
        return force, pos + moved, number


def double(net):
    torch.manual_seed(1)
    return net.double().eval()


@pytest.mark.parametrize(("group", "symmetry"), [("SO3", "SE(3)"), ("O(3)", "E(3)"), ("SO2", "SE(2)"), ("O4", "E(4)")])
def test_all_representations(group, symmetry):
    dim = int(group.strip("SO()"))
    names = {"inputs": ("vector", "invariant"), "out": ("vector", "position", "invariant")}
    wrapped = double(FrameAveraging(PerPoint(dim), group, **names))

    def fn(pos, vel, charge):  # permutations act on the second axis: one cloud, its points in front
        return tuple(value[0] for value in wrapped(pos[None], vel[None], charge[None]))

    values = {name: torch.randn(7, width, dtype=F64) for name, width in (("pos", dim), ("vel", dim), ("charge", 1))}
    specs = {
        "in_specs": {"pos": "position/node", "vel": "vector/node", "charge": "invariant/node"},
        "out_specs": {"force": "vector/node", "moved": "position/node", "number": "invariant/node"},
    }
    for kind in (symmetry, "permutation"):
        assert_equivariant(fn, values, group=kind, tolerance=1e-12, **specs)
    if group.startswith("SO"):
        with pytest.raises(AssertionError, match="reflection"):
            assert_equivariant(fn, values, group=symmetry[1:], **specs)


def test_the_bare_network_has_no_symmetry():
    net = double(Mlp())
    specs = {"in_specs": {"pos": "position"}, "out_specs": {"y": "invariant"}}
    assert float(equivariance_error(net, {"pos": torch.randn(2, 7, 3, dtype=F64)}, group="SO(3)", **specs)) > 1e-2


@pytest.mark.parametrize(("group", "frames"), [("SO3", 4), ("O3", 8)])
def test_one_call_and_the_mean_written_out(group, frames):
    wrapped = double(FrameAveraging(Mlp(), group))
    pos = torch.randn(3, 6, 3, dtype=F64)
    result = wrapped(pos)
    assert wrapped.net.batches == [3 * frames]
    rotation, center, _ = wrapped.frames(pos)
    expected = torch.stack([wrapped.net((pos - center[:, None]) @ rotation[:, f]) for f in range(frames)]).mean(0)
    torch.testing.assert_close(result, expected)


def test_float32():
    wrapped = FrameAveraging(Mlp(), "SO3")
    pos = torch.randn(2, 20, 3) * torch.tensor([1.0, 2.0, 3.0])
    turn = random_orthogonal(3)
    moved = (pos.double() @ turn.T + 0.5).float()
    assert wrapped.frames(pos).gap.min() > 0.05
    torch.testing.assert_close(wrapped(pos), wrapped(moved), atol=1e-5, rtol=1e-4)


def test_clouds_do_not_see_each_other_and_padding_is_not_seen():
    wrapped = double(FrameAveraging(Mlp(extra=3), "O3", inputs=("vector",)))
    pos, vel = torch.randn(3, 8, 3, dtype=F64), torch.randn(3, 8, 3, dtype=F64)
    counts = [8, 5, 1]
    mask = torch.arange(8) < torch.tensor(counts)[:, None]
    padded = pos.masked_fill(~mask[..., None], 1e3)
    together = wrapped(padded, vel, mask=mask)
    for number, count in enumerate(counts):
        alone = wrapped(pos[number, None, :count], vel[number, None, :count])
        torch.testing.assert_close(together[number], alone[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "points", [torch.ones(1, 1, 3), torch.zeros(1, 5, 3), torch.arange(4.0)[None, :, None] * torch.ones(3)]
)
def test_one_point_equal_points_and_a_line_are_finite(points):
    wrapped = double(FrameAveraging(Mlp(), "SO3"))
    pos = points.double().requires_grad_()
    value = wrapped(pos)
    (gradient,) = torch.autograd.grad(value.square().sum(), pos)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert wrapped.frames(pos).gap.item() < 1e-12


def test_methane_is_invariant_in_the_mean_over_samples():
    methane = torch.tensor([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=F64)[None]
    turn = random_orthogonal(3)
    errors = []
    for samples in (None, 2000):
        wrapped = double(FrameAveraging(Mlp(), "SO3", samples=samples))
        there, back = wrapped(methane), wrapped(methane @ turn.T)
        errors.append(((there - back).norm() / there.norm()).item())
    assert errors[1] < 0.05
    assert errors[0] > 2 * errors[1]


def energies(detach):
    net = double(FrameAveraging(Mlp(1), "SO3"))
    frames = net.frames
    if detach:
        net.frames = lambda pos, mask: frames(pos.detach(), mask)
    return lambda pos: net(pos[None])[0, 0]


def force_errors(energy, pos):
    """Largest difference of autograd's force from central differences, and the net torque."""
    leaf = pos.clone().requires_grad_()
    force = -torch.autograd.grad(energy(leaf), leaf)[0]
    numeric = torch.zeros_like(pos)
    for index in range(pos.numel()):
        step = torch.zeros(pos.numel(), dtype=F64)
        step[index] = 1e-5
        step = step.view_as(pos)
        numeric.view(-1)[index] = -(energy(pos + step) - energy(pos - step)) / 2e-5
    scale = force.norm()
    torque = torch.linalg.cross(pos - pos.mean(0), force).sum(0)
    return ((force - numeric).norm() / scale).item(), (torque.norm() / scale).item()


def test_forces_are_those_of_the_energy_and_exert_no_torque():
    pos = torch.randn(10, 3, dtype=F64)
    difference, torque = force_errors(energies(detach=False), pos)
    assert difference < 1e-7
    assert torque < 1e-12


def test_detached_frames_give_wrong_forces():
    pos = torch.randn(10, 3, dtype=F64)
    difference, torque = force_errors(energies(detach=True), pos)
    assert difference > 1e-3
    assert torque > 1e-3


def test_stochastic_in_training_and_all_frames_in_evaluation():
    wrapped = double(FrameAveraging(Mlp(), "O3", stochastic=True))
    pos = torch.randn(1, 6, 3, dtype=F64)
    expected = wrapped(pos)
    wrapped.train()
    wrapped.net.batches.clear()
    many = wrapped(pos.expand(4000, -1, -1))
    assert wrapped.net.batches == [4000]
    assert len(torch.unique(many[:, 0].round(decimals=9))) == 8
    torch.testing.assert_close(many.mean(0), expected[0], atol=0.1, rtol=0)


def test_gradients_reach_the_parameters_and_inputs():
    wrapped = FrameAveraging(Mlp(2, extra=3), "SO3", inputs=("vector",)).double()
    pos, vel = (torch.randn(2, 5, 3, dtype=F64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(wrapped, (pos, vel), atol=1e-7)
    wrapped(pos, vel).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in wrapped.parameters())


def test_saves_the_network_under_its_own_names():
    net = Mlp()
    assert {f"net.{name}" for name in net.state_dict()} == set(FrameAveraging(net).state_dict())


def test_refusals():
    pos = torch.randn(2, 5, 3)
    for group in ("SE3", "SO", "U3", "so3"):
        with pytest.raises(InputError, match="'SO3', 'O3'"):
            FrameAveraging(Mlp(), group)
    with pytest.raises(InputError, match="Did you mean 'vector'"):
        FrameAveraging(Mlp(), out="vectors")
    with pytest.raises(ShapeError, match="one for each name"):
        FrameAveraging(Mlp())(pos, pos)
    with pytest.raises(ShapeError, match=r"\[B, N, 2\]"):
        FrameAveraging(Mlp(), "SO2")(pos)
    with pytest.raises(ShapeError, match=r"\[..., 3\]"):
        FrameAveraging(Mlp(), out="vector")(pos)
    with pytest.raises(ShapeError, match="2 tensors"):
        FrameAveraging(Mlp(), out=("vector", "invariant"))(pos)
    with pytest.raises(ShapeError, match=r"\[8, ...\]"):
        FrameAveraging(nn.Flatten(0))(pos)
    with pytest.raises(ShapeError, match="mask"):
        FrameAveraging(Mlp())(pos, mask=torch.ones(2, 5))


class Moments(nn.Module):
    """A linear map of the second moment along each coordinate axis."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def forward(self, pos):
        return self.net(pos.square().mean(1))


def test_what_is_learned_upright_holds_for_turned_clouds():
    """The target is how high a cloud is; clouds of training all stand upright."""

    def clouds(count):
        height = 1 + 2 * torch.rand(count, 1)
        shape = torch.cat([torch.full_like(height, 0.4), torch.full_like(height, 0.7), height], dim=1)
        return torch.randn(count, 30, 3) * shape[:, None], height.square()

    (pos, target), (upright, expected) = clouds(200), clouds(100)
    turned = upright @ torch.stack([random_orthogonal(3) for _ in upright]).float().mT
    errors = {}
    for name, net in (("plain", Moments()), ("frames", FrameAveraging(Moments(), "SO3"))):
        optimizer = torch.optim.LBFGS(net.parameters(), max_iter=50)

        def closure(net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (net(pos) - target).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            errors[name] = [(net(test) - expected).square().mean().item() for test in (upright, turned)]
    assert errors["plain"][1] > 3 * errors["plain"][0]
    assert errors["frames"][1] == pytest.approx(errors["frames"][0], rel=1e-3)
    assert errors["frames"][1] < errors["plain"][1] / 3
