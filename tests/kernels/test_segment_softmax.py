import pytest
import torch
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, segment_softmax, use
from geoattn.kernels.segment_softmax import softmax_rows, softmax_rows_backward

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-13}}


def dense(x, graph):
    """Independent formula: torch's softmax, target by target."""
    out = 0 * x
    for target in range(graph.num_targets):
        edges = (graph.edge_index[1] == target).nonzero().flatten()
        out = out.index_copy(0, edges, x[edges].softmax(0))
    return out


def output_and_gradient(function, x, weight):
    x = x.detach().requires_grad_()
    y = function(x)
    return y, *torch.autograd.grad((y * weight).sum(), x)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_dense_formula(graph, shape, implementation):
    x, weight = torch.randn(2, graph.num_edges, *shape, dtype=torch.float64) * 5
    nbr = graph.neighborhood()
    with use(implementation):
        found = output_and_gradient(lambda x: segment_softmax(x, nbr), x, weight)
    expected = output_and_gradient(lambda x: dense(x, graph), x, weight)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", [0, 1, 8, 63, 100])  # scalar remainders and whole vectors
def test_numba_equals_reference(graph, channels, dtype):
    x, weight = torch.randn(2, graph.num_edges, channels, dtype=dtype) * 5
    nbr = graph.neighborhood()
    found = output_and_gradient(lambda x: segment_softmax(x, nbr), x, weight)
    with use("reference"):
        expected = output_and_gradient(lambda x: segment_softmax(x, nbr), x, weight)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[dtype])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_first_and_second_derivatives(small_graph, implementation):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_edges, 2, dtype=torch.float64, requires_grad=True)
    with use(implementation):
        assert torch.autograd.gradcheck(lambda x: segment_softmax(x, nbr), x)
        assert torch.autograd.gradgradcheck(lambda x: segment_softmax(x, nbr), x)


def test_third_derivative(small_graph):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_edges, 2, dtype=torch.float64, requires_grad=True)

    def first(x):
        return torch.autograd.grad(segment_softmax(x, nbr).square().sum(), x, create_graph=True)

    assert torch.autograd.gradgradcheck(first, x)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_minus_infinity_masks(implementation):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1]]), 2, 1)
    x = torch.tensor([-torch.inf, -torch.inf, 3.0, -torch.inf], requires_grad=True)
    with use(implementation):
        y = segment_softmax(x, nbr)
        (gradient,) = torch.autograd.grad((y * torch.arange(4.0)).sum(), x)
    assert y.tolist() == [0, 0, 1, 0]
    assert gradient.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_stable_for_large_logits_and_nan_stays_in_its_target(implementation):
    nbr = Neighborhood.from_edge_index(torch.tensor([[0] * 6, [0, 0, 1, 1, 2, 2]]), 3, 1)
    x = torch.tensor([1e30, -1e30, 1000.0, 1000.0, torch.nan, 1.0])
    with use(implementation):
        y = segment_softmax(x, nbr)
    assert y[:4].tolist() == [1, 0, 0.5, 0.5]
    assert y[4:].isnan().all()


def test_shuffled_edges_change_nothing():
    source, target = torch.randint(9, (2, 200))
    x, order = torch.randn(200, 3, dtype=torch.float64), torch.randperm(200)
    y = segment_softmax(x, Neighborhood.from_edge_index(torch.stack([source, target]), 9))
    shuffled = segment_softmax(x[order], Neighborhood.from_edge_index(torch.stack([source, target])[:, order], 9))
    torch.testing.assert_close(shuffled, y[order], **TOLERANCE[torch.float64])


def test_non_contiguous_input(small_graph):
    nbr = small_graph.neighborhood()
    x = torch.randn(4, small_graph.num_edges, dtype=torch.float64)
    torch.testing.assert_close(segment_softmax(x.T, nbr), segment_softmax(x.T.contiguous(), nbr))
    expanded = torch.randn(small_graph.num_edges, 1).expand(-1, 3)
    torch.testing.assert_close(segment_softmax(expanded, nbr), segment_softmax(expanded.contiguous(), nbr))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_is_computed_in_float32(dtype):
    nbr = Neighborhood.from_edge_index(torch.stack([torch.zeros(500, dtype=torch.int64)] * 2), 1)
    x = torch.randn(500, 3, dtype=dtype)
    y = segment_softmax(x, nbr)
    assert y.dtype == dtype
    torch.testing.assert_close(y, x.float().softmax(0).to(dtype), rtol=0, atol=0)


def test_autocast(small_graph):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_edges, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = segment_softmax(x, nbr)
    assert y.dtype == torch.float32
    y.square().sum().backward()
    assert x.grad.dtype == torch.bfloat16


def test_opcheck(graph):
    nbr = graph.neighborhood()
    x, grad = torch.randn(2, graph.num_edges, 3)
    opcheck(softmax_rows, (x.requires_grad_(), nbr.row_ptr, nbr.edge_id))
    opcheck(softmax_rows_backward, (grad, x.detach(), nbr.row_ptr, nbr.edge_id))


def test_compiles_without_a_graph_break(small_graph):
    def loss(x, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, small_graph.num_targets, small_graph.num_sources)
        return (segment_softmax(x, nbr) * torch.arange(len(x))[:, None]).sum()

    x = torch.randn(small_graph.num_edges, 2, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x, small_graph.edge_index), x)
    (expected,) = torch.autograd.grad(loss(x, small_graph.edge_index), x)
    torch.testing.assert_close(found, expected)


def test_wrong_arguments(small_graph):
    nbr = small_graph.neighborhood()
    with pytest.raises(ShapeError, match=r"x: got shape \(5, 2\), expected \[E, \.\.\.\] with E = 6"):
        segment_softmax(torch.randn(5, 2), nbr)
    with pytest.raises(ShapeError, match=r"x: got shape \(\), expected"):
        segment_softmax(torch.tensor(1.0), nbr)
    with pytest.raises(ShapeError, match=r"dtype torch.int64, expected a floating-point dtype. Call .float\(\)"):
        segment_softmax(torch.arange(6), nbr)
    with pytest.raises(ShapeError, match="device meta, expected cpu, where the edges are"):
        segment_softmax(torch.randn(6, device="meta"), nbr)
