"""GIN-attention, PNA-attention and the sparse adapter: dense formulae, multisets, causality, edge cases, errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, use
from geoattn.layers.edge_weights import EdgeWeights
from geoattn.layers.gin_attention import GINAttention, causal_neighborhood
from geoattn.layers.grouped_mlp import GroupedMLP
from geoattn.layers.pna_attention import PNAAttention, mean_log_degree
from geoattn.layers.sparse_gin import SparseGINAdapter
from geoattn.testing import LayerContract

F64 = torch.float64
NORMALIZE = ["softmax", "sigmoid", "relu", "none"]
NOTHING = torch.empty(2, 0, dtype=torch.long)


class GraphInputs:
    in_specs = {"x": "invariant/node", "edge_index": "edge_index", "edge_attr": "invariant/edge"}
    out_specs = {"x": "invariant/node"}

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 8),
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 3),
        }


class TestGINContract(GraphInputs, LayerContract):
    second_derivatives = True
    compiles = True

    def layer(self):
        return GINAttention(8, 2, edge_channels=3, out_proj=True)


class TestGINContractOfSums(GraphInputs, LayerContract):
    second_derivatives = True

    def layer(self):
        return GINAttention(8, 2, normalize="sigmoid", edge_channels=3, values=True, mlp_ratio=2.0)


class TestPNAContract(GraphInputs, LayerContract):
    def layer(self):
        scalers = ("identity", "amplification", "attenuation")
        return PNAAttention(8, 2, edge_channels=3, aggregators=("sum", "mean", "max", "std", "min"), scalers=scalers)


class TestSparseGINContract(LayerContract):
    in_specs = {"x": "invariant/node", "edge_index": "edge_index", "weights": "invariant/edge"}
    out_specs = {"x": "invariant/node"}

    def layer(self):
        return SparseGINAdapter(8, 4, scale=0.5)

    def inputs(self, graph):
        weights = torch.sigmoid(graph.randn(graph.num_edges, 2)) / 2
        return {"x": graph.randn(graph.num_nodes, 8), "edge_index": graph.edge_index, "weights": weights}


def make(layer=GINAttention, *arguments, seed=0, **options):
    torch.manual_seed(seed)
    made = layer(*arguments, **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return made


def dense_weights(weights, x, edge_index, edge_attr=None):
    """``[H, N, N]`` (target, source) with a loop over heads and edges; edges are distinct."""
    query, key = weights.query_key(x).chunk(2, -1)
    dim = x.shape[1] // weights.num_heads
    found = []
    for h in range(weights.num_heads):
        q, k = (t[:, h * dim : (h + 1) * dim] for t in (query, key))
        scores = q @ k.T / dim**0.5
        if edge_attr is not None:
            for e, (j, i) in enumerate(edge_index.T.tolist()):
                scores[i, j] = scores[i, j] + edge_attr[e] @ weights.edge_bias.weight[h]
        if weights.sharpness is not None:
            scores = scores * weights.sharpness
        edges = torch.zeros_like(scores, dtype=torch.bool)
        edges[edge_index[1], edge_index[0]] = True
        if weights.normalize == "softmax":
            a = scores.masked_fill(~edges, -torch.inf).softmax(1).nan_to_num()
        else:
            a = {"sigmoid": torch.sigmoid, "relu": torch.relu, "none": lambda s: s}[weights.normalize](scores) * edges
        found.append(a)
    return torch.stack(found)


def head_network(mlp, h, x):
    hidden = x @ mlp.linear_in.weight[h] + mlp.linear_in.bias[h]
    hidden = functional.rms_norm(hidden, hidden.shape[-1:], mlp.norm_weight[h], 1e-6)
    return functional.silu(hidden) @ mlp.linear_out.weight[h] + mlp.linear_out.bias[h]


def distinct_edges(num_nodes=6, isolated=1):
    pairs = torch.cartesian_prod(torch.arange(num_nodes), torch.arange(num_nodes - isolated))
    return pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:14]].T


@pytest.mark.parametrize("one_plus_eps", [True, False])
@pytest.mark.parametrize("normalize", NORMALIZE)
def test_gin_agrees_with_a_loop_over_heads(normalize, one_plus_eps):
    layer = make(GINAttention, 8, 2, normalize=normalize, edge_channels=2, eps=0.3, one_plus_eps=one_plus_eps)
    x, edge_index, edge_attr = torch.randn(6, 8, dtype=F64), distinct_edges(), torch.randn(14, 2, dtype=F64)
    adjacency = dense_weights(layer.weights, x, edge_index, edge_attr)
    expected = []
    for h, head in enumerate(x.chunk(2, -1)):
        own = (one_plus_eps + layer.eps[h]) * head
        expected.append(head_network(layer.mlp, h, own + adjacency[h] @ head))
    torch.testing.assert_close(layer(x, edge_index, edge_attr), torch.cat(expected, -1))
    with use("reference"):
        torch.testing.assert_close(layer(x, edge_index, edge_attr), torch.cat(expected, -1))


def test_gin_without_network_is_attention_to_its_own_input():
    layer = make(GINAttention, 8, 2, mlp_ratio=None, one_plus_eps=False, sharpen=False)
    nn.init.zeros_(layer.eps)
    x, nbr = torch.randn(5, 8, dtype=F64), causal_neighborhood(torch.tensor([5]))
    query, key = layer.weights.query_key(x).chunk(2, -1)
    q, k, v = (t.unflatten(1, (2, 4)).transpose(0, 1) for t in (query, key, x))
    expected = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer(x, nbr), expected, atol=1e-6, rtol=0)


def test_fused_softmax_equals_weights_and_sum():
    layer = make(GINAttention, 8, 2, edge_channels=2)
    x, edge_attr = torch.randn(6, 8, dtype=F64, requires_grad=True), torch.randn(14, 2, dtype=F64)
    nbr, values = Neighborhood.from_edge_index(distinct_edges(), 6), torch.randn(6, 2, 4, dtype=F64)
    fused = layer.weights.aggregate(x, values, nbr, edge_attr)
    layer.weights.dropout, layer.weights.training = 1e-300, True  # takes the other way, drops nothing
    eager = layer.weights.aggregate(x, values, nbr, edge_attr)
    torch.testing.assert_close(fused, eager)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (fused, eager)))


def test_sums_tell_multisets_apart_and_softmax_does_not_count():
    a, b, own = torch.randn(3, 1, 8, dtype=F64)

    def first(layer, *neighbours):
        x = torch.cat([own, *neighbours])
        edges = torch.stack([torch.arange(1, len(x)), torch.zeros(len(x) - 1, dtype=torch.long)])
        return layer(x, edges)[0]

    for normalize in ("none", "sigmoid"):
        layer = make(GINAttention, 8, 2, normalize=normalize)
        assert (first(layer, a, a, b) - first(layer, a, b, b)).abs().max() > 1e-3
        assert (first(layer, a) - first(layer, a, a)).abs().max() > 1e-3
    layer = make(GINAttention, 8, 2)
    torch.testing.assert_close(first(layer, a), first(layer, a, a))


def test_dropout_and_sharpness_reach_the_weights():
    weights = make(EdgeWeights, 8, 2, dropout=0.5)
    x, nbr = torch.randn(6, 8, dtype=F64), Neighborhood.from_edge_index(distinct_edges(), 6)
    flat = weights(x, nbr).std()
    with torch.no_grad():
        weights.sharpness.fill_(5.0)
    assert weights(x, nbr).std() > flat
    assert (weights.train()(x, nbr) == 0).any()


@pytest.mark.parametrize("layer", [*NORMALIZE, "pna", "sparse"])
def test_causal_rows_see_no_later_row(layer):
    nbr = causal_neighborhood(torch.tensor([4]))
    if layer == "sparse":
        adapter, weights = make(SparseGINAdapter, 4, 3, scale=0.5), torch.rand(nbr.num_edges, 2, dtype=F64)
        run = lambda x: adapter(x, weights, nbr)
    else:
        made = make(PNAAttention, 4, 2) if layer == "pna" else make(GINAttention, 4, 2, normalize=layer)
        run = lambda x: made(x, nbr)
    jacobian = torch.autograd.functional.jacobian(run, torch.randn(4, 4, dtype=F64)).abs().amax((1, 3))
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.tril() > 0).any(1).all()


def test_causal_neighborhood_of_several_sequences():
    nbr = causal_neighborhood(torch.tensor([3, 0, 1, 2]))
    pairs = {(j, i) for start, end in ((0, 3), (3, 4), (4, 6)) for i in range(start, end) for j in range(start, i + 1)}
    assert set(map(tuple, nbr.edge_index.T.tolist())) == pairs and nbr.num_edges == len(pairs)
    again = Neighborhood.from_edge_index(nbr.edge_index, 6)
    assert torch.equal(again.row_ptr, nbr.row_ptr) and torch.equal(again.source, nbr.source)
    assert causal_neighborhood(torch.zeros(0, dtype=torch.long)).num_targets == 0
    with pytest.raises(ShapeError, match="lengths"):
        causal_neighborhood(torch.tensor([1.0]))


def test_gin_without_edges():
    for normalize in NORMALIZE:
        layer = make(GINAttention, 8, 2, normalize=normalize)
        x = torch.randn(3, 8, dtype=F64, requires_grad=True)
        alone = layer.mlp((1 + layer.eps) * x.unflatten(1, (2, 4))).flatten(1)
        torch.testing.assert_close(layer(x, NOTHING), alone)
        (gradient,) = torch.autograd.grad(layer(x, NOTHING).sum(), x)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("normalize", ["softmax", "sigmoid", "relu"])
def test_pna_agrees_with_a_loop_over_nodes(normalize):
    aggregators, scalers = ("sum", "mean", "max", "min", "std"), ("identity", "amplification", "attenuation")
    options = {"aggregators": aggregators, "scalers": scalers, "mean_log_degree": 1.3, "normalize": normalize}
    layer = make(PNAAttention, 8, 2, **options)
    x, edge_index = torch.randn(6, 8, dtype=F64), distinct_edges()
    adjacency, v = dense_weights(layer.weights, x, edge_index), layer.value(x)
    rows = []
    for i in range(6):
        heads, degree = [], max(int((edge_index[1] == i).sum()), 1)
        amplification = torch.tensor(degree + 1.0, dtype=F64).log() / 1.3
        for h, values in enumerate(v.chunk(2, -1)):
            a = adjacency[h, i]
            parts = [torch.zeros(4, dtype=F64)] * 5
            if a.sum() > 0:
                share = a / a.sum()
                mean = share @ values
                variance = share @ (values - mean) ** 2
                sent = values[a > 0]
                parts = [a @ values, mean, sent.amax(0), sent.amin(0), (variance + 1e-5).sqrt() - 1e-5**0.5]
            parts = torch.cat(parts)
            heads.append(head_network(layer.mlp, h, torch.cat([parts, amplification * parts, parts / amplification])))
        rows.append(torch.cat(heads))
    torch.testing.assert_close(layer(x, edge_index), layer.out(torch.stack(rows)))


def test_pna_sum_is_mean_under_softmax():
    x, nbr = torch.randn(6, 2, 4, dtype=F64), Neighborhood.from_edge_index(distinct_edges(), 6)
    layer = make(PNAAttention, 8, 2, aggregators=("sum", "mean"))
    total, mean = layer.aggregate(x, layer.weights(x.flatten(1), nbr), nbr).chunk(2, -1)
    torch.testing.assert_close(total, mean, atol=1e-6, rtol=0)


def test_pna_deviation_of_equal_values():
    layer = make(PNAAttention, 4, 2, aggregators=("std",))
    x = torch.ones(3, 2, 2, dtype=F64, requires_grad=True)
    nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2], [0, 0]]), 3)
    std = layer.aggregate(x, torch.full((2, 2), 0.5, dtype=F64), nbr)
    (gradient,) = torch.autograd.grad(std.sum(), x)
    assert std.abs().max() == 0 and gradient.abs().max() < 1e-12


def test_mean_log_degree():
    assert mean_log_degree(torch.tensor([0, 1])) == pytest.approx(0.5 * 0.6931471805599453)


def small_language_model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"embed": nn.Embedding(7, 8), "attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 7)}
    )


def logits(model, tokens, adapter=None):
    """Causal attention over one sequence, and the adapter after it."""
    x = model["embed"](tokens)
    mask = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    attended, attention = model["attention"](x, x, x, attn_mask=mask, average_attn_weights=False)
    x = x + attended
    if adapter is not None:
        nbr = causal_neighborhood(torch.tensor([len(tokens)]))
        x = adapter(x, attention[:, nbr.target, nbr.source].T, nbr)
    return model["head"](x)


def test_adapter_with_scale_zero_leaves_a_model_as_it_was():
    model, adapter, tokens = small_language_model(), SparseGINAdapter(8, 4), torch.tensor([1, 5, 2, 2, 6])
    model.requires_grad_(False)
    assert torch.equal(logits(model, tokens, adapter), logits(model, tokens))
    logits(model, tokens, adapter).square().sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert adapter.scale.grad.abs() > 0
    with torch.no_grad():
        adapter.scale.fill_(0.5)
    assert not torch.equal(logits(model, tokens, adapter), logits(model, tokens))


@pytest.mark.parametrize("self_edges_only", [False, True])
def test_adapter_sends_from_earlier_to_later_tokens(self_edges_only):
    adapter = make(SparseGINAdapter, 4, 3, scale=0.5, self_edges_only=self_edges_only)
    nbr = causal_neighborhood(torch.tensor([4]))
    weights = torch.full((nbr.num_edges, 2), 0.3, dtype=F64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: adapter(x, weights, nbr), torch.randn(4, 4, dtype=F64)
    ).abs().amax((1, 3))  # fmt: skip
    below = jacobian.tril(-1)
    assert (below[torch.ones(4, 4).tril(-1) > 0] > 0).all() != self_edges_only
    assert self_edges_only == bool((below == 0).all())
    assert (jacobian.triu(1) == 0).all()


def test_adapter_keeps_edges_above_the_threshold():
    adapter = make(SparseGINAdapter, 4, 3)
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 1, 2, 1], [1, 1, 0, 0]]), 3)
    weights = torch.tensor([[0.07, 0.0704], [0.07, 0.0706], [0.9, 0.9], [0.0, 0.0]], dtype=F64)
    strength, strong = adapter.strong_edges(weights, nbr)
    assert strong.edge_index.tolist() == [[2, 1], [0, 1]]
    torch.testing.assert_close(strength, torch.sigmoid(10 * (torch.tensor([1.0, 0.1406], dtype=F64) - 0.1)))
    torch.testing.assert_close(strong.row_ptr, torch.tensor([0, 1, 2, 2]))


def test_wrong_arguments_are_named():
    x, edges = torch.randn(2, 8), torch.tensor([[0], [1]])
    for message, call in {
        "channels: got 8, expected a multiple of num_heads = 3": lambda: GINAttention(8, 3),
        "Did you mean 'softmax'?": lambda: GINAttention(8, 2, normalize="softmx"),
        "mlp_ratio": lambda: GINAttention(8, 2, mlp_ratio=0),
        "x: got shape (2, 8)": lambda: GINAttention(4, 2)(x, edges),
        "edge_attr: got None": lambda: GINAttention(8, 2, edge_channels=1)(x, edges),
        "Did you mean 'std'?": lambda: PNAAttention(8, 2, aggregators=("sdt",)),
        "scalers: got none": lambda: PNAAttention(8, 2, scalers=()),
        "normalize: got 'none'": lambda: PNAAttention(8, 2, normalize="none"),
        "mean_log_degree": lambda: PNAAttention(8, 2, mean_log_degree=0.0),
        "weights: got shape (2, 1)": lambda: SparseGINAdapter(8, 2)(x, torch.ones(2, 1), edges),
        "x: got shape (2, 3)": lambda: SparseGINAdapter(8, 2)(torch.randn(2, 3), torch.ones(1), edges),
        "num_heads = 2, in_channels = 4": lambda: GroupedMLP(2, 4, 4, 4)(x),
    }.items():
        with pytest.raises(ShapeError) as error:
            call()
        assert message in str(error.value)
