import pytest
import torch
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, segment_reduce, use
from geoattn.kernels.segment_reduce import segment_extremum, segment_extremum_backward, segment_spread, segment_sum

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-13}}
REDUCTIONS = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin}


def dense(x, graph, reduce):
    """Independent formula: torch's reduction, target by target."""
    rows = [x[graph.edge_index[1] == target] for target in range(graph.num_targets)]
    rows = [REDUCTIONS[reduce](row, 0) if len(row) else 0 * x.sum(0) for row in rows]
    return torch.stack(rows) if rows else 0 * x.sum(0, keepdim=True)[:0]


def output_and_gradient(function, x, weight):
    x = x.detach().requires_grad_()
    y = function(x)
    return y, *torch.autograd.grad((y * weight).sum(), x)


def values(*shape, dtype=torch.float64):
    """Random numbers many of which are equal."""
    return (torch.randn(*shape, dtype=dtype) * 2).round() / 2


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_dense_formula(graph, reduce, shape, implementation):
    x, weight = values(graph.num_edges, *shape), torch.randn(graph.num_targets, *shape, dtype=torch.float64)
    nbr = graph.neighborhood()
    with use(implementation):
        found = output_and_gradient(lambda x: segment_reduce(x, nbr, reduce), x, weight)
    expected = output_and_gradient(lambda x: dense(x, graph, reduce), x, weight)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", [0, 1, 8, 63, 100])  # scalar remainders and whole vectors
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_numba_equals_reference(graph, reduce, channels, dtype):
    x, weight = values(graph.num_edges, channels, dtype=dtype), torch.randn(graph.num_targets, channels, dtype=dtype)
    nbr = graph.neighborhood()
    found = output_and_gradient(lambda x: segment_reduce(x, nbr, reduce), x, weight)
    with use("reference"):
        expected = output_and_gradient(lambda x: segment_reduce(x, nbr, reduce), x, weight)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_derivatives(small_graph, reduce, implementation):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_edges, 2, dtype=torch.float64, requires_grad=True)

    def curved(x):  # with second and third derivatives that are not zero
        return segment_reduce(x**3, nbr, reduce).square()

    def slope(x):
        return torch.autograd.grad(curved(x).sum(), x, create_graph=True)

    with use(implementation):
        assert torch.autograd.gradcheck(curved, x)
        assert torch.autograd.gradgradcheck(curved, x)
        assert torch.autograd.gradgradcheck(slope, x)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("reduce", ["max", "min"])
def test_tied_edges_share_the_gradient(reduce, implementation, create_graph):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0] * 5, [0, 0, 0, 0, 1]]), 2, 1)
    x = torch.tensor([0.1, 0.1, 7.0 if reduce == "min" else -7.0, 0.1, 0.1], requires_grad=True)
    with use(implementation):
        y = segment_reduce(x, nbr, reduce)
        (gradient,) = torch.autograd.grad(y, x, torch.tensor([3.0, 1.0]), create_graph=create_graph)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 1, 0, 1, 1]))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("reduce", ["max", "min"])
def test_an_extremum_is_one_of_the_values_to_the_bit(reduce, implementation):
    """Also where so many edges attain it that their average is not."""
    target = torch.arange(20).repeat_interleave(torch.arange(1, 21))
    x = torch.randn(20, 10)
    with use(implementation):
        y = segment_reduce(x[target], Neighborhood.from_edge_index(torch.stack([target, target]), 20), reduce)
    assert torch.equal(y, x)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("reduce", ["max", "min"])
