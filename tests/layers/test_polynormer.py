"""Polynormer's layers and network: dense formulae, batches, symmetry, degree as a polynomial, phases, memory."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, segment_reduce
from geoattn.layers.polynormer import PolynormerGlobalLayer, PolynormerLocalLayer, head_groups, linear_attention
from geoattn.layers.self_loops import with_self_loops
from geoattn.models.polynormer import Polynormer
from geoattn.testing import LayerContract

F64 = torch.float64


class TestLocalContract(LayerContract):
    in_specs = {"x": "invariant/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node"}
    second_derivatives = True
    compiles = True

    def layer(self):
        return PolynormerLocalLayer(8, 2, pre_norm=True)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 8), "edge_index": graph.edge_index}


class TestGlobalContract(LayerContract):
    in_specs = {"x": "invariant/node", "batch": "batch", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node"}
    second_derivatives = True

    def layer(self):
        class GlobalLayer(PolynormerGlobalLayer):
            def forward(self, x, batch, edge_index):
                return super().forward(x, batch)

        return GlobalLayer(8, 2, shared_query=False)

    def inputs(self, graph):
        batch = torch.zeros(graph.num_nodes, dtype=torch.long)
        return {"x": graph.randn(graph.num_nodes, 8), "batch": batch, "edge_index": graph.edge_index}


class TestNetworkContract(LayerContract):
    in_specs = {"x": "invariant/node", "edge_index": "edge_index", "batch": "batch"}
    out_specs = {"x": "invariant/node"}

    def layer(self):
        return Polynormer(5, 8, 3, local_layers=2, global_layers=2, num_heads=2, beta=0.4)

    def inputs(self, graph):
        batch = torch.zeros(graph.num_nodes, dtype=torch.long)
        return {"x": graph.randn(graph.num_nodes, 5), "edge_index": graph.edge_index, "batch": batch}


def make(kind, *arguments, **options):
    torch.manual_seed(0)
    return kind(*arguments, **options).double().eval()


def explicit_attention(q, k, v):
    """With the N x N matrix of each head."""
    weights = torch.einsum("ihd,jhd->hij", q, k)
    weights = weights / weights.sum(-1, keepdim=True)
    assert (weights > 0).all()
    return torch.einsum("hij,jhe->ihe", weights, v)


@pytest.mark.parametrize("grouped", [False, True])
def test_linear_attention_equals_the_explicit_matrix(grouped):
    torch.manual_seed(0)
    q, k, v = (torch.rand(30, 2, width, dtype=F64, requires_grad=True) for width in (4, 4, 3))
    batch = torch.arange(30) % 3 if grouped else torch.zeros(30, dtype=torch.long)
    found = linear_attention(q, k, v, head_groups(batch, 2) if grouped else None)
    expected = torch.empty_like(found)
    for graph in batch.unique():
        expected[batch == graph] = explicit_attention(*(t[batch == graph] for t in (q, k, v)))
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(found)
    for a, b in zip(*(torch.autograd.grad((y * slope).sum(), (q, k, v)) for y in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("grouped", [False, True])
def test_sixteen_bits_do_not_lose_small_terms(grouped):
    """Rows of equal keys: the mean of the values, which a sum in bfloat16 misses by far."""
    k, v = torch.ones(5000, 1, 4, dtype=torch.bfloat16), torch.ones(5000, 1, 1, dtype=torch.bfloat16)
    groups = head_groups(torch.zeros(5000, dtype=torch.long), 1) if grouped else None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear_attention(k, k, v, groups)
    torch.testing.assert_close(found, torch.ones(5000, 1, 1))


@pytest.mark.parametrize("grouped", [False, True])
def test_rows_without_weight_get_zero(grouped):
    q = torch.zeros(3, 1, 2, requires_grad=True)
    found = linear_attention(q, q, torch.ones(3, 1, 1), head_groups(torch.zeros(3, dtype=int), 1) if grouped else None)
    (gradient,) = torch.autograd.grad(found.sum(), q)
    assert found.abs().max() == 0 and gradient.isfinite().all()


def test_graphs_of_a_batch_do_not_see_each_other():
    network = make(Polynormer, 5, 8, 3, local_layers=2, global_layers=2, num_heads=2)
    x, edges = torch.randn(7, 5, dtype=F64), torch.tensor([[0, 1, 2, 4, 6], [1, 2, 0, 5, 5]])
    together = network(x, edges, torch.tensor([0, 0, 0, 1, 2, 2, 2]))
    alone = [
        network(x[:3], edges[:, :3]),
        network(x[3:4], edges[:, :0]),
        network(x[4:], edges[:, 3:] - 4),
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    order = torch.randperm(7)
    moved = network(x[order], torch.argsort(order)[edges], torch.tensor([0, 0, 0, 1, 2, 2, 2])[order])
    torch.testing.assert_close(moved, together[order], atol=1e-10, rtol=0)


def one_node_at_a_time(layer, x, edge_index):
    wx, rows = layer.value(x).unflatten(1, (layer.num_heads, -1)), []
    for i in range(len(x)):
        sources, heads = edge_index[0, edge_index[1] == i], []
        for h in range(layer.num_heads):
            scores = wx[sources, h] @ layer.score[0, h] + wx[i, h] @ layer.score[1, h]
            heads.append(functional.leaky_relu(scores, 0.2).softmax(0) @ wx[sources, h])
        rows.append(torch.cat(heads))
    y = (torch.stack(rows) + layer.skip(x)).relu()
    beta = torch.sigmoid(layer.beta.weight) if layer.beta.bounded else layer.beta.weight
    return (1 - beta) * layer.norm(layer.gate(x).relu() * y) + beta * y


@pytest.mark.parametrize("beta", ["sigmoid", 0.3])
def test_local_layer_agrees_with_a_loop_over_nodes(beta):
    layer = make(PolynormerLocalLayer, 8, 2, beta=beta)
    x, edge_index = torch.randn(6, 8, dtype=F64), torch.randint(0, 5, (2, 20))  # node 5 is isolated
    torch.testing.assert_close(layer(x, edge_index), one_node_at_a_time(layer, x, edge_index))
    nbr = Neighborhood.from_edge_index(edge_index, 6)
    sums = segment_reduce(layer.weights(layer.value(x).unflatten(1, (2, 4)), nbr), nbr)
    torch.testing.assert_close(sums, (nbr.degree > 0).to(F64)[:, None].expand(6, 2))


def test_global_layer_agrees_with_its_formula():
    layer = make(PolynormerGlobalLayer, 8, 2, beta=0.5)
    x = torch.randn(6, 8, dtype=F64)
    k, v = (t.unflatten(1, (2, 4)) for t in (torch.sigmoid(layer.key(x)), layer.value(x)))
    expected = layer.norm(explicit_attention(k, k, v).flatten(1)) * (layer.gate(x) + 0.5)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("local_layers", "global_layers"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)])
def test_degree_as_a_polynomial(local_layers, global_layers):
    """With attention constant and nothing else between the products, f(t x) has degree 2^layers in t, and not less."""
    options = {"local_layers": local_layers, "global_layers": global_layers, "num_heads": 2}
    network = make(Polynormer, 3, 4, 2, relu=False, norm=False, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.7)  # large enough for the highest power to count
        for layer in network.local_layers:
            layer.score.zero_()
        for layer in network.global_layers:
            layer.key.weight.zero_()
    x, edges = torch.randn(5, 3, dtype=F64), with_self_loops(torch.randint(0, 5, (2, 8)), 5)[0]
    degree = 2 ** (local_layers + global_layers)
    t = torch.cos(torch.linspace(0, torch.pi, degree + 6, dtype=F64))
    with torch.no_grad():
        y = torch.stack([network(x * factor, edges).flatten() for factor in t]).numpy()

    def residual(up_to: int) -> float:
        basis = np.polynomial.chebyshev.chebvander(t.numpy(), up_to)
        return float(np.abs(basis @ np.linalg.lstsq(basis, y, rcond=None)[0] - y).max() / np.abs(y).max())

    assert residual(degree) < 1e-8 < residual(degree - 1)


def test_phases():
    network = Polynormer(3, 8, 2, local_layers=1, global_layers=1, num_heads=2)
    x, edges = torch.randn(4, 3), torch.tensor([[0, 1], [1, 2]])
    for use_global, without in ((False, "global"), (True, "local_readout")):
        network.zero_grad()
        network.use_global = use_global
        network(x, edges).sum().backward()
        none = [name for name, p in network.named_parameters() if p.grad is None]
        assert none == [name for name, _ in network.named_parameters() if name.startswith(without)] != []
    assert not Polynormer(3, 8, 2, local_layers=1, global_layers=0).use_global


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that an operation returned."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor):
                self.found = max(self.found, value.numel())
        return out


@pytest.mark.parametrize("batch", [None, torch.arange(1000) % 7])
def test_no_quadratic_tensor(batch):
    layer, x = PolynormerGlobalLayer(8, 2), torch.randn(1000, 8, requires_grad=True)
    with Largest() as largest:
        layer(x, batch).sum().backward()
    assert largest.found <= x.numel()


def test_self_loops():
    edges, attr = torch.tensor([[0, 1, 2, 2], [0, 0, 0, 1]]), torch.tensor([[9.0], [2.0], [4.0], [1.0]])
    nbr, loops = with_self_loops(edges, 3, attr)
    assert nbr.edge_index.tolist() == [[1, 2, 2, 0, 1, 2], [0, 0, 1, 0, 1, 2]]
    assert loops.flatten().tolist() == [2.0, 4.0, 1.0, 3.0, 1.0, 0.0]
    again, none = with_self_loops(Neighborhood.from_edge_index(edges, 3), 3)
    assert none is None and torch.equal(again.edge_index, nbr.edge_index)
    assert with_self_loops(edges[:, :0], 0)[0].num_edges == 0


def test_wrong_arguments_are_named():
    x, edges = torch.randn(2, 8), torch.tensor([[0], [1]])
    for message, call in {
        "multiple of num_heads = 3": lambda: PolynormerLocalLayer(8, 3),
        "beta: got 'tanh'": lambda: PolynormerLocalLayer(8, 2, beta="tanh"),
        "x: got shape (2, 8)": lambda: PolynormerLocalLayer(4, 2)(x, edges),
        "batch: got 6 heads of nodes": lambda: PolynormerGlobalLayer(8, 2)(x, torch.zeros(3, dtype=torch.long)),
        "batch: got shape (2,), dtype": lambda: PolynormerGlobalLayer(8, 2)(x, torch.zeros(2)),
        "local_layers": lambda: Polynormer(3, 8, 2, local_layers=0),
        "in_channels = 3": lambda: Polynormer(3, 8, 2)(x, edges),
        "edge_attr: got shape (3, 1)": lambda: with_self_loops(edges, 2, torch.ones(3, 1)),
    }.items():
        with pytest.raises(ShapeError) as error:
            call()
        assert message in str(error.value)
