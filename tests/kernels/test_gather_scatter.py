import importlib

import pytest
import torch
from torch.library import opcheck

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, gather_scatter, use
from geoattn.kernels.gather_scatter import edge_dot, weighted_sum

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-4}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}
SHAPES = {  # trailing sizes of x and of weight
    "plain sum": ((7,), None),
    "plain sum of nothing": ((0,), None),
    "one number": ((), ()),
    "per edge": ((7,), ()),
    "per edge, wide": ((100,), ()),
    "per edge, matrices": ((2, 3), ()),
    "per head": ((4, 5), (4,)),
    "per head, wide": ((3, 63), (3,)),
    "per channel": ((63,), (63,)),
    "per channel of heads": ((2, 3), (2, 3)),
    "no channels": ((0,), ()),
    "no heads": ((0, 3), (0,)),
}


def inputs(graph, case, dtype):
    x_shape, weight_shape = SHAPES[case]
    x = torch.randn(graph.num_sources, *x_shape, dtype=dtype)
    weight = None if weight_shape is None else torch.randn(graph.num_edges, *weight_shape, dtype=dtype)
    return x, weight, torch.randn(graph.num_targets, *x_shape, dtype=dtype)


def dense(x, weight, graph):
    """Independent formula: edge by edge."""
    rows = [0 * x.sum(0)] * graph.num_targets
    for edge, (source, target) in enumerate(graph.edge_index.T.tolist()):
        factor = 1 if weight is None else weight[edge][(...,) + (None,) * (x.ndim - weight.ndim)]
        rows[target] = rows[target] + factor * x[source]
    return torch.stack(rows) if rows else 0 * x.sum(0, keepdim=True)[:0]


def output_and_gradients(function, x, weight, slope):
    leaves = [t.detach().requires_grad_() for t in (x, weight) if t is not None]
    y = function(*leaves) if weight is not None else function(leaves[0], None)
    found = torch.autograd.grad((y * slope).sum(), leaves, allow_unused=True)
    return y, *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, found, strict=True))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("case", SHAPES)
def test_dense_formula(graph, case, implementation):
    x, weight, slope = inputs(graph, case, torch.float64)
    nbr = graph.neighborhood()
    with use(implementation):
        found = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), x, weight, slope)
    expected = output_and_gradients(lambda x, w: dense(x, w, graph), x, weight, slope)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("case", SHAPES)
def test_numba_equals_reference_in_float32(graph, case):
    x, weight, slope = inputs(graph, case, torch.float32)
    nbr = graph.neighborhood()
    found = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), x, weight, slope)
    with use("reference"):
        expected = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), x, weight, slope)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float32])


@pytest.mark.parametrize("implementation", ["reference", "numba"])
@pytest.mark.parametrize("shapes", [((2,), None), ((2,), ()), ((2, 2), (2,)), ((2,), (2,))])
def test_derivatives(small_graph, shapes, implementation):
    nbr = small_graph.neighborhood()
    x = torch.randn(small_graph.num_sources, *shapes[0], dtype=torch.float64, requires_grad=True)
    arguments = [x]
    if shapes[1] is not None:
        arguments.append(torch.randn(small_graph.num_edges, *shapes[1], dtype=torch.float64, requires_grad=True))

    def curved(x, weight=None):
        return gather_scatter(x**2, weight, nbr).square()

    def slope(*arguments):
        return torch.autograd.grad(curved(*arguments).sum(), arguments, create_graph=True)

    with use(implementation):
        assert torch.autograd.gradcheck(curved, arguments)
        assert torch.autograd.gradgradcheck(curved, arguments)
        assert torch.autograd.gradgradcheck(slope, arguments)


def test_no_gradient_that_nobody_asked_for(small_graph, monkeypatch):
    module = importlib.import_module("geoattn.kernels.gather_scatter")
    x, weight, slope = inputs(small_graph, "per head", torch.float64)

    nbr = small_graph.neighborhood()
    gather_scatter(x, weight.requires_grad_(), nbr).backward(slope)
    assert nbr._transposed is None  # only the gradient of x needs the edges by source
    assert weight.grad is not None

    monkeypatch.setattr(module, "edge_dot", None)  # only the gradient of the weight calls it
    gather_scatter(x.requires_grad_(), weight.detach(), nbr).backward(slope)
    assert x.grad is not None

    with torch.no_grad():
        gather_scatter(x, weight, small_graph.neighborhood())


def test_no_edge_by_channel_tensor():
    """The largest block of memory of forward and backward is a node's, not an edge's."""
    nodes, edges, channels = 50, 5000, 64
    nbr = Neighborhood.from_edge_index(torch.randint(nodes, (2, edges)), nodes)
    x, weight = torch.randn(nodes, 4, channels, requires_grad=True), torch.randn(edges, 4, requires_grad=True)
    gather_scatter(x, weight, nbr).sum().backward()  # compiles
    for implementation, edge_sized in (("numba", False), ("reference", True)):
        with use(implementation), torch.profiler.profile(profile_memory=True) as profile:
            gather_scatter(x, weight, nbr).sum().backward()
        largest = max(event.self_cpu_memory_usage for event in profile.events())
        assert (largest >= edges * channels * 4) is edge_sized


