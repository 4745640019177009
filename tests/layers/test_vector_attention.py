"""Vector attention: the contract, and the formula written out edge by edge."""

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.layers import VectorAttention
from geoattn.testing import LayerContract


class TestContract(LayerContract):
    in_specs = {"x": "invariant/node", "pos": "position/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node"}
    group = "T(3)"
    second_derivatives = False  # relu has none
    compiles = True

    def layer(self):
        return VectorAttention(8, num_groups=2, hidden_channels=6, scale=0.5)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 8), "pos": graph.pos, "edge_index": graph.edge_index}


def test_the_formula_edge_by_edge():
    layer = VectorAttention(8, num_groups=4, hidden_channels=5, scale=2.0).double()
    x, pos = torch.randn(6, 8, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 3, 4, 4, 5], [1, 0, 0, 0, 1, 4, 4]])
    expected = torch.zeros(6, 8, dtype=torch.float64)
    for i in range(6):
        neighbors = edges[0][edges[1] == i].tolist()
        delta = {j: layer.displacement(2.0 * (pos[j] - pos[i])).relu() for j in neighbors}
        scores = [
            layer.score(
                torch.nn.functional.silu(layer.query(x[i]) - layer.key(x[j]) + layer.displacement_score(delta[j]))
            )
            for j in neighbors
        ]
        for j, weight in zip(neighbors, torch.stack(scores).softmax(0) if scores else [], strict=True):
            value = layer.value(x[j]).view(4, 2) + torch.einsum("s,gsc->gc", delta[j], layer.displacement_value)
            expected[i] += (weight[:, None] * value).flatten()
    torch.testing.assert_close(layer(x, pos, edges), layer.out(expected))


def test_it_is_not_invariant_to_rotation():
    layer = VectorAttention(8)
    x, pos, edges = torch.randn(4, 8), torch.randn(4, 3), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    assert (layer(x, pos, edges) - layer(x, pos[:, [1, 2, 0]], edges)).abs().max() > 1e-3


def test_refusals():
    with pytest.raises(ShapeError, match="num_groups"):
        VectorAttention(8, num_groups=3)
    layer = VectorAttention(8)
    with pytest.raises(ShapeError, match=r"\[N, channels = 8\]"):
        layer(torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2, 0, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"\[N = 2, 3\]"):
        layer(torch.zeros(2, 8), torch.zeros(2, 2), torch.zeros(2, 0, dtype=torch.long))
