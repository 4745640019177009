import gc
import pickle
import weakref

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood, gather_scatter, segment_reduce


def edges_into(graph, target):
    """Places in ``edge_index`` of the edges into a target, in the caller's order."""
    return [edge for edge, end in enumerate(graph.edge_index[1].tolist()) if end == target]


def test_rows_hold_the_edges_of_each_target_in_the_callers_order(graph):
    nbr = graph.neighborhood()
    assert (nbr.num_targets, nbr.num_sources, nbr.num_edges) == (*graph[1:], graph.num_edges)
    assert nbr.row_ptr.shape == (graph.num_targets + 1,)
    for target in range(graph.num_targets):
        row = slice(nbr.row_ptr[target], nbr.row_ptr[target + 1])
        expected = edges_into(graph, target)
        assert nbr.edge_id[row].tolist() == expected
        assert nbr.source[row].tolist() == graph.edge_index[0, expected].tolist()
        assert nbr.target[row].tolist() == [target] * len(expected)
        assert nbr.degree[target] == len(expected)


def test_by_source(graph):
    nbr = graph.neighborhood()
    assert nbr.source_ptr.shape == (graph.num_sources + 1,)
    assert sorted(nbr.source_order.tolist()) == list(range(graph.num_edges))
    for source in range(graph.num_sources):
        order = nbr.source_order[nbr.source_ptr[source] : nbr.source_ptr[source + 1]]
        assert order.tolist() == (nbr.source == source).nonzero().flatten().tolist()


def test_transposed_is_the_neighborhood_of_the_edges_turned_round(graph):
    turned = graph.neighborhood().transposed
    assert torch.equal(turned.edge_index, graph.edge_index.flip(0))
    assert (turned.num_targets, turned.num_sources) == (graph.num_sources, graph.num_targets)
    assert torch.equal(turned.target, turned.target.sort().values)
    counts = torch.bincount(graph.edge_index[0], minlength=graph.num_sources)
    assert turned.degree.tolist() == counts.tolist()


def test_orders_go_forth_and_back(graph):
    nbr = graph.neighborhood()
    values = torch.randn(graph.num_edges, 2)
    assert torch.equal(nbr.edge_index, graph.edge_index)
    assert torch.equal(nbr.to_csr_order(values), values[nbr.edge_id])
    assert torch.equal(nbr.to_caller_order(nbr.to_csr_order(values)), values)
    assert torch.equal(nbr.to_csr_order(nbr.to_caller_order(values)), values)


def test_in_csr_order(graph):
    nbr = graph.neighborhood()
    csr = nbr.in_csr_order()
    values = torch.randn(graph.num_edges, 2)
    assert csr.edge_id.tolist() == list(range(graph.num_edges))
    assert torch.equal(csr.edge_index, torch.stack([nbr.source, nbr.target]))
    assert csr.to_csr_order(values) is values and csr.to_caller_order(values) is values
    assert csr.in_csr_order() is csr and nbr.in_csr_order() is csr
    torch.testing.assert_close(segment_reduce(nbr.to_csr_order(values), csr, "max"), segment_reduce(values, nbr, "max"))
    assert torch.equal(csr.source_order, nbr.source_order)


