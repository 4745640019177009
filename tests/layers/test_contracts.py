"""Every layer passes the contract that users inherit for theirs."""

from geoattn.kernels import Neighborhood
from geoattn.layers import EGNNLayer, GraphAttentionLayer
from geoattn.testing import LayerContract


class TestEGNN(LayerContract):
    in_specs = {"x": "invariant/node", "pos": "position/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node", "pos": "position/node"}
    group = "E(3)"
    second_derivatives = True
    compiles = True

    def layer(self):
        return EGNNLayer(5, hidden_channels=8)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 5), "pos": graph.pos, "edge_index": graph.edge_index}


class TestEGNNInThePlaneWithAllOptions(LayerContract):
    in_specs = {
        "x": "invariant/node",
        "pos": "position/node",
        "edge_index": "edge_index",
        "edge_attr": "invariant/edge",
        "vel": "vector/node",
        "node_attr": "invariant/node",
    }
    out_specs = {"x": "invariant/node", "pos": "position/node", "vel": "vector/node"}
    group = "E(2)"
    second_derivatives = True

    def layer(self):
        return EGNNLayer(
            5,
            hidden_channels=8,
            edge_channels=2,
            node_attr_channels=3,
            use_velocity=True,
            gate=True,
            normalize=True,
            tanh=True,
        )

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 5),
            "pos": graph.pos,
            "edge_index": Neighborhood.from_edge_index(graph.edge_index, graph.num_nodes),
            "edge_attr": graph.randn(graph.num_edges, 2),
            "vel": graph.randn(graph.num_nodes, 2),
            "node_attr": graph.randn(graph.num_nodes, 3),
        }


class TestGraphAttention(LayerContract):
    in_specs = {"x": "invariant/node", "edge_index": "edge_index", "edge_attr": "invariant/edge"}
    out_specs = {"x": "invariant/node"}
    second_derivatives = True
    compiles = True

    def layer(self):
        return GraphAttentionLayer(8, num_heads=2, edge_channels=3)

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 8),
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 3),
        }
