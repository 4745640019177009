import numpy as np
import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import interpolate, use

PTR = torch.tensor([0, 0, 2, 40, 41])
PTR_TARGET = torch.tensor([0, 3, 8, 30, 33])
"""A graph without sources, one of two and one of a single one."""


@pytest.fixture(params=["reference", "auto"])
def implementation(request):
    with use(request.param):
        yield request.param


def by_hand(features, source, target, k, ptr, ptr_target):
    """Independent formula: float64, target by target."""
    out = np.zeros((len(target), features.shape[1]))
    for graph in range(len(ptr) - 1):
        rows = np.arange(ptr[graph], ptr[graph + 1])
        for i in range(ptr_target[graph], ptr_target[graph + 1]) if len(rows) else ():
            d2 = np.sum((source[rows] - target[i]) ** 2, axis=1)
            near = np.argsort(d2, kind="stable")[:k]
            if d2[near[0]] == 0:
                out[i] = features[rows[near[d2[near] == 0]]].mean(0)
            else:
                out[i] = np.average(features[rows[near]], axis=0, weights=1 / d2[near])
    return out


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("k", [1, 3, 60])
def test_equals_the_formula_on_ragged_batches(implementation, dim, k):
    features, source, target = torch.randn(41, 5), torch.rand(41, dim), torch.rand(33, dim)
    target[5:12] = source[1:8]  # hits, two of them in graphs of their own
    found = interpolate(features, source, target, k, ptr_source=PTR, ptr_target=PTR_TARGET)
    expected = by_hand(*(t.double().numpy() for t in (features, source, target)), k, PTR.tolist(), PTR_TARGET.tolist())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (found[:3] == 0).all()  # no source in their graph
    assert torch.equal(found[30:], features[40:].expand(3, 5))  # one source


def test_hits_are_exact_and_see_nothing_else(implementation):
    source = torch.rand(50, 3)
    features = torch.randn(50, 4)
    assert torch.equal(interpolate(features, source, source), features)
    spoiled = features.clone()
    spoiled[1:] = torch.nan
    assert torch.equal(interpolate(spoiled, source, source[:1]), features[:1])


def test_coincident_sources_share(implementation):
    source = torch.tensor([[0.0, 0], [0, 0], [1, 0]])
    features = torch.tensor([[2.0], [4.0], [100.0]])
    assert interpolate(features, source, torch.zeros(1, 2)).item() == 3
    found = interpolate(features, source, torch.tensor([[0.5, 0.0]])).item()
    assert found == pytest.approx(106 / 3)


def test_distances_whose_inverse_overflows_and_squares_that_overflow(implementation):
    source, features = torch.tensor([[0.0], [3.0], [9.0]]), torch.tensor([[1.0], [2.0], [5.0]])
    assert interpolate(features, source * 1e-21, torch.tensor([[1e-21]]), 2).item() == pytest.approx(1.2, rel=1e-2)
    assert interpolate(features, source * 1e30, torch.tensor([[1e30]]), 2).item() == pytest.approx(1.5)


def test_affine_properties(implementation):
    """Weights sum to 1; a linear function is met at the centre of a regular simplex; scale and shift change nothing."""
    source, target, features = torch.rand(60, 3), torch.rand(20, 3), torch.randn(60, 2)
    found = interpolate(features, source, target)
    torch.testing.assert_close(interpolate(features * 3 + 7, source, target), found * 3 + 7)
    torch.testing.assert_close(interpolate(features, source * 5 + 1, target * 5 + 1), found, rtol=1e-3, atol=1e-3)
    assert (interpolate(torch.ones(60, 1), source, target) - 1).abs().max() < 1e-6
    simplex = torch.eye(3)
    linear = simplex @ torch.tensor([[1.0], [-2.0], [4.0]]) + 5
    assert interpolate(linear, simplex, torch.full((1, 3), 1 / 3)).item() == pytest.approx(6)


def test_permuting_the_sources_changes_nothing(implementation):
    source, target, features = torch.rand(60, 3), torch.rand(20, 3), torch.randn(60, 2)
    order = torch.randperm(60)
    found = interpolate(features[order], source[order], target)
    assert torch.equal(found, interpolate(features, source, target))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_gradients_of_features(implementation):
    source, target = torch.rand(41, 3).double(), torch.rand(33, 3).double()
    target[5:9] = source[1:5]
    features = torch.randn(41, 2, dtype=torch.float64, requires_grad=True)

    def function(features):
        return interpolate(features, source, target, ptr_source=PTR, ptr_target=PTR_TARGET)

    with use(implementation):
        torch.autograd.gradcheck(function, features)
        torch.autograd.gradgradcheck(lambda f: function(f) ** 2, features)


def test_no_sources_no_targets_and_no_channels(implementation):
    none = torch.zeros(0, 3)
    assert torch.equal(interpolate(torch.zeros(0, 4), none, torch.rand(5, 3)), torch.zeros(5, 4))
    assert interpolate(torch.rand(5, 4), torch.rand(5, 3), none).shape == (0, 4)
    assert interpolate(torch.rand(5, 0), torch.rand(5, 3), torch.rand(2, 3)).shape == (2, 0)


def test_dtypes(implementation):
    source, target, features = torch.rand(60, 3), torch.rand(20, 3), torch.randn(60, 2)
    expected = interpolate(features, source, target)
    for dtype, tolerance in [(torch.float64, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)]:
        found = interpolate(features.to(dtype), source, target)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    assert interpolate(features, source.double(), target.double()).dtype == torch.float32


def test_compiles_without_a_graph_break():
    source, target = torch.rand(41, 3), torch.rand(33, 3)

    def function(features):
        return interpolate(features * 2, source, target, ptr_source=PTR, ptr_target=PTR_TARGET)

    features = torch.randn(41, 2, requires_grad=True)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), function(features))
    compiled(features).sum().backward()


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda f, x: interpolate(f[1:], x, x), "features"),
        (lambda f, x: interpolate(f[:, 0], x, x), "features"),
        (lambda f, x: interpolate(f.long(), x, x), "features"),
        (lambda f, x: interpolate([1.0], x, x), "features"),
        (lambda f, x: interpolate(f, x[0], x), "pos_source"),
        (lambda f, x: interpolate(f, x / 0, x), "pos_source"),
        (lambda f, x: interpolate(f, x, x / 0), "pos_target"),
        (lambda f, x: interpolate(f, x, x[:, :2]), "pos_target"),
        (lambda f, x: interpolate(f, x, x, 0), "k"),
        (lambda f, x: interpolate(f, x, x, ptr_source=torch.tensor([0, 10])), "ptr_target"),
        (lambda f, x: interpolate(f, x, x, ptr_target=torch.tensor([0, 10])), "ptr_source"),
        (lambda f, x: interpolate(f, x, x, ptr_source=torch.tensor([0, 9]), ptr_target=torch.tensor([0, 10])),
         "ptr_source"),
        (lambda f, x: interpolate(f, x, x, ptr_source=torch.tensor([0, 10]), ptr_target=torch.tensor([0, 5, 10])),
         "ptr_target"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_named(call, argument):
    with pytest.raises(ShapeError, match=rf"^{argument}: "):
        call(torch.rand(10, 2), torch.rand(10, 3))


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    tensors = torch.randn(41, 5), torch.rand(41, 3), torch.rand(33, 3)
    expected = interpolate(*tensors, ptr_source=PTR, ptr_target=PTR_TARGET)
    found = interpolate(*(t.cuda() for t in tensors), ptr_source=PTR.cuda(), ptr_target=PTR_TARGET.cuda())
    torch.testing.assert_close(found.cpu(), expected)
