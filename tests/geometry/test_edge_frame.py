import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.edge_frame import EdgeFrame, m_major, m_sizes
from geoattn.geometry.edges import safe_unit
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.wigner import rotation_to_y, wigner_d
from geoattn.kernels import Neighborhood
from geoattn.testing import random_orthogonal

AXES = torch.cat([torch.eye(3), -torch.eye(3)]).double()
POLAR = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
NEAR_POLES = torch.tensor([[1e-9, 1, 0], [0, -1, 1e-9], [3e-10, -1, -4e-10]], dtype=torch.float64)


def units(num):
    return torch.cat([AXES, NEAR_POLES, safe_unit(torch.randn(num, 3, dtype=torch.float64))])


class RollEquivariant:
    """A map in the edge frame that commutes with rolls: complex numbers per order m, gated by a scalar (m = 0)."""

    def __init__(self, lmax, mmax):
        self.sizes = m_sizes(lmax, mmax)
        self.real = [torch.randn(size, size, dtype=torch.float64) for size in self.sizes]
        self.imaginary = [torch.randn(size, size, dtype=torch.float64) for size in self.sizes]

    def __call__(self, z):
        zero, *others = z.split([self.sizes[0]] + [size for size in self.sizes[1:] for _ in range(2)], dim=1)
        out = [self.real[0] @ zero]
        for m, (plus, minus) in enumerate(zip(others[::2], others[1::2], strict=True), start=1):
            out += [
                self.real[m] @ plus - self.imaginary[m] @ minus,
                self.real[m] @ minus + self.imaginary[m] @ plus,
            ]
        return torch.cat(out, dim=1) * torch.sigmoid(zero[:, :1])


def roll(angle):
    """Rotation about y."""
    c, s, o = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([c, o, s, o, o + 1, o, -s, o, c], -1).unflatten(-1, (3, 3))


def test_orders():
    assert m_sizes(6, 2) == [7, 6, 5] and m_sizes(0, 0) == [1]
    assert m_major(2, 2) == [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, -1), (2, -1), (2, 2), (2, -2)]
    assert sorted(m_major(3, 3)) == [(degree, m) for degree in range(4) for m in range(-degree, degree + 1)]
    for mmax in (-1, 3):
        with pytest.raises(ShapeError, match=r"^mmax: .*lmax = 2"):
            m_sizes(2, mmax)


