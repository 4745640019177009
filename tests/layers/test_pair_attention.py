"""PairAttention: against loops over pairs and tokens, shared tokens, empty sequences, batches, gradients."""

import math

import pytest
import torch
from torch import nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood
from geoattn.layers.pair_attention import PairAttention, pair_tokens
from geoattn.testing import LayerContract

F64 = torch.float64
PTR = torch.tensor([0, 3, 3, 4, 9])  # sequences of 3, 0, 1 and 5 tokens
WHICH = torch.tensor([3, 0, 2, 1, 3])


def make(channels=6, num_heads=2) -> PairAttention:
    return PairAttention(channels, num_heads).double()


def inputs(num_pairs=5, num_tokens=9, channels=6):
    return torch.randn(num_pairs, channels, dtype=F64), torch.randn(num_tokens, channels, dtype=F64)


def one_pair_at_a_time(layer, query, x, tokens_of):
    """The formula of the docstring: the result of each pair, and its weights per head."""
    heads, channels = layer.num_heads, query.shape[1]
    width = channels // heads
    results, weights = [], []
    for p, tokens in enumerate(tokens_of):
        q = layer.query.weight @ query[p] + layer.query.bias
        kv = [layer.key_value.weight @ x[t] + layer.key_value.bias for t in tokens]
        mixed, alphas = [], []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            scores = [math.exp(float(q[part] @ both[:channels][part]) / math.sqrt(width)) for both in kv]
            alpha = [score / sum(scores) for score in scores]
            zero = torch.zeros(width, dtype=F64)
            mixed.append(sum((a * both[channels:][part] for a, both in zip(alpha, kv, strict=True)), zero))
            alphas.append(alpha)
        results.append(layer.out.weight @ torch.cat(mixed) + layer.out.bias)
        weights += [sum(alpha) / heads for alpha in zip(*alphas, strict=True)]
    return torch.stack(results), torch.tensor(weights, dtype=F64)


