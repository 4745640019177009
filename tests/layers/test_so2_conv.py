"""SO(2) convolution: against Clebsch-Gordan sums, its symmetry in the edge's frame, and truncation."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.edge_frame import EdgeFrame, m_major
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.wigner import wigner_d
from geoattn.layers import SO2Conv
from geoattn.layers.so2_clebsch_gordan import paths_from_so2_weights, so2_weights_from_paths
from geoattn.layers.so2_conv import join_m, scale_m, so2_linear, split_m
from geoattn.testing import random_orthogonal

F64 = torch.float64
AXES = torch.cat([torch.eye(3, dtype=F64), -torch.eye(3, dtype=F64)])


def directions(num: int) -> torch.Tensor:
    """The six axes and random unit vectors."""
    random = torch.nn.functional.normalize(torch.randn(num, 3, dtype=F64), dim=1)
    return torch.cat([AXES, random])


def convolve(unit, x, weights, lmax, mmax):
    """Rotate into the edges' frames, SO(2) linear map, rotate back."""
    frame = EdgeFrame.build(unit, lmax, mmax)
    channels = weights[0].shape[0] // (lmax + 1)
    blocks, _ = so2_linear(split_m(frame.rotate(x), lmax, mmax), weights, None, channels)
    return frame.rotate_back(join_m(blocks))


def brute_force(unit, x, paths, lmax):
    """The sum over all paths, as it is written."""
    out_channels = next(iter(paths.values())).shape[0]
    harmonics = spherical_harmonics(unit, 2 * lmax)
    y = x.new_zeros(len(x), (lmax + 1) ** 2, out_channels)
    for (l_in, j, l_out), path in paths.items():
        y[:, l_out**2 : (l_out + 1) ** 2] += torch.einsum(
            "dc,mMn,eM,emc->end",
            path,
            clebsch_gordan(l_in, j, l_out),
            harmonics[:, j**2 : (j + 1) ** 2],
            x[:, l_in**2 : (l_in + 1) ** 2],
        )
    return y


def all_paths(lmax):
    degrees = range(lmax + 1)
    return [(a, j, b) for a in degrees for b in degrees for j in range(abs(a - b), a + b + 1)]


@pytest.mark.parametrize("lmax", range(5))
def test_equals_the_clebsch_gordan_sum(lmax):
    paths = {path: torch.randn(2, 3, dtype=F64) for path in all_paths(lmax)}
    unit = directions(10)
    x = torch.randn(len(unit), (lmax + 1) ** 2, 3, dtype=F64)
    weights = so2_weights_from_paths(paths, lmax, lmax, 3, 2)
    expected = brute_force(unit, x, paths, lmax)
    difference = convolve(unit, x, weights, lmax, lmax) - expected
    assert difference.abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("lmax", range(5))
def test_weights_and_paths_determine_each_other(lmax):
    """As many numbers on both sides, and one the inverse of the other, both ways round."""
    conv = SO2Conv(lmax, lmax, 3, 2).double()
    paths = paths_from_so2_weights(list(conv.weights), lmax, 3, 2)
    assert sum(path.numel() for path in paths.values()) == sum(weight.numel() for weight in conv.weights)
    for again, weight in zip(so2_weights_from_paths(paths, lmax, lmax, 3, 2), conv.weights, strict=True):
        torch.testing.assert_close(again, weight, atol=1e-13, rtol=0)


def test_odd_paths_are_the_imaginary_parts():
    """With the paths of even J + l + l' alone, which are those that reflections allow, all W_i vanish."""
    even = {path: torch.randn(2, 3, dtype=F64) for path in all_paths(3) if sum(path) % 2 == 0}
    for weight in so2_weights_from_paths(even, 3, 3, 3, 2)[1:]:
        assert weight[0].abs().max() > 0.1
        assert weight[1].abs().max() < 1e-14


@pytest.mark.parametrize("mmax", [0, 1, 3])
def test_equivariant(mmax):
    conv = SO2Conv(3, mmax, 4, 5).double()
    with torch.no_grad():
        conv.bias.normal_()
    unit, rotation = directions(20), random_orthogonal(3)
    x = torch.randn(len(unit), 16, 4, dtype=F64)
    D = torch.block_diag(*wigner_d(rotation, 3))

    def run(unit, x):
        frame = EdgeFrame.build(unit, 3, mmax)
        return frame.rotate_back(conv(frame.rotate(x)))

    expected = D @ run(unit, x)
    assert (run(unit @ rotation.T, D @ x) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert (run(unit @ rotation, D @ x) - expected).abs().max() > 0.1 * expected.abs().max()  # and not by chance


@pytest.mark.parametrize("mmax", [0, 1, 2, 4])
def test_roll_about_the_edge_changes_nothing(mmax):
    """Each frame is turned about its polar axis by an angle of its own."""
    conv = SO2Conv(4, mmax, 3, 2, extra_scalars=5).double()
    unit = directions(12)
    x = torch.randn(len(unit), 25, 3, dtype=F64)
    frame = EdgeFrame.build(unit, 4, mmax)
    angle = torch.rand(len(unit), dtype=F64) * 2 * math.pi
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    roll = torch.stack([c, zero, s, zero, one, zero, -s, zero, c], dim=1).view(-1, 3, 3)
    rows = [degree * degree + degree + m for degree, m in m_major(4, mmax)]
    rolls = torch.stack([torch.block_diag(*matrices) for matrices in zip(*wigner_d(roll, 4), strict=True)])
    rolled = EdgeFrame(rolls[:, rows][:, :, rows] @ frame.rotation, 4, mmax)
    results = []
    for one_frame in (frame, rolled):
        z, extra = conv(one_frame.rotate(x))
        results.append((one_frame.rotate_back(z), extra))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-12, rtol=0)
    if mmax:
        assert (frame.rotation - rolled.rotation).abs().max() > 0.1