def test_infinities_are_values(reduce, implementation):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0] * 4, [0, 0, 1, 1]]), 3, 1)
    infinity = torch.inf if reduce == "max" else -torch.inf
    x = torch.tensor([-infinity, -infinity, infinity, 1.0], requires_grad=True)
    with use(implementation):
        y = segment_reduce(x, nbr, reduce)
        (gradient,) = torch.autograd.grad(y, x, torch.tensor([1.0, 2.0, 4.0]))
    assert y.tolist() == [-infinity, infinity, 0]
    assert gradient.tolist() == [0.5, 0.5, 2, 0]


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_nan_stays_in_its_target(reduce, implementation):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0] * 5, [0, 0, 0, 1, 1]]), 2, 1)
    for place in range(3):
        x = torch.ones(5)
        x[place] = torch.nan
        with use(implementation):
            y = segment_reduce(x, nbr, reduce)
        assert y[0].isnan() and not y[1].isnan()


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_shuffled_edges_change_nothing(reduce):
    source, target = torch.randint(9, (2, 200))
    weight, order = torch.randn(9, 3, dtype=torch.float64), torch.randperm(200)
    x = values(200, 3)
    edge_index = torch.stack([source, target])
    nbr, shuffled = (Neighborhood.from_edge_index(edges, 9) for edges in (edge_index, edge_index[:, order]))
    y, gradient = output_and_gradient(lambda x: segment_reduce(x, nbr, reduce), x, weight)
    y2, gradient2 = output_and_gradient(lambda x: segment_reduce(x, shuffled, reduce), x[order], weight)
    torch.testing.assert_close(y2, y, **TOLERANCE[torch.float64])
    torch.testing.assert_close(gradient2, gradient[order], **TOLERANCE[torch.float64])


def test_non_contiguous_input(small_graph):
    nbr = small_graph.neighborhood()
    x = torch.randn(4, small_graph.num_edges, dtype=torch.float64)
    torch.testing.assert_close(segment_reduce(x.T, nbr), segment_reduce(x.T.contiguous(), nbr))
    expanded = torch.randn(small_graph.num_edges, 1).expand(-1, 3)
    torch.testing.assert_close(segment_reduce(expanded, nbr), segment_reduce(expanded.contiguous(), nbr))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_16_bit_is_accumulated_in_float32(dtype, reduce):
    nbr = Neighborhood.from_edge_index(torch.stack([torch.zeros(500, dtype=torch.int64)] * 2), 1)
    x = torch.rand(500, 3, dtype=dtype)
    y = segment_reduce(x, nbr, reduce)
    assert y.dtype == dtype
    torch.testing.assert_close(y[0], REDUCTIONS[reduce](x.float(), 0).to(dtype))


def test_autocast(small_graph):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_edges, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = segment_reduce(x, nbr)
    assert y.dtype == torch.float32
    y.square().sum().backward()
    assert x.grad.dtype == torch.bfloat16


def test_opcheck(graph):
    nbr = graph.neighborhood()
    x, grad = values(graph.num_edges, 3, dtype=torch.float32), torch.randn(graph.num_targets, 3)
    for flag in (False, True):
        opcheck(segment_sum, (x.requires_grad_(), nbr.row_ptr, nbr.edge_id, flag))
        opcheck(segment_spread, (grad.requires_grad_(), nbr.row_ptr, nbr.edge_id, flag))
        opcheck(segment_extremum, (x, nbr.row_ptr, nbr.edge_id, flag))
    y = segment_extremum(x, nbr.row_ptr, nbr.edge_id, True).detach()
    opcheck(segment_extremum_backward, (grad.detach(), x.detach(), y, nbr.row_ptr, nbr.edge_id))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_compiles_without_a_graph_break(small_graph, reduce):
    def loss(x, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, small_graph.num_targets, small_graph.num_sources)
        return segment_reduce(x, nbr, reduce).square().sum()

    x = torch.randn(small_graph.num_edges, 2, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x, small_graph.edge_index), x)
    (expected,) = torch.autograd.grad(loss(x, small_graph.edge_index), x)
    torch.testing.assert_close(found, expected)


def test_wrong_arguments(small_graph):
    nbr = small_graph.neighborhood()
    with pytest.raises(ShapeError, match=r"x: got shape \(5, 2\), expected \[E, \.\.\.\] with E = 6"):
        segment_reduce(torch.randn(5, 2), nbr)
    with pytest.raises(ShapeError, match="reduce: got 'maximum', expected 'sum', .*Did you mean 'max'"):
        segment_reduce(torch.randn(6), nbr, "maximum")
    with pytest.raises(ShapeError, match="a floating-point dtype"):
        segment_reduce(torch.arange(6), nbr)