@pytest.mark.parametrize("num_heads", [1, 2, 6])
@torch.no_grad()
def test_agrees_with_a_loop_over_pairs(num_heads):
    layer, (query, x) = make(num_heads=num_heads), inputs()
    nbr = pair_tokens(PTR, WHICH, 9)
    tokens_of = [range(PTR[s], PTR[s + 1]) for s in WHICH.tolist()]
    expected, weights = one_pair_at_a_time(layer, query, x, tokens_of)
    torch.testing.assert_close(layer(query, x, nbr), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weights(query, x, nbr), weights, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_sequences_that_share_tokens():
    """Three sequences over four tokens; one token stands in all of them, and twice in the second."""
    layer, (query, x) = make(), inputs(num_tokens=4)
    token = torch.tensor([0, 1, 2, 1, 1, 3])
    ptr, which = torch.tensor([0, 2, 5, 6]), torch.tensor([1, 0, 2, 1, 0])
    nbr = pair_tokens(ptr, which, 4, token)
    tokens_of = [token[ptr[s] : ptr[s + 1]].tolist() for s in which.tolist()]
    expected, weights = one_pair_at_a_time(layer, query, x, tokens_of)
    torch.testing.assert_close(layer(query, x, nbr), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weights(query, x, nbr), weights, rtol=1e-12, atol=1e-12)
    own = layer(query, x[token], pair_tokens(ptr, which, 6))
    torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


def test_pair_tokens_lists_the_sequence_of_each_pair():
    nbr = pair_tokens(PTR, WHICH, 9)
    assert nbr.row_ptr.tolist() == [0, 5, 8, 9, 9, 14]
    assert nbr.source.tolist() == [4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert nbr.target.tolist() == [0] * 5 + [1] * 3 + [2] + [4] * 5
    assert (nbr.num_targets, nbr.num_sources) == (5, 9)


@torch.no_grad()
def test_an_empty_sequence_gives_the_bias_and_has_no_weights():
    layer, (query, x) = make(), inputs()
    nbr = pair_tokens(PTR, torch.tensor([1, 1, 0, 1, 1]), 9)
    out = layer(query, x, nbr)
    assert torch.equal(out[[0, 1, 3, 4]], layer.out.bias.expand(4, -1))
    assert len(layer.weights(query, x, nbr)) == 3


@torch.no_grad()
def test_one_token_has_all_the_weight():
    layer, (query, x) = make(), inputs(num_tokens=1)
    nbr = pair_tokens(torch.tensor([0, 1]), torch.zeros(5, dtype=torch.int64), 1)
    value = layer.key_value.weight[6:] @ x[0] + layer.key_value.bias[6:]
    torch.testing.assert_close(layer(query, x, nbr), layer.out(value).expand(5, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weights(query, x, nbr), torch.ones(5, dtype=F64))


@torch.no_grad()
def test_no_pairs_and_no_tokens():
    layer, (query, x) = make(), inputs()
    none = torch.empty(0, dtype=torch.int64)
    assert layer(query[:0], x, pair_tokens(PTR, none, 9)).shape == (0, 6)
    without = pair_tokens(torch.tensor([0, 0]), torch.zeros(5, dtype=torch.int64), 0)
    assert torch.equal(layer(query, x[:0], without), layer.out.bias.expand(5, -1))


@torch.no_grad()
def test_other_sequences_and_the_order_change_nothing():
    layer, (query, x) = make(), inputs()
    together = layer(query, x, pair_tokens(PTR, WHICH, 9))
    for p, s in enumerate(WHICH.tolist()):
        own = x[PTR[s] : PTR[s + 1]].flip(0)
        nbr = pair_tokens(torch.tensor([0, len(own)]), torch.tensor([0]), len(own))
        torch.testing.assert_close(layer(query[p : p + 1], own, nbr)[0], together[p], rtol=1e-12, atol=1e-12)
    order = torch.randperm(5)
    shuffled = layer(query[order], x, pair_tokens(PTR, WHICH[order], 9))
    torch.testing.assert_close(shuffled, together[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("token", [None, torch.tensor([0, 1, 2, 1, 3, 3, 0, 2, 1])], ids=["own", "shared"])
def test_gradients(token):
    layer, (query, x) = make(4), inputs(num_tokens=9 if token is None else 4, channels=4)
    nbr = pair_tokens(PTR, WHICH, len(x), token)
    run = lambda query, x: (layer(query, x, nbr), layer.weights(query, x, nbr))
    assert torch.autograd.gradcheck(run, (query.requires_grad_(), x.requires_grad_()))


def test_float32_is_near_float64():
    layer, (query, x) = make(), inputs()
    nbr = pair_tokens(PTR, WHICH, 9)
    expected = layer(query, x, nbr)
    torch.testing.assert_close(layer.float()(query.float(), x.float(), nbr).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "num_heads"), [(6, 4), (6, 0)])
def test_heads_that_do_not_divide_the_channels(channels, num_heads):
    with pytest.raises(ShapeError, match=f"channels: got 6, expected a multiple of num_heads = {num_heads}"):
        PairAttention(channels, num_heads)


class OnGraph(nn.Module):
    """A node's query looks at the nodes that point to it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = PairAttention(8, num_heads=2)

    def forward(self, query, x, edge_index):
        return self.attention(query, x, Neighborhood.from_edge_index(edge_index, len(x)))


class TestContract(LayerContract):
    in_specs = {"query": "invariant/node", "x": "invariant/node", "edge_index": "edge_index"}
    out_specs = {"o": "invariant/node"}
    second_derivatives = True

    def layer(self):
        return OnGraph()

    def inputs(self, graph):
        query, x = graph.randn(graph.num_nodes, 8), graph.randn(8, graph.num_nodes).T.contiguous().flip(0)
        return {"query": query, "x": x, "edge_index": graph.edge_index}