def test_mmax_of_lmax_is_untruncated_and_less_drops_the_rest():
    conv = SO2Conv(3, 3, 2, 2).double()
    unit = directions(8)
    x = torch.randn(len(unit), 16, 2, dtype=F64)
    weights = list(conv.weights)
    whole = brute_force(unit, x, paths_from_so2_weights(weights, 3, 2, 2), 3)
    torch.testing.assert_close(convolve(unit, x, weights, 3, 3), whole)
    truncated = brute_force(unit, x, paths_from_so2_weights(weights[:2], 3, 2, 2), 3)
    torch.testing.assert_close(convolve(unit, x, weights[:2], 3, 1), truncated)
    assert (whole - truncated).abs().max() > 0.1


def test_multipliers_act_on_pairs_of_orders():
    z, factor = torch.randn(6, 7, 2, dtype=F64), torch.randn(6, 10, dtype=F64)
    scaled = join_m(scale_m(split_m(z, 2, 1), factor))
    factors = factor.view(6, 5, 2)  # (0,0) (1,0) (2,0) (1,1) (2,1)
    for row, pair in enumerate([0, 1, 2, 3, 4, 3, 4]):
        torch.testing.assert_close(scaled[:, row], z[:, row] * factors[:, pair])


def test_radial_perceptron_and_extra_scalars():
    """With multipliers: the same as scaling first; extra scalars are the first rows of the m = 0 matrix."""
    conv = SO2Conv(2, 2, 3, 4, extra_scalars=5, radial_channels=6).double()
    plain = SO2Conv(2, 2, 3, 4, extra_scalars=5).double()
    plain.load_state_dict({k: v for k, v in conv.state_dict().items() if not k.startswith("radial")})
    z, a = torch.randn(7, 9, 3, dtype=F64), torch.randn(7, 6, dtype=F64)
    y, extra = conv(z, a)
    scaled = join_m(scale_m(split_m(z, 2, 2), conv.radial(a)))
    for first, second in zip((y, extra), plain(scaled), strict=True):
        torch.testing.assert_close(first, second)
    torch.testing.assert_close(extra, scaled[:, :3].flatten(1) @ conv.weights[0][:5].T + conv.bias[:5])


def test_variance_is_kept():
    conv = SO2Conv(3, 3, 16, 16, radial_channels=32)
    with torch.no_grad():
        y = conv(torch.randn(500, 16, 16), torch.randn(500, 32))
    assert 0.7 < y.square().mean() < 1.4


def test_derivatives():
    conv = SO2Conv(2, 1, 2, 2, extra_scalars=1, radial_channels=3).double()
    z, a = torch.randn(3, 7, 2, dtype=F64, requires_grad=True), torch.randn(3, 3, dtype=F64, requires_grad=True)
    assert gradcheck(conv, (z, a), fast_mode=True)
    assert gradgradcheck(conv, (z, a), fast_mode=True)


def test_no_edges():
    y, extra = SO2Conv(2, 1, 3, 4, extra_scalars=2, radial_channels=5)(torch.zeros(0, 7, 3), torch.zeros(0, 5))
    assert y.shape == (0, 7, 4) and extra.shape == (0, 2)


def test_compiles():
    torch.compiler.reset()
    conv = SO2Conv(2, 2, 3, 4, radial_channels=5).double()
    z, a = torch.randn(7, 9, 3, dtype=F64), torch.randn(7, 5, dtype=F64)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, a), conv(z, a))


def test_wrong_shapes_are_named():
    conv = SO2Conv(2, 1, 3, 4, radial_channels=5)
    with pytest.raises(ShapeError, match=r"z: got shape \(2, 9, 3\), expected \[E, 7, 3\]"):
        conv(torch.zeros(2, 9, 3), torch.zeros(2, 5))
    with pytest.raises(ShapeError, match="a: got None"):
        conv(torch.zeros(2, 7, 3))
    with pytest.raises(ShapeError, match="mmax"):
        SO2Conv(2, 3, 3, 4)
