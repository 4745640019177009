import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, explain, segment_outer, use
from geoattn.kernels.segment_outer import matrix_rows, outer_rows

F64 = torch.float64
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-4}, F64: {"rtol": 1e-11, "atol": 1e-11}}
SIZES = [(1, 1), (3, 7), (4, 16), (9, 100), (33, 5), (0, 3), (3, 0)]


def inputs(edges, sizes, dtype=F64):
    return [torch.randn(edges, size, dtype=dtype) for size in sizes]


def edge_by_edge(u, t, edge_index, num_targets):
    """Independent formula."""
    z = [u.new_zeros(u.shape[1], t.shape[1]) + 0 * u.sum() + 0 * t.sum() for _ in range(num_targets)]
    for edge, target in enumerate(edge_index[1].tolist()):
        z[target] = z[target] + torch.outer(u[edge], t[edge])
    return torch.stack(z) if z else u.new_zeros(0, u.shape[1], t.shape[1]) + 0 * u.sum() + 0 * t.sum()


def derivatives(function, leaves):
    """The output, all first gradients and all second ones."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    z = function(*leaves)
    slope = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view(z.shape)
    grads = torch.autograd.grad((z + z.square() / 2).mul(slope).sum(), leaves, create_graph=True)
    bend = sum((torch.linspace(-1, 2, g.numel(), dtype=g.dtype).view(g.shape) * g).sum() for g in grads)
    return z, *grads, *torch.autograd.grad(bend, leaves)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[a.dtype])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_edge_by_edge(graph, implementation):
    nbr, leaves = graph.neighborhood(), inputs(graph.num_edges, (3, 7))
    with use(implementation):
        found = derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)
    ends = (graph.edge_index, graph.num_targets)
    assert_same(found, derivatives(lambda u, t: edge_by_edge(u, t, *ends), leaves))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("sizes", SIZES)
def test_numba_equals_reference(graph, sizes, dtype):
    nbr, leaves = graph.neighborhood(), inputs(graph.num_edges, sizes, dtype)
    leaves = [leaf / 8 for leaf in leaves]  # sums over a hub stay of order one
    found = derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)
    assert {choice.operation: choice.ran for choice in explain()}["segment_outer"] == "numba"
    with use("reference"):
        assert_same(found, derivatives(lambda u, t: segment_outer(u, t, nbr), leaves))


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 40), st.integers(1, 12), st.integers(1, 40))
def test_any_sizes(nodes, edges, height, width):
    edge_index, leaves = torch.randint(nodes, (2, edges)), inputs(edges, (height, width))
    nbr = Neighborhood.from_edge_index(edge_index, nodes)
    found = derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)
    assert_same(found, derivatives(lambda u, t: edge_by_edge(u, t, edge_index, nodes), leaves))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_derivatives(small_graph, implementation):
    nbr = small_graph.neighborhood()
    leaves = [leaf.requires_grad_() for leaf in inputs(small_graph.num_edges, (2, 3))]

    def curved(u, t):
        return segment_outer(u, t, nbr).square()

    def slope(*leaves):
        return torch.autograd.grad(curved(*leaves).sum(), leaves, create_graph=True)

    with use(implementation):
        assert torch.autograd.gradcheck(curved, leaves)
        assert torch.autograd.gradgradcheck(curved, leaves)
        assert torch.autograd.gradgradcheck(slope, leaves)


def test_no_gradient_that_nobody_asked_for(small_graph):
    nbr, (u, t) = small_graph.neighborhood(), inputs(small_graph.num_edges, (2, 3))
    for leaf, transposed in ((u, False), (t, True)):
        z = segment_outer(*(x.detach().requires_grad_(x is leaf) for x in (u, t)), nbr)
        with torch.profiler.profile(record_shapes=True) as profile:
            z.sum().backward()
        calls = [event for event in profile.events() if event.name == "geoattn::matrix_rows"]
        shapes = {tuple(shape) for event in calls for shape in event.input_shapes if len(shape) == 2}
        assert shapes == {tuple((u if transposed else t).shape)}


def test_no_matrix_per_edge():
    """The largest block of memory of forward, backward and its backward is a node's, not an edge's."""
    nodes, edges = 20, 2000
    nbr = Neighborhood.from_edge_index(torch.randint(nodes, (2, edges)), nodes)
    leaves = inputs(edges, (16, 32), torch.float32)
    derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)  # compiles
    for implementation, edge_sized in (("numba", False), ("reference", True)):
        with use(implementation), torch.profiler.profile(profile_memory=True) as profile:
            derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)
        largest = max(event.self_cpu_memory_usage for event in profile.events())
        assert (largest >= edges * 16 * 32 * 4) is edge_sized


def test_non_contiguous_inputs(small_graph):
    nbr, leaves = small_graph.neighborhood(), inputs(small_graph.num_edges, (5, 7))
    turned = [leaf.T.contiguous().T for leaf in leaves]
    expected = derivatives(lambda u, t: segment_outer(u, t, nbr), leaves)
    assert_same(derivatives(lambda u, t: segment_outer(u, t, nbr), turned), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_is_accumulated_in_float32(dtype):
    nbr = Neighborhood.from_edge_index(torch.zeros(2, 500, dtype=torch.int64), 1)
    u, t = torch.rand(500, 2, dtype=dtype), torch.rand(500, 3, dtype=dtype)
    z = segment_outer(u, t, nbr)
    assert z.dtype == dtype
    torch.testing.assert_close(z[0], (u.float().T @ t.float()).to(dtype))


def test_dtypes_are_promoted_and_gradients_come_back_in_them(small_graph):
    nbr, (u, t) = small_graph.neighborhood(), inputs(small_graph.num_edges, (2, 3))
    u, t = u.bfloat16().requires_grad_(), t.requires_grad_()
    z = segment_outer(u, t, nbr)
    z.sum().backward()
    assert (z.dtype, u.grad.dtype, t.grad.dtype) == (F64, torch.bfloat16, F64)
    with torch.autocast("cpu", torch.bfloat16):
        assert segment_outer(u.float(), t.bfloat16(), nbr).dtype == torch.float32


def test_opcheck(small_graph):
    nbr = small_graph.neighborhood()
    u, t = (leaf.requires_grad_() for leaf in inputs(small_graph.num_edges, (2, 3)))
    z = torch.randn(small_graph.num_targets, 2, 3, dtype=F64, requires_grad=True)
    opcheck(outer_rows, (u, t, nbr.row_ptr, nbr.edge_id))
    opcheck(matrix_rows, (z, t, False, nbr.row_ptr, nbr.edge_id))
    opcheck(matrix_rows, (z, u, True, nbr.row_ptr, nbr.edge_id))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(dynamic):
    def loss(u, t, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, 5)
        return segment_outer(u, t, nbr).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for edges in (20, 30):
        leaves = [leaf.requires_grad_() for leaf in inputs(edges, (2, 3))]
        edge_index = torch.randint(5, (2, edges))
        found = torch.autograd.grad(compiled(*leaves, edge_index), leaves)
        assert_same(found, torch.autograd.grad(loss(*leaves, edge_index), leaves))


def test_wrong_arguments(small_graph):
    nbr = small_graph.neighborhood()  # 6 edges
    with pytest.raises(ShapeError, match=r"u: got shape \(5, 2\), expected \[E, \.\.\.\] with E = 6"):
        segment_outer(torch.randn(5, 2), torch.randn(6, 2), nbr)
    with pytest.raises(ShapeError, match=r"t: got shape \(6, 2, 1\), expected \[E, number\]"):
        segment_outer(torch.randn(6, 2), torch.randn(6, 2, 1), nbr)
    with pytest.raises(ShapeError, match=r"t: got dtype torch.int64, expected a floating-point dtype"):
        segment_outer(torch.randn(6, 2), torch.zeros(6, 2, dtype=torch.int64), nbr)