def test_with_edges_as_sources(graph):
    nbr = graph.neighborhood()
    values = torch.randn(graph.num_edges, 2, requires_grad=True)
    weight = torch.randn(graph.num_edges, requires_grad=True)
    found = gather_scatter(nbr.to_csr_order(values), nbr.to_csr_order(weight), nbr.with_edges_as_sources())
    expected = segment_reduce(values * weight[:, None], nbr, "sum")
    torch.testing.assert_close(found, expected)
    slope = torch.randn(graph.num_targets, 2)
    for a, b in zip(
        *(torch.autograd.grad((y * slope).sum(), (values, weight)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_sorted_edges_are_the_callers_no_more():
    edge_index = torch.tensor([[1, 0, 1], [0, 1, 1]])
    nbr = Neighborhood.from_edge_index(edge_index, 2)
    edge_index.zero_()
    assert nbr.edge_index.tolist() == [[1, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_other_integers(graph, dtype):
    nbr, expected = Neighborhood.from_edge_index(graph.edge_index.to(dtype), *graph[1:]), graph.neighborhood()
    for name in ("row_ptr", "source", "target", "edge_id", "source_ptr", "source_order"):
        assert getattr(nbr, name).dtype == torch.int64
        assert torch.equal(getattr(nbr, name), getattr(expected, name))


def test_non_contiguous_edge_index(graph):
    nbr = Neighborhood.from_edge_index(graph.edge_index.T.contiguous().T, *graph[1:])
    assert torch.equal(nbr.edge_index, graph.edge_index)
    assert nbr.source.is_contiguous() and nbr.target.is_contiguous()


@pytest.mark.parametrize(
    ("edge_index", "message"),
    [
        (torch.zeros(3, 5, dtype=torch.int64), r"edge_index: got shape \(3, 5\), expected \[2, E\], row 0 = source"),
        (torch.zeros(5, 2, dtype=torch.int64), r"shape \(5, 2\).*Transpose it\?"),
        (torch.zeros(2, dtype=torch.int64), r"shape \(2,\)"),
        (torch.zeros(2, 3), r"dtype torch.float32, expected an integer dtype. Call .long\(\)"),
        (torch.zeros(2, 3, dtype=torch.bool), r"dtype torch.bool, expected an integer dtype"),
        (torch.tensor([[0, 3], [0, 1]]), r"edge_index\[0\] \(source\): got values 0..3, expected 0..2"),
        (torch.tensor([[0, -1], [0, 1]]), r"edge_index\[0\] \(source\): got values -1..0, expected 0..2"),
        (torch.tensor([[0, 1], [0, 2]]), r"edge_index\[1\] \(target\): got values 0..2, expected 0..1"),
        (torch.tensor([[0, 1], [-1, 1]]), r"edge_index\[1\] \(target\): got values -1..1.*Is num_targets"),
    ],
)
def test_wrong_edge_index(edge_index, message):
    with pytest.raises(ShapeError, match=message):
        Neighborhood.from_edge_index(edge_index, num_targets=2, num_sources=3)


def test_as_neighborhood():
    edge_index = torch.tensor([[0, 2], [1, 0]])
    nbr = as_neighborhood(edge_index, 2, 3)
    assert (nbr.num_targets, nbr.num_sources) == (2, 3)
    assert as_neighborhood(nbr, 2, 3) is nbr
    with pytest.raises(ShapeError, match="a Neighborhood of 2 targets and 3 sources, expected 3 targets and 3 sources"):
        as_neighborhood(nbr, 3)


def test_to_device_keeps_the_order(graph):
    nbr = graph.neighborhood()
    for original in (nbr, nbr.in_csr_order()):
        moved = original.to("meta")
        assert moved.device == torch.device("meta")
        assert (moved.num_targets, moved.num_sources, moved.num_edges) == (*graph[1:], graph.num_edges)
        copy = original.to("cpu")
        assert torch.equal(copy.edge_index, original.edge_index)
    values = torch.randn(graph.num_edges)
    assert copy.to_csr_order(values) is values


def test_pickles(graph):
    nbr = pickle.loads(pickle.dumps(graph.neighborhood()))
    assert torch.equal(nbr.edge_index, graph.edge_index)
    assert torch.equal(nbr.transposed.edge_index, graph.edge_index.flip(0))


def test_memory_is_freed_without_the_garbage_collector():
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 1, 1], [1, 0, 1]]), 2)
    nbr.in_csr_order().transposed.with_edges_as_sources()
    source = weakref.ref(nbr.source)
    gc.disable()
    try:
        del nbr
        assert source() is None
    finally:
        gc.enable()


def test_repr():
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 4], [1, 0]]), 2, 5)
    assert repr(nbr) == "Neighborhood(num_targets=2, num_sources=5, num_edges=2, device='cpu')"


@pytest.mark.parametrize("dynamic", [False, True])
def test_is_built_and_used_in_a_compiled_function(dynamic):
    def loss(x, weight, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, x.shape[0])
        csr = nbr.in_csr_order()
        ends = segment_reduce(x[csr.target] * x[csr.source], csr, "mean")
        turned = gather_scatter(x, nbr.to_caller_order(nbr.to_csr_order(weight)), nbr.transposed)
        per_edge = gather_scatter(x[csr.source], None, nbr.with_edges_as_sources())
        return (ends * gather_scatter(x, weight, nbr) + turned * per_edge * nbr.degree[:, None]).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for edges in (12, 25):
        x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(edges, dtype=torch.float64, requires_grad=True)
        edge_index = torch.randint(7, (2, edges))
        found = torch.autograd.grad(compiled(x, weight, edge_index), (x, weight))
        expected = torch.autograd.grad(loss(x, weight, edge_index), (x, weight))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_a_compiled_function_takes_one_as_argument():
    nbr = Neighborhood.from_edge_index(torch.randint(7, (2, 12)), 7)
    x = torch.randn(7, 3, requires_grad=True)

    def loss(x, nbr):
        return gather_scatter(x, None, nbr).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x, nbr), x)
    torch.testing.assert_close(found, *torch.autograd.grad(loss(x, nbr), x))
