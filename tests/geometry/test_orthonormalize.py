"""`orthonormalize` beside scipy and numpy, its symmetry, its derivatives, and vectors that determine nothing."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation

from geoattn.errors import ShapeError
from geoattn.geometry import orthonormalize
from geoattn.testing import random_orthogonal

F64 = torch.float64
METHODS = ["svd", "gram_schmidt"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_orthogonal_and_equivariant(method, special, dim):
    vectors = torch.randn(20, dim, dim, dtype=F64)
    q = orthonormalize(vectors, method, special=special)
    torch.testing.assert_close(q.mT @ q, torch.eye(dim, dtype=F64).expand_as(q), atol=1e-13, rtol=0)
    signs = torch.linalg.det(q).round()
    assert torch.equal(signs, torch.ones(20, dtype=F64) if special else torch.linalg.det(vectors).sign())
    for determinant in (1,) if special else (1, -1):
        turn = random_orthogonal(dim, determinant)
        torch.testing.assert_close(
            orthonormalize(turn @ vectors, method, special=special), turn @ q, atol=1e-12, rtol=0
        )


def test_polar_factor_is_that_of_scipy():
    vectors = np.random.default_rng(0).normal(size=(3, 3))
    expected, _ = scipy.linalg.polar(vectors)
    ours = orthonormalize(torch.tensor(vectors), special=False)
    np.testing.assert_allclose(ours, expected, atol=1e-13)


@pytest.mark.parametrize("mirror", [1, -1])
def test_kabsch_is_that_of_scipy(mirror):
    """The rotation that best turns one cloud onto another is the special polar factor of their covariance."""
    generator = np.random.default_rng(1)
    there = generator.normal(size=(8, 3))
    here = there @ Rotation.random(rng=generator).as_matrix().T * [mirror, 1, 1] + 0.1 * generator.normal(size=(8, 3))
    expected, _ = Rotation.align_vectors(here, there)
    ours = orthonormalize(torch.tensor(here.T @ there))
    np.testing.assert_allclose(ours, expected.as_matrix(), atol=1e-12)


def test_gram_schmidt_is_qr():
    vectors = torch.randn(3, 3, dtype=F64)
    q, r = torch.linalg.qr(vectors)
    torch.testing.assert_close(orthonormalize(vectors, "gram_schmidt", special=False), q * r.diagonal().sign())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dim", [1, 2, 3, 4])
@pytest.mark.parametrize("special", [True, False])
def test_derivatives(method, dim, special):
    vectors = torch.randn(2, dim, dim, dtype=F64, requires_grad=True)
    fn = lambda v: orthonormalize(v, method, special=special)
    assert torch.autograd.gradcheck(fn, vectors, atol=1e-6)
    assert torch.autograd.gradgradcheck(fn, vectors, atol=1e-5)


def test_equal_singular_values_need_no_guard():
    """At a rotation all singular values are 1, where the derivative of an SVD is infinite and that of Q is not."""
    vectors = random_orthogonal(3).requires_grad_()
    assert torch.autograd.gradcheck(orthonormalize, vectors, atol=1e-6)
    assert torch.autograd.gradgradcheck(orthonormalize, vectors, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", [0, 1])
def test_vectors_that_determine_nothing(method, rank):
    vectors = torch.randn(4, 3, rank, dtype=F64) @ torch.randn(4, rank, 3, dtype=F64)
    whole = torch.randn(1, 3, 3, dtype=F64)
    vectors = torch.cat([vectors, whole]).requires_grad_()
    q = orthonormalize(vectors, method)
    torch.testing.assert_close(q.mT @ q, torch.eye(3, dtype=F64).expand_as(q), atol=1e-12, rtol=0)
    (gradient,) = torch.autograd.grad((q * torch.randn(3, 3, dtype=F64)).sum(), vectors, create_graph=True)
    assert gradient[:4].abs().max() == 0
    assert gradient[4].abs().max() > 0
    (second,) = torch.autograd.grad(gradient.square().sum(), vectors)
    assert second.isfinite().all()


def test_two_vectors_are_enough_for_a_rotation():
    vectors = torch.randn(3, 3, dtype=F64)
    vectors[:, 2] = 0
    turn = random_orthogonal(3)
    torch.testing.assert_close(orthonormalize(turn @ vectors), turn @ orthonormalize(vectors), atol=1e-12, rtol=0)


def test_nearly_parallel_vectors_do_not_multiply_noise_in_the_polar_factor():
    vectors = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1e-4, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    noise = 1e-7 * torch.randn(100, 3, 3, dtype=F64)
    moved = {}
    for method in METHODS:
        difference = orthonormalize(vectors + noise, method) - orthonormalize(vectors, method)
        moved[method] = (difference.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)).mean()
    assert moved["svd"] < 2
    assert moved["gram_schmidt"] > 100 * moved["svd"]


def test_half_precision_and_refusals():
    vectors = torch.randn(3, 3)
    half = orthonormalize(vectors.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), orthonormalize(vectors.bfloat16().float()), atol=1e-2, rtol=0)
    with pytest.raises(ShapeError, match=r"\[..., D, D\]"):
        orthonormalize(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="gram_schmidt"):
        orthonormalize(vectors, "qr")