def test_shuffled_edges_change_nothing():
    edge_index, order = torch.randint(9, (2, 200)), torch.randperm(200)
    x, weight = torch.randn(9, 3, 4, dtype=torch.float64), torch.randn(200, 3, dtype=torch.float64)
    slope = torch.randn(9, 3, 4, dtype=torch.float64)
    nbr, shuffled = (Neighborhood.from_edge_index(edges, 9) for edges in (edge_index, edge_index[:, order]))
    y, grad_x, grad_w = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), x, weight, slope)
    found = output_and_gradients(lambda x, w: gather_scatter(x, w, shuffled), x, weight[order], slope)
    for a, b in zip(found, (y, grad_x, grad_w[order]), strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float64])


def test_weight_one_is_the_plain_sum(graph):
    x, _, _ = inputs(graph, "plain sum", torch.float64)
    nbr = graph.neighborhood()
    torch.testing.assert_close(
        gather_scatter(x, None, nbr), gather_scatter(x, torch.ones(graph.num_edges, dtype=torch.float64), nbr)
    )


def test_non_contiguous_inputs(small_graph):
    nbr = small_graph.neighborhood()
    x, weight, slope = inputs(small_graph, "per head", torch.float64)
    expected = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), x, weight, slope)
    turned = x.transpose(1, 2).contiguous().transpose(1, 2), weight.T.contiguous().T
    slope = slope.transpose(1, 2).contiguous().transpose(1, 2)
    found = output_and_gradients(lambda x, w: gather_scatter(x, w, nbr), *turned, slope)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_is_accumulated_in_float32(dtype):
    nbr = Neighborhood.from_edge_index(torch.stack([torch.arange(500), torch.zeros(500, dtype=torch.int64)]), 1, 500)
    x, weight = torch.rand(500, 3, dtype=dtype), torch.rand(500, dtype=dtype)
    y = gather_scatter(x, weight, nbr)
    assert y.dtype == dtype
    torch.testing.assert_close(y[0], (x.float() * weight.float()[:, None]).sum(0).to(dtype))


def test_dtypes_are_promoted_and_gradients_come_back_in_them(small_graph):
    nbr = small_graph.neighborhood()
    x, weight, _ = inputs(small_graph, "per edge", torch.float32)
    x, weight = x.bfloat16().requires_grad_(), weight.double().requires_grad_()
    y = gather_scatter(x, weight, nbr)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, weight.grad.dtype) == (torch.float64, torch.bfloat16, torch.float64)


def test_autocast(small_graph):
    nbr = small_graph.neighborhood()
    x, weight, _ = inputs(small_graph, "per edge", torch.float32)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = gather_scatter(x, weight.bfloat16(), nbr)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("case", ["plain sum", "per edge", "per head", "per channel"])
def test_opcheck(small_graph, case):
    nbr = small_graph.neighborhood()
    x, weight, slope = inputs(small_graph, case, torch.float32)
    heads = 1 if weight is None else weight[0].numel()
    x, slope = x.view(len(x), heads, -1), slope.view(len(slope), heads, -1)
    back = nbr.transposed
    pointers = nbr.row_ptr, nbr.source, nbr.edge_id, back.row_ptr, back.source, back.edge_id
    factors = None if weight is None else weight.view(-1, heads).requires_grad_()
    opcheck(weighted_sum, (x.requires_grad_(), factors, *pointers))
    opcheck(edge_dot, (x, slope.requires_grad_(), *pointers))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_a_graph_break(small_graph, dynamic):
    def loss(x, weight, edge_index):
        nbr = Neighborhood.from_edge_index(edge_index, x.shape[0])
        return gather_scatter(x, weight, nbr).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for edges in (20, 30):
        edge_index = torch.randint(5, (2, edges))
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(edges, 2, dtype=torch.float64, requires_grad=True)
        found = torch.autograd.grad(compiled(x, weight, edge_index), (x, weight))
        expected = torch.autograd.grad(loss(x, weight, edge_index), (x, weight))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_wrong_arguments(small_graph):
    nbr = small_graph.neighborhood()  # 6 edges, 5 targets, 3 sources
    x = torch.randn(3, 4, 2)
    with pytest.raises(ShapeError, match=r"x: got shape \(5, 2\), expected \[Ns, \.\.\.\] with Ns = 3"):
        gather_scatter(torch.randn(5, 2), None, nbr)
    with pytest.raises(ShapeError, match=r"weight: got shape \(3,\), expected \[E, \.\.\.\] with E = 6"):
        gather_scatter(x, torch.randn(3), nbr)
    with pytest.raises(ShapeError, match=r"weight: got shape \(6, 2\), expected .* x has shape \(3, 4, 2\)"):
        gather_scatter(x, torch.randn(6, 2), nbr)
    with pytest.raises(ShapeError, match="A trailing size of 1 is not broadcast: squeeze it"):
        gather_scatter(x, torch.randn(6, 1), nbr)
    with pytest.raises(ShapeError, match="weight"):
        gather_scatter(torch.randn(3), torch.randn(6, 1), nbr)
