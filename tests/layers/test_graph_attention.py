"""GraphAttentionLayer: against a per-node loop, permutation, edge cases."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood
from geoattn.layers.graph_attention import GraphAttentionLayer

F64 = torch.float64


def make(channels=8, num_heads=2, **options) -> GraphAttentionLayer:
    torch.manual_seed(0)
    return GraphAttentionLayer(channels, num_heads, **options).double().eval()


def one_node_at_a_time(layer, x, edge_index, edge_attr):
    """The formula of the docstring with a Python loop over targets and heads."""
    q, k, v = layer.qkv(layer.attention_norm(x)).unflatten(-1, (3, layer.num_heads, -1)).unbind(1)
    attended = torch.zeros_like(q)
    for i in range(len(x)):
        edges = (edge_index[1] == i).nonzero()[:, 0]
        if len(edges) == 0:
            continue
        j = edge_index[0, edges]
        for h in range(layer.num_heads):
            logits = k[j, h] @ q[i, h] / q.shape[-1] ** 0.5
            if edge_attr is not None:
                logits = logits + layer.edge_bias(edge_attr[edges])[:, h]
            attended[i, h] = logits.softmax(0) @ v[j, h]
    x = x + layer.out(attended.flatten(1))
    return x + layer.mlp(x)


@pytest.mark.parametrize("edge_channels", [0, 3])
def test_agrees_with_a_loop_over_nodes(edge_channels):
    layer = make(edge_channels=edge_channels)
    x, edge_index = torch.randn(6, 8, dtype=F64), torch.randint(0, 5, (2, 20))  # node 5 is isolated
    edge_attr = torch.randn(20, edge_channels, dtype=F64) if edge_channels else None
    expected = one_node_at_a_time(layer, x, edge_index, edge_attr)
    torch.testing.assert_close(layer(x, edge_index, edge_attr), expected)
    torch.testing.assert_close(layer(x, Neighborhood.from_edge_index(edge_index, 6), edge_attr), expected)


def test_nodes_can_be_renumbered_and_edges_shuffled():
    layer = make(edge_channels=2)
    x, edge_index, edge_attr = torch.randn(6, 8, dtype=F64), torch.randint(0, 6, (2, 25)), torch.randn(25, 2, dtype=F64)
    order, shuffle = torch.randperm(6), torch.randperm(25)
    renumbered = torch.argsort(order)[edge_index][:, shuffle]
    torch.testing.assert_close(layer(x[order], renumbered, edge_attr[shuffle]), layer(x, edge_index, edge_attr)[order])


def test_gradients():
    layer = make(4, 2, edge_channels=2)
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 0, 0, 2]])
    x = torch.randn(4, 4, dtype=F64, requires_grad=True)
    edge_attr = torch.randn(4, 2, dtype=F64, requires_grad=True)
    torch.autograd.gradcheck(lambda a, b: layer(a, edge_index, b), (x, edge_attr))


def test_no_edges_and_no_nodes():
    layer, nothing = make(), torch.empty(2, 0, dtype=torch.long)
    x = torch.randn(3, 8, dtype=F64)
    alone = x + layer.out(torch.zeros_like(x))
    torch.testing.assert_close(layer(x, nothing), alone + layer.mlp(alone))
    assert layer(x[:0], nothing).shape == (0, 8)


def test_wrong_arguments_are_named():
    edge_index = torch.tensor([[0], [1]])
    with pytest.raises(ShapeError, match="multiple of num_heads = 3"):
        GraphAttentionLayer(8, 3)
    with pytest.raises(ShapeError, match=r"x: got shape \(2, 4\)"):
        make()(torch.randn(2, 4, dtype=F64), edge_index)
    with pytest.raises(ShapeError, match="edge_attr: got None"):
        make(edge_channels=2)(torch.randn(2, 8, dtype=F64), edge_index)
