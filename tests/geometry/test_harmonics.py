import math

import pytest
import torch
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.edges import safe_unit
from geoattn.geometry.harmonics import spherical_harmonics

AXES = torch.cat([torch.eye(3), -torch.eye(3)]).double()


def units(num, dtype=torch.float64):
    return safe_unit(torch.randn(num, 3, dtype=dtype))


# clebsch_gordan


def test_clebsch_gordan_anchors():
    """A later e3nn with other conventions fails here."""
    levi_civita = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i, j, k in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
        levi_civita[i, j, k], levi_civita[i, k, j] = 1, -1
    torch.testing.assert_close(clebsch_gordan(1, 1, 0)[:, :, 0] * 3**0.5, torch.eye(3).double(), atol=1e-15, rtol=0)
    torch.testing.assert_close(clebsch_gordan(1, 1, 1) * 6**0.5, levi_civita, atol=1e-15, rtol=0)


@pytest.mark.parametrize("l1, l2, l3", [(0, 0, 0), (1, 2, 3), (2, 2, 2), (3, 1, 2), (8, 8, 5)])
def test_clebsch_gordan_is_an_isometric_projection(l1, l2, l3):
    C = clebsch_gordan(l1, l2, l3)
    assert C.dtype == torch.float64 and C.shape == (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)
    gram = (2 * l3 + 1) * torch.einsum("abc,abd->cd", C, C)
    torch.testing.assert_close(gram, torch.eye(2 * l3 + 1).double(), atol=1e-13, rtol=0)


def test_clebsch_gordan_does_not_depend_on_the_mode_of_the_first_call():
    with torch.inference_mode(), torch.device("meta"):
        C = clebsch_gordan(2, 3, 4)
    assert C.device.type == "cpu" and not C.is_inference()


@pytest.mark.parametrize("degrees", [(1, 1, 3), (0, 1, 2), (-1, 0, 1)])
def test_clebsch_gordan_outside_the_triangle(degrees):
    with pytest.raises(ShapeError, match=r"^l1, l2, l3: got .*\|l1 - l2\| <= l3"):
        clebsch_gordan(*degrees)


# spherical_harmonics


@pytest.mark.parametrize("normalization", ["component", "norm", "integral"])
def test_harmonics_equal_e3nn(normalization):
    """e3nn stops at degree 11."""
    for vectors in (units(200), AXES, 1.5 * torch.randn(50, 3).double(), torch.zeros(1, 3).double()):
        lmax = 11 if vectors.norm(dim=-1).max() < 1.1 else 6  # homogeneous polynomials grow
        expected = o3.spherical_harmonics(list(range(lmax + 1)), vectors, False, normalization)
        actual = spherical_harmonics(vectors, lmax, normalization)
        torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


def test_harmonics_of_the_highest_degree_are_orthonormal():
    """Gauss-Legendre in y times equal steps in the angle integrates products of degree 24 exactly."""
    import numpy as np

    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(14))
    angle = torch.arange(26, dtype=torch.float64) * (2 * math.pi / 26)
    radius = (1 - nodes**2).sqrt()
    points = torch.stack(
        [radius[:, None] * angle.sin(), nodes[:, None].expand(-1, 26), radius[:, None] * angle.cos()], -1
    )
    Y = spherical_harmonics(points, 12, "integral")
    gram = torch.einsum("abi,a,abj->ij", Y, weights * (2 * math.pi / 26), Y)
    torch.testing.assert_close(gram, torch.eye(169).double(), atol=1e-13, rtol=0)


def test_harmonics_of_the_zero_vector():
    Y = spherical_harmonics(torch.zeros(2, 3), 12)
    assert torch.equal(Y, torch.eye(169)[:1].expand(2, -1))


def test_harmonics_in_float32_and_of_other_shapes():
    u = units(60)
    Y = spherical_harmonics(u.float(), 8)
    assert Y.dtype == torch.float32 and Y.is_contiguous()
    torch.testing.assert_close(Y.double(), spherical_harmonics(u.float().double(), 8), atol=1e-5, rtol=0)
    expected = spherical_harmonics(u, 3)
    torch.testing.assert_close(spherical_harmonics(u.view(3, 4, 5, 3), 3), expected.view(3, 4, 5, 16), rtol=0, atol=0)
    torch.testing.assert_close(spherical_harmonics(u[0], 3), expected[0], rtol=0, atol=0)
    assert spherical_harmonics(torch.empty(0, 3), 3).shape == (0, 16)
    assert torch.equal(spherical_harmonics(u, 0), torch.ones(60, 1).double())


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.integers(0, 12))
def test_addition_theorem(vector, lmax):
    """The harmonics of one degree have the same length everywhere, and the opposite point changes the odd ones."""
    u = safe_unit(torch.tensor(vector, dtype=torch.float64))
    if not u.any():
        u = AXES[0]
    Y, opposite = (spherical_harmonics(v, lmax, "norm").split([2 * k + 1 for k in range(lmax + 1)]) for v in (u, -u))
    for degree in range(lmax + 1):
        assert abs(float(Y[degree].square().sum()) - 1) < 1e-12
        assert torch.equal(opposite[degree], (-1) ** degree * Y[degree])


def test_derivatives_through_the_unit_vector():
    """At points on the axes too, where angles have none; and at zero length, where all are 0."""
    vectors = torch.cat([1.7 * AXES, torch.tensor([[0, -0.5, 1e-9], [0.3, -1.2, 0.8]]).double()]).requires_grad_()
    harmonics = lambda v: spherical_harmonics(safe_unit(v), 5)
    assert gradcheck(harmonics, vectors)
    assert gradgradcheck(lambda v: harmonics(v).pow(3).sum(-1), vectors)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(harmonics(zero).pow(3).sum() + harmonics(zero).sum(), zero, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), zero)
    assert not first.any() and not second.any()


def test_harmonics_compile():
    u = units(9).requires_grad_()
    compiled = torch.compile(lambda v: spherical_harmonics(v, 4), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(u), spherical_harmonics(u, 4))
    g, expected = (torch.autograd.grad(f(u).pow(3).sum(), u) for f in (compiled, lambda v: spherical_harmonics(v, 4)))
    torch.testing.assert_close(g, expected)


def test_harmonics_name_the_argument_that_does_not_fit():
    with pytest.raises(ShapeError, match=r"^unit: got shape \(4, 2\)"):
        spherical_harmonics(torch.randn(4, 2), 2)
    for lmax in (-1, 13):
        with pytest.raises(ShapeError, match=r"^lmax: .*0 to 12"):
            spherical_harmonics(units(1), lmax)
    with pytest.raises(ShapeError, match=r"^normalization: got 'unit'"):
        spherical_harmonics(units(1), 2, "unit")
