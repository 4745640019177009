"""The EGNN stack: the contract, the authors' particle network written out, and its modes."""

import pytest
import torch
from torch.nn.functional import silu

from geoattn.errors import ShapeError
from geoattn.layers import EGNNLayer
from geoattn.models.egnn import EGNN
from geoattn.testing import LayerContract

F64 = torch.float64


class TestContract(LayerContract):
    in_specs = {
        "x": "invariant/node",
        "pos": "position/node",
        "edge_index": "edge_index",
        "edge_attr": "invariant/edge",
        "vel": "vector/node",
    }
    out_specs = {"x": "invariant/node", "pos": "position/node", "vel": "vector/node"}
    group = "E(3)"

    def layer(self):
        return EGNN(3, hidden_channels=6, num_layers=2, edge_channels=2, velocity="initial", gate=True)

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 3),
            "pos": graph.pos,
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 2),
            "vel": graph.randn(graph.num_nodes, 3),
        }


class TestContractOfAnInvariantNetwork(LayerContract):
    in_specs = {"x": "invariant/node", "pos": "position/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node", "pos": "position/node"}
    group = "E(2)"
    second_derivatives = True

    def layer(self):
        return EGNN(3, 4, hidden_channels=6, num_layers=2, update_pos=False)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 3), "pos": graph.pos, "edge_index": graph.edge_index}


def large(network: EGNN) -> EGNN:
    """Weights large enough for every term to count."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network.double()


def authors(network, x, pos, vel, edge_index, edge_attr):
    """E_GCL_vel of the authors' code, with the concatenation it makes, over the weights of our layers."""
    source, target = edge_index
    h = network.embedding(x)
    current = vel
    for layer in network.layers:
        difference = pos[target] - pos[source]
        message = torch.cat([h[target], h[source], difference.square().sum(1, keepdim=True), edge_attr], 1)
        message = silu(layer.edge_out(silu(layer.edge_in(message))))
        moved = difference * layer.pos_mlp(message)
        mean = torch.zeros_like(pos).index_add(0, target, moved)
        mean = mean / torch.bincount(target, minlength=len(pos)).clamp(min=1)[:, None]
        step = layer.velocity_mlp(h) * current + mean
        pos = pos + step
        received = torch.zeros_like(h).index_add(0, target, message)
        h = h + layer.node_mlp(torch.cat([h, received], 1))
        current = step if network.velocity == "updated" else vel
    return h, pos, step


@pytest.mark.parametrize("velocity", ["initial", "updated"])
def test_against_the_authors_network(velocity):
    network = large(EGNN(1, hidden_channels=5, num_layers=3, edge_channels=2, velocity=velocity))
    edge_index = torch.tensor([(j, i) for i in range(4) for j in range(4) if i != j]).T
    edge_index = edge_index[:, torch.randperm(12)]
    pos, vel = torch.randn(2, 4, 3, dtype=F64)
    x, edge_attr = torch.randn(4, 1, dtype=F64), torch.randn(12, 2, dtype=F64)
    got = network(x, pos, edge_index, edge_attr, vel=vel)
    for ours, theirs in zip(got, authors(network, x, pos, vel, edge_index, edge_attr), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_without_velocities():
    network = large(EGNN(2, 3, hidden_channels=5, num_layers=2))
    x, pos = torch.randn(5, 2, dtype=F64), torch.randn(5, 2, dtype=F64)
    edge_index = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 4, 0]])  # with a self loop
    h, moved = network(x, pos, edge_index)
    expected, at = network.embedding(x), pos
    for layer in network.layers:
        assert isinstance(layer, EGNNLayer)
        expected, at = layer(expected, at, edge_index)
    torch.testing.assert_close(h, network.readout(expected))
    torch.testing.assert_close(moved, at)
    assert h.shape == (5, 3) and (moved[1:] != pos[1:]).all()


def test_positions_that_stand_still():
    network = EGNN(2, hidden_channels=5, num_layers=2, update_pos=False)
    pos = torch.randn(4, 3)
    assert network(torch.randn(4, 2), pos, torch.tensor([[0, 1], [1, 0]]))[1] is pos


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers: got 0"),
        ({"velocity": "final"}, "velocity: got 'final'"),
        ({"velocity": "initial", "update_pos": False}, "use_velocity"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ShapeError, match=message):
        EGNN(2, **options)


def test_wrong_inputs():
    network = EGNN(2, velocity="initial")
    pos, edges = torch.randn(3, 3), torch.tensor([[0], [1]])
    with pytest.raises(ShapeError, match=r"x: got shape \(3, 1\)"):
        network(torch.randn(3, 1), pos, edges, vel=pos)
    with pytest.raises(ShapeError, match="vel: got None"):
        network(torch.randn(3, 2), pos, edges)
    with pytest.raises(ShapeError, match="edge_attr"):
        network(torch.randn(3, 2), pos, edges, torch.randn(2, 1), vel=pos)
