import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.geometry.edges import (
    bessel_basis,
    center,
    edge_vectors,
    gaussian_basis,
    polynomial_envelope,
    safe_norm,
    safe_unit,
)
from geoattn.kernels import Neighborhood

CUTOFF = 2.5
LENGTHS = torch.tensor([0.0, 1e-6, 1e-3, 0.15, 0.4, 1.0, 2.0, 2.4999, 2.5, 2.6, 7.0], dtype=torch.float64)


def random_edges(num_targets=6, num_sources=6, num_edges=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(num_sources, (num_edges,), generator=generator)
    target = torch.randint(num_targets, (num_edges,), generator=generator)
    return torch.stack([source, target])


# edge_vectors


def test_edge_vectors_are_source_minus_target_plus_shift_in_csr_order():
    edge_index = random_edges(num_targets=4, num_sources=7)
    pos, pos_target = torch.randn(7, 3), torch.randn(4, 3)
    shift = torch.randn(25, 3)
    nbr = Neighborhood.from_edge_index(edge_index, 4, 7)
    vectors = edge_vectors(pos, nbr, shift, pos_target=pos_target)
    expected = torch.stack([pos[j] - pos_target[i] + shift[e] for e, (j, i) in enumerate(edge_index.T.tolist())])
    torch.testing.assert_close(nbr.to_caller_order(vectors), expected)
    assert not torch.equal(vectors, expected)  # the caller's order differs here, so the test can tell


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_edge_vectors_gradients(dim):
    nbr = Neighborhood.from_edge_index(random_edges(), 6)
    pos = torch.randn(6, dim, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(25, dim, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda pos, shift: edge_vectors(pos, nbr, shift), (pos, shift))


def test_edge_vectors_without_edges_and_without_nodes():
    nbr = Neighborhood.from_edge_index(torch.empty(2, 0, dtype=torch.long), 3)
    assert edge_vectors(torch.randn(3, 2), nbr).shape == (0, 2)
    nbr = Neighborhood.from_edge_index(torch.empty(2, 0, dtype=torch.long), 0)
    assert edge_vectors(torch.randn(0, 2), nbr, torch.randn(0, 2)).shape == (0, 2)


def test_edge_vectors_name_the_argument_that_does_not_fit():
    nbr = Neighborhood.from_edge_index(random_edges(num_targets=4, num_sources=7), 4, 7)
    with pytest.raises(ShapeError, match=r"^pos: .*\(6, 3\).*\[7, D\]"):
        edge_vectors(torch.randn(6, 3), nbr, pos_target=torch.randn(4, 3))
    with pytest.raises(ShapeError, match=r"^pos: .*targets"):  # bipartite, and no positions for the targets
        edge_vectors(torch.randn(7, 3), nbr)
    with pytest.raises(ShapeError, match=r"^shift"):
        edge_vectors(torch.randn(7, 3), nbr, torch.randn(24, 3), pos_target=torch.randn(4, 3))


# safe_norm


def test_safe_norm_equals_the_norm():
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(safe_norm(x), x.norm(dim=-1))
    torch.testing.assert_close(safe_norm(x, dim=1, keepdim=True), x.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [0.0, 1e-40, 1e-14, 4e-13, 6e-13, 1e-6, 1.0])
def test_safe_norm_has_finite_first_and_second_derivatives(length, dtype):
    x = (torch.tensor([0.6, 0.0, 0.8], dtype=dtype) * length).requires_grad_()
    (first,) = torch.autograd.grad(safe_norm(x), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert first.isfinite().all() and second.isfinite().all()
    if length == 0:
        assert first.eq(0).all() and second.eq(0).all()
    elif dtype == torch.float64 and length > 1e-14:
        torch.testing.assert_close(first, x / length)


def test_safe_norm_gradchecks():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(safe_norm, x) and gradgradcheck(safe_norm, x)


def test_safe_norm_keeps_nan_and_the_dtype():
    assert safe_norm(torch.tensor([math.nan, 1.0])).isnan()
    half = torch.tensor([300.0, 400.0], dtype=torch.float16)  # the square overflows float16
    assert safe_norm(half).dtype == torch.float16 and safe_norm(half).item() == 500.0


# safe_unit


def test_safe_unit_equals_the_normalised_vector():
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(safe_unit(x), torch.nn.functional.normalize(x, dim=-1))
    assert torch.equal(safe_unit(x, safe_norm(x)), safe_unit(x))
    assert safe_unit(torch.randn(2, 3).bfloat16()).dtype == torch.bfloat16
    assert safe_unit(torch.tensor([[float("nan"), 1.0]])).isnan().all()


@pytest.mark.parametrize("length", [0.0, 1e-40, 1e-14, 1e-12, 1e-9])
def test_safe_unit_has_finite_first_and_second_derivatives(length):
    """A vector that safe_norm counts as zero has no direction, and feels nothing."""
    x = torch.tensor([[0.6 * length, 0.0, -0.8 * length]], requires_grad=True)
    unit = safe_unit(x)
    (first,) = torch.autograd.grad(unit[:, 0].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x)
    assert first.isfinite().all() and second.isfinite().all()
    zero = bool(safe_norm(x) == 0)
    assert zero == (length < 5e-13)
    assert bool(unit.any()) != zero and bool(first.any()) != zero and bool(second.any()) != zero


def test_safe_unit_gradchecks():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(safe_unit, x) and gradgradcheck(safe_unit, x)


# polynomial_envelope


@pytest.mark.parametrize("p", [2, 3, 6, 9])
def test_envelope_equals_the_published_polynomial(p):
    u = torch.linspace(0, 1, 50, dtype=torch.float64)
    expected = 1 - (p + 1) * (p + 2) / 2 * u**p + p * (p + 2) * u ** (p + 1) - p * (p + 1) / 2 * u ** (p + 2)
    torch.testing.assert_close(polynomial_envelope(u * CUTOFF, CUTOFF, p), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("p", [2, 6])
def test_envelope_and_two_derivatives_vanish_at_the_cutoff_and_beyond(p):
    for d in (CUTOFF, CUTOFF * (1 - 1e-7), CUTOFF + 1.0, 1e30):
        d = torch.tensor(d, dtype=torch.float64, requires_grad=True)
        value = polynomial_envelope(d, CUTOFF, p)
        (first,) = torch.autograd.grad(value, d, create_graph=True)
        (second,) = torch.autograd.grad(first, d)
        assert abs(value.item()) < 1e-17 and abs(first.item()) < 1e-10 and abs(second.item()) < 1e-4
    values = polynomial_envelope(torch.linspace(0, 3, 1001), CUTOFF, p)  # float32
    assert values.min() >= 0 and values.max() == pytest.approx(1, abs=1e-6)
    assert (values.diff() <= 1e-6).all()


def test_envelope_gradchecks():
    d = LENGTHS.clone().requires_grad_()
    assert gradcheck(lambda d: polynomial_envelope(d, CUTOFF), d)
    assert gradgradcheck(lambda d: polynomial_envelope(d, CUTOFF), d)


# radial bases


def test_gaussian_basis_equals_its_formula():
    values = gaussian_basis(LENGTHS, 0.5, 2.0, 4)
    for k, mu in enumerate([0.5, 1.0, 1.5, 2.0]):
        torch.testing.assert_close(values[:, k], torch.exp(-((LENGTHS - mu) ** 2) / (2 * 0.5**2)))
    assert gaussian_basis(torch.ones(2, 3), 0.0, 5.0, 7).shape == (2, 3, 7)


def test_bessel_basis_equals_its_formula_and_limit():
    values = bessel_basis(LENGTHS, CUTOFF, 3)
    for n in (1, 2, 3):
        expected = math.sqrt(2 / CUTOFF) * torch.sin(n * math.pi * LENGTHS[1:] / CUTOFF) / LENGTHS[1:]
        torch.testing.assert_close(values[1:, n - 1], expected, rtol=1e-12, atol=1e-14)
        assert values[0, n - 1].item() == pytest.approx(math.sqrt(2 / CUTOFF) * n * math.pi / CUTOFF)


def test_bessel_basis_is_orthonormal_on_the_ball():
    d = torch.linspace(0, CUTOFF, 20001, dtype=torch.float64)
    values = bessel_basis(d, CUTOFF, 5)
    gram = torch.trapezoid(values[:, :, None] * values[:, None] * d[:, None, None] ** 2, d, dim=0)
    torch.testing.assert_close(gram, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)


def test_bessel_basis_has_the_right_second_derivative_at_zero_also_in_float32():
    d = torch.tensor([0.0, 1e-6], requires_grad=True)
    (first,) = torch.autograd.grad(bessel_basis(d, CUTOFF, 1).sum(), d, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), d)
    expected = -math.sqrt(2 / CUTOFF) * (math.pi / CUTOFF) ** 3 / 3  # sin(x)/x = 1 - x^2/6 + ...
    torch.testing.assert_close(second, torch.full((2,), expected))


@pytest.mark.parametrize(
    "basis",
    [lambda d: gaussian_basis(d, 0.0, CUTOFF, 5), lambda d: bessel_basis(d, CUTOFF, 5)],
    ids=["gauss", "bessel"],
)
def test_basis_gradchecks(basis):
    d = LENGTHS.clone().requires_grad_()
    assert gradcheck(basis, d) and gradgradcheck(basis, d)


def test_energy_of_coincident_points_has_finite_forces_and_force_gradients():
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=torch.float64, requires_grad=True)
    edge_index = torch.tensor([[0, 1, 2, 0, 1, 1], [1, 0, 0, 2, 2, 1]])  # coincident pair and a self loop
    nbr = Neighborhood.from_edge_index(edge_index, 3)
    d = safe_norm(edge_vectors(pos, nbr))
    energy = (bessel_basis(d, CUTOFF, 4) * polynomial_envelope(d, CUTOFF).unsqueeze(-1)).square().sum()
    (force,) = torch.autograd.grad(energy, pos, create_graph=True)
    (second,) = torch.autograd.grad(force.square().sum(), pos)
    assert force.isfinite().all() and second.isfinite().all() and second.abs().max() > 0


# center


def test_center_subtracts_each_graphs_mean():
    pos, batch = torch.randn(7, 3, dtype=torch.float64), torch.tensor([2, 0, 0, 2, 2, 0, 3])  # graph 1 is empty
    centred = center(pos, batch, 4)
    for graph in (0, 2, 3):
        mine = batch == graph
        torch.testing.assert_close(centred[mine], pos[mine] - pos[mine].mean(0))
    assert center(pos[:0], batch[:0], 2).shape == (0, 3)


def test_center_keeps_float32_digits_far_from_the_origin():
    pos, batch = torch.rand(2000, 3) + 1e5, torch.zeros(2000, dtype=torch.long)
    centred = center(pos, batch, 1)
    exact = pos.double() - pos.double().mean(0)
    torch.testing.assert_close(centred.double(), exact, rtol=0, atol=1e-6)


def test_center_gradcheck():
    batch = torch.tensor([0, 0, 1, 0])
    pos = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda pos: center(pos, batch, 2), pos)


def test_center_names_a_batch_of_the_wrong_shape():
    with pytest.raises(ShapeError, match=r"^batch"):
        center(torch.randn(4, 3), torch.zeros(3, dtype=torch.long), 1)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda d: polynomial_envelope(d, 0.0), "cutoff"),
        (lambda d: polynomial_envelope(d, 1.0, p=1), "p"),
        (lambda d: gaussian_basis(d, 0.0, 1.0, 1), "num"),
        (lambda d: gaussian_basis(d, 1.0, 1.0, 4), "stop"),
        (lambda d: bessel_basis(d, -1.0, 4), "cutoff"),
        (lambda d: bessel_basis(d, 1.0, 0), "num"),
    ],
)
def test_impossible_options_are_named(call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.ones(3))


def test_everything_compiles_without_graph_breaks():
    nbr = Neighborhood.from_edge_index(random_edges(), 6)
    batch = torch.tensor([0, 0, 0, 1, 1, 1])

    def energy(pos):
        d = safe_norm(edge_vectors(center(pos, batch, 2), nbr))
        basis = torch.cat([bessel_basis(d, CUTOFF, 4), gaussian_basis(d, 0.0, CUTOFF, 4)], 1)
        return (basis * polynomial_envelope(d, CUTOFF).unsqueeze(1)).sum()

    pos = torch.randn(6, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(energy(pos), pos)
    (compiled,) = torch.autograd.grad(torch.compile(energy, fullgraph=True, backend="aot_eager")(pos), pos)
    torch.testing.assert_close(compiled, expected)