@pytest.mark.parametrize("lmax, mmax", [(0, 0), (1, 0), (3, 3), (4, 2)])
def test_rotation_is_the_wigner_matrix_in_m_major_order(lmax, mmax):
    unit = units(5)
    matrices = wigner_d(rotation_to_y(unit), lmax)
    rotation = EdgeFrame.build(unit, lmax, mmax).rotation
    for row, (degree, m) in enumerate(m_major(lmax, mmax)):
        expected = torch.zeros(len(unit), (lmax + 1) ** 2, dtype=torch.float64)
        expected[:, degree**2 : (degree + 1) ** 2] = matrices[degree][:, degree + m]
        torch.testing.assert_close(rotation[:, row], expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_harmonics_of_the_edge_become_those_of_the_pole(dtype, tolerance):
    unit = units(1000)
    frame = EdgeFrame.build(unit.to(dtype), lmax=8, mmax=8)
    turned = frame.rotate(spherical_harmonics(unit.to(dtype), 8).unsqueeze(-1))[..., 0]
    pole = spherical_harmonics(POLAR.to(dtype), 8)
    expected = torch.stack([pole[degree * (degree + 1) + m] for degree, m in m_major(8, 8)])
    assert turned.dtype == dtype
    torch.testing.assert_close(turned, expected.expand_as(turned), atol=tolerance, rtol=0)
    assert (expected != 0).sum() == 9


def test_order_zero_is_the_product_with_the_harmonics():
    unit, x = units(20), torch.randn(29, 16, 3, dtype=torch.float64)
    z = EdgeFrame.build(unit, 3, 0).rotate(x)
    Y = spherical_harmonics(unit, 3, "norm")
    for degree in range(4):
        place = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close(z[:, degree], torch.einsum("em,emc->ec", Y[:, place], x[:, place]))


def test_there_and_back():
    unit, x = units(20), torch.randn(29, 25, 3, dtype=torch.float64)
    full, cut = EdgeFrame.build(unit, 4, 4), EdgeFrame.build(unit, 4, 2)
    torch.testing.assert_close(full.rotate_back(full.rotate(x)), x)
    z = cut.rotate(x)
    torch.testing.assert_close(z, full.rotate(x)[:, : z.shape[1]])
    torch.testing.assert_close(cut.rotate(cut.rotate_back(z)), z)


@pytest.mark.parametrize("mmax", [3, 1])
def test_result_does_not_depend_on_the_roll_and_is_equivariant(mmax):
    """Also with rows left out. A map that mixes orders depends on the roll: the test can tell."""
    unit, x = units(40), torch.randn(49, 16, 2, dtype=torch.float64)
    frame, convolve = EdgeFrame.build(unit, 3, mmax), RollEquivariant(3, mmax)
    size = len(m_major(3, mmax))
    rows = [degree * (degree + 1) + m for degree, m in m_major(3, mmax)]
    turned = roll(torch.rand(49, dtype=torch.float64) * 6) @ rotation_to_y(unit)
    rolled = EdgeFrame(block_diagonal(wigner_d(turned, 3))[:, rows], 3, mmax)
    through = lambda frame, f: frame.rotate_back(f(frame.rotate(x)))
    torch.testing.assert_close(through(rolled, convolve), through(frame, convolve))
    mixing = lambda z: torch.roll(z, 1, dims=1)
    assert (through(rolled, mixing) - through(frame, mixing)).abs().max() > 0.1

    R = random_orthogonal(3)
    D = block_diagonal(wigner_d(R, 3))
    other = EdgeFrame.build(safe_unit(unit @ R.T), 3, mmax)
    actual = other.rotate_back(convolve(other.rotate(D @ x)))
    torch.testing.assert_close(actual, D @ through(frame, convolve))
    assert frame.rotation.shape == (49, size, 16)


def block_diagonal(matrices):
    out = matrices[0].new_zeros(*matrices[0].shape[:-2], len(matrices) ** 2, len(matrices) ** 2)
    for degree, D in enumerate(matrices):
        place = slice(degree**2, (degree + 1) ** 2)
        out[..., place, place] = D
    return out


@pytest.mark.parametrize("mmax", [2, 1])
def test_derivatives_of_an_energy(mmax):
    """One point in the middle, neighbours along every axis, near a pole and on top of it: where angles break."""
    around = torch.cat([1.3 * AXES, 1.1 * NEAR_POLES[1:2], torch.tensor([[0.4, 0.2, -0.7], [0, 0, 0]]).double()])
    pos = torch.cat([torch.zeros(1, 3).double(), around]).requires_grad_()
    num = len(around)
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(1, num + 1), torch.zeros(num, dtype=torch.long)]), 10)
    x, convolve = torch.randn(num, 9, 1, dtype=torch.float64), RollEquivariant(2, mmax)

    def energy(pos):
        basis = EdgeBasis.build(pos, nbr, cutoff=2.0)
        frame = basis.frame(2, mmax)
        message = frame.rotate_back(convolve(frame.rotate(x)))
        return (message[..., 0] * basis.weight[:, None]).sum(0).pow(2).sum()

    (force,) = torch.autograd.grad(energy(pos), pos, create_graph=True)
    (second,) = torch.autograd.grad(force.pow(2).sum(), pos)
    assert torch.isfinite(force).all() and torch.isfinite(second).all()
    assert not force[-1].any()  # the coincident point feels nothing
    # finite differences would step off the coincident point, where the energy jumps: leave it out of them
    apart = pos.detach()[:-1].requires_grad_()
    assert gradcheck(lambda p: energy(torch.cat([p, p[:1]])), apart)
    assert gradgradcheck(lambda p: energy(torch.cat([p, p[:1]])), apart, fast_mode=True)


def test_no_edges_and_zero_length():
    frame = EdgeFrame.build(torch.empty(0, 3), 3, 2)
    assert frame.rotate(torch.empty(0, 16, 5)).shape == (0, 14, 5)
    assert frame.rotate_back(torch.empty(0, 14, 5)).shape == (0, 16, 5)
    x = torch.randn(1, 16, 2)
    frame = EdgeFrame.build(torch.zeros(1, 3), 3, 3)
    rows = [degree * (degree + 1) + m for degree, m in m_major(3, 3)]
    torch.testing.assert_close(frame.rotate(x), x[:, rows])


def test_full_precision_under_autocast():
    frame = EdgeFrame.build(units(20).float(), 3, 3)
    x = torch.randn(29, 16, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = frame.rotate(x)
    assert z.dtype == torch.float32 and torch.equal(z, frame.rotate(x.float()))


def test_arguments_that_do_not_fit_are_named():
    frame = EdgeFrame.build(torch.rand(4, 3), 2, 1)
    with pytest.raises(ShapeError, match=r"^x: got shape \(4, 7, 5\), expected \[E = 4, 9, C\]"):
        frame.rotate(torch.randn(4, 7, 5))
    with pytest.raises(ShapeError, match=r"^z: .*\[E = 4, 7, C\]"):
        frame.rotate_back(torch.randn(4, 9, 5))
    with pytest.raises(ShapeError, match=r"^mmax"):
        EdgeFrame.build(torch.rand(4, 3), 2, 3)
    with pytest.raises(ShapeError, match=r"^unit: got shape \(3,\)"):
        EdgeFrame.build(torch.rand(3), 2, 1)
