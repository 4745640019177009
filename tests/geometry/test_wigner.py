import math

import pytest
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.edges import safe_unit
from geoattn.geometry.harmonics import spherical_harmonics
from geoattn.geometry.wigner import rotation_to_y, wigner_d, wigner_rows
from geoattn.testing import random_orthogonal

AXES = torch.cat([torch.eye(3), -torch.eye(3)]).double()
POLAR = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
NEAR_POLES = torch.tensor([[1e-9, 1, 0], [0, -1, 1e-9], [3e-10, -1, -4e-10], [1e-5, -1, 0]], dtype=torch.float64)


def rotations(num, dtype=torch.float64):
    return torch.stack([random_orthogonal(3) for _ in range(num)]).to(dtype)


def half_and_quarter_turns():
    """All 24 rotations of the cube: entries 0 and 1, where angles are ambiguous."""
    one = torch.eye(3).double()
    signed = [torch.diag(torch.tensor(s).double()) for s in [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]]
    cycles = [one, one[[1, 2, 0]], one[[2, 0, 1]]]
    swap = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]).double()
    return torch.stack([s @ c @ p for s in signed for c in cycles for p in (one, swap)])


# wigner_d


def test_equals_e3nn():
    """e3nn's own matrices are exact in float64 only while that is the default dtype, and end at degree 11."""
    alpha, beta, gamma = torch.rand(3, 50, dtype=torch.float64) * 2 * math.pi
    torch.set_default_dtype(torch.float64)
    try:
        R = o3.angles_to_matrix(alpha, beta, gamma)
        expected = [o3.wigner_D(degree, alpha, beta, gamma) for degree in range(9)]
    finally:
        torch.set_default_dtype(torch.float32)
    for D, reference in zip(wigner_d(R, 8), expected, strict=True):
        torch.testing.assert_close(D, reference, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_representation_up_to_the_highest_degree(dtype, tolerance):
    R1, R2 = rotations(30), torch.cat([half_and_quarter_turns(), rotations(6)])
    u = safe_unit(torch.randn(30, 3, dtype=torch.float64))
    Y, turned = (spherical_harmonics(v, 12, "norm") for v in (u, (R1 @ u[:, :, None])[:, :, 0]))
    first, second, both = (wigner_d(R.to(dtype), 12) for R in (R1, R2, R1 @ R2))
    torch.testing.assert_close(first[1], R1.to(dtype), atol=0, rtol=0)
    for degree in range(13):
        A, B, AB = (D[degree].double() for D in (first, second, both))
        assert first[degree].dtype == dtype and A.shape == (30, 2 * degree + 1, 2 * degree + 1)
        close = lambda actual, expected: torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
        close(A @ B, AB)
        close(A @ A.mT, torch.eye(2 * degree + 1).double().expand_as(A))
        place = slice(degree**2, (degree + 1) ** 2)
        close((A @ Y[:, place, None])[:, :, 0], turned[:, place])


def test_identity():
    for degree, D in enumerate(wigner_d(torch.eye(3).double(), 8)):
        torch.testing.assert_close(D, torch.eye(2 * degree + 1).double(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("mmax", [0, 1, 2, 5, 7])
def test_rows(mmax):
    R = rotations(4)
    for degree, (rows, D) in enumerate(zip(wigner_rows(R, 5, mmax), wigner_d(R, 5), strict=True)):
        order = min(degree, mmax)
        torch.testing.assert_close(rows, D[:, degree - order : degree + order + 1], atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", [(), (2, 3), (0,), (2, 0)])
def test_shapes(shape):
    R = rotations(6).expand(*shape, 6, 3, 3)[..., 0, :, :]
    for degree, D in enumerate(wigner_d(R, 3)):
        assert D.shape == (*shape, 2 * degree + 1, 2 * degree + 1)
    assert wigner_d(R, 0)[0].shape == (*shape, 1, 1)


def test_derivatives():
    skew = lambda v: torch.linalg.cross(torch.eye(3).double(), v.expand(3, 3))
    entries = lambda v: wigner_d(torch.linalg.matrix_exp(skew(v)), 3)[3]
    v = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64, requires_grad=True)
    assert gradcheck(entries, v)
    assert gradgradcheck(lambda v: entries(v).pow(3).sum(), v)
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(entries, zero)


def test_full_precision_under_autocast():
    R = rotations(5, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrices = wigner_d(R, 4)
    for D, expected in zip(matrices, wigner_d(R, 4), strict=True):
        assert torch.equal(D, expected)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match=r"^rotation: got shape \(3,\)"):
        wigner_d(torch.randn(3), 2)
    with pytest.raises(ShapeError, match=r"^lmax: got -1"):
        wigner_d(torch.eye(3), -1)
    with pytest.raises(ShapeError, match=r"^mmax: got -1"):
        wigner_rows(torch.eye(3), 2, -1)


# rotation_to_y


def assert_turns_to_the_pole(u, tolerance=1e-15):
    R = rotation_to_y(u)
    close = lambda actual, expected: torch.testing.assert_close(actual, expected, atol=8 * tolerance, rtol=0)
    close((R @ u[:, :, None])[:, :, 0], POLAR.to(u.dtype).expand_as(u))
    close(R @ R.mT, torch.eye(3).to(u.dtype).expand_as(R))
    close(torch.linalg.det(R), torch.ones_like(u[:, 0]))


def test_rotation_to_y():
    u = torch.cat([AXES, safe_unit(NEAR_POLES), safe_unit(torch.randn(1000, 3).double())])
    assert_turns_to_the_pole(u)
    assert_turns_to_the_pole(safe_unit(u.float()), 1e-7)
    torch.testing.assert_close(rotation_to_y(POLAR), torch.eye(3).double(), atol=0, rtol=0)


@given(st.tuples(*[st.floats(-1, 1)] * 3))
@settings(max_examples=40)
def test_rotation_to_y_of_any_vector(vector):
    """Zeros of both signs and subnormal components too."""
    u = safe_unit(torch.tensor([vector], dtype=torch.float64))
    if u.any():
        assert_turns_to_the_pole(u)


def test_rotation_of_the_zero_vector_is_the_identity():
    u = torch.cat([torch.zeros(1, 3), -torch.zeros(1, 3), torch.rand(1, 3)])
    assert (rotation_to_y(u)[:2] == torch.eye(3)).all()
    assert rotation_to_y(torch.empty(0, 3)).shape == (0, 3, 3)


def test_rotation_to_y_has_smooth_charts():
    vectors = torch.cat([AXES[[1, 4]], NEAR_POLES, torch.tensor([[1.0, 0.1, -2], [0.7, -0.1, 0.2]]).double()])
    turn = lambda v: rotation_to_y(safe_unit(v))
    assert gradcheck(turn, vectors.requires_grad_())
    assert gradgradcheck(lambda v: turn(v).pow(3).sum((-1, -2)), vectors)


def test_rotation_to_y_names_the_argument_that_does_not_fit():
    with pytest.raises(ShapeError, match=r"^unit: got shape \(2, 4\)"):
        rotation_to_y(torch.randn(2, 4))
