"""EquivariantGATLayer: the contract, a loop over nodes, broken symmetry, coincident points, errors."""

import pytest
import torch
from torch.nn import functional

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers.egnn import edge_geometry
from geoattn.layers.equivariant_gat import EquivariantGATLayer
from geoattn.layers.self_loops import with_self_loops
from geoattn.testing import LayerContract, assert_equivariant

F64 = torch.float64
IN_SPECS = {"x": "invariant/node", "pos": "position/node", "edge_index": "edge_index", "edge_attr": "invariant/edge"}
OUT_SPECS = {"x": "invariant/node", "pos": "position/node"}


class TestContract(LayerContract):
    in_specs = IN_SPECS
    out_specs = OUT_SPECS
    group = "E(3)"
    second_derivatives = True
    compiles = True

    def layer(self):
        return EquivariantGATLayer(5, 6, num_heads=2, edge_channels=2, step_channels=4, act="silu")

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 5),
            "pos": graph.pos,
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 2),
        }


class TestContractAsInThePaper(TestContract):
    group = "E(2)"

    def layer(self):
        options = {"hidden_channels": 3, "step_channels": 4, "tanh": True, "pos_aggr": "sum"}
        return EquivariantGATLayer(5, num_heads=2, head_channels=4, edge_channels=2, **options)


def make(**options):
    torch.manual_seed(0)
    layer = EquivariantGATLayer(5, 6, num_heads=2, step_channels=4, **options).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


def graph(num_edges=18):
    torch.manual_seed(1)
    return {
        "x": torch.randn(6, 5, dtype=F64),
        "pos": torch.randn(6, 3, dtype=F64),
        "edge_index": torch.randint(0, 5, (2, num_edges)),  # node 5 is isolated; some edges are self loops
        "edge_attr": torch.randn(num_edges, 2, dtype=F64),
    }


def one_node_at_a_time(layer, x, pos, edge_index, edge_attr):
    """The docstring's formula; the message of an edge is the concatenation over heads."""
    act = functional.silu if layer.act == "silu" else lambda t: functional.leaky_relu(t, 0.2)
    heads, rows, places = layer.num_heads, [], []
    for i in range(len(x)):
        edges = (edge_index[1] == i).nonzero()[:, 0]
        j = edge_index[0, edges]
        r = pos[i] - pos[j]
        edge = torch.cat([edge_attr[edges], r.square().sum(-1, keepdim=True)], -1)
        hidden = act(layer.target(x[i]) + layer.source(x[j]) + layer.edge(edge)).unflatten(-1, (heads, -1))
        alpha = (hidden * layer.score).sum(-1).softmax(0)
        message = (alpha[:, :, None] * layer.value(x[j]).unflatten(-1, (heads, -1))).flatten(1)
        rows.append(layer.out(message.sum(0)).relu())
        phi = layer.step_out(functional.gelu(layer.step_in(message)))
        phi = phi.tanh() if layer.tanh else phi
        step = (phi * r).sum(0)
        if layer.pos_aggr == "mean":
            step = step / max(int((j != i).sum()), 1)
        places.append(pos[i] + step)
    return torch.stack(rows), torch.stack(places)


@pytest.mark.parametrize("options", [{}, {"act": "silu", "tanh": True, "pos_aggr": "sum", "hidden_channels": 5}])
def test_agrees_with_a_loop_over_nodes(options):
    layer, inputs = make(edge_channels=2, **options), graph()
    torch.testing.assert_close(layer(**inputs), one_node_at_a_time(layer, **inputs))


def test_signed_coordinates_as_scalars_break_the_symmetry():
    """What the code of the paper does: a signed difference where the squared distance belongs."""

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = make(edge_channels=2)

        def forward(self, x, pos, edge_index, edge_attr):
            nbr = as_neighborhood(edge_index, len(x))
            geometry = edge_geometry(pos, nbr)
            geometry = geometry._replace(radial=geometry.vector[:, :1])
            return self.layer(x, pos, nbr, edge_attr, geometry=geometry)

    inputs = graph()
    inputs["edge_index"], inputs["edge_attr"] = with_self_loops(inputs["edge_index"], 6, inputs["edge_attr"])
    with pytest.raises(AssertionError, match="rotation|reflection"):
        assert_equivariant(Broken(), inputs, group="O(3)", in_specs=IN_SPECS, out_specs=OUT_SPECS)
    assert_equivariant(make(edge_channels=2), inputs, group="E(3)", in_specs=IN_SPECS, out_specs=OUT_SPECS)


def test_distances_to_an_origin_break_translations():
    """The other half of what that code does: one number per atom instead of three."""

    def collapsed(x, pos, edge_index, edge_attr):
        x_out, _ = layer(x, pos.norm(dim=-1, keepdim=True), edge_index, edge_attr)
        return x_out

    layer, inputs = make(edge_channels=2), graph()
    specs = {"in_specs": IN_SPECS, "out_specs": {"x": "invariant/node"}}
    assert_equivariant(collapsed, inputs, group="O(3)", **specs)
    with pytest.raises(AssertionError):
        assert_equivariant(collapsed, inputs, group="T(3)", **specs)


@pytest.mark.parametrize("act", ["silu", "leaky_relu"])
def test_second_derivatives_at_coincident_points(act):
    layer, inputs = make(edge_channels=2, act=act), graph()
    pos = torch.zeros(6, 3, dtype=F64, requires_grad=True)
    x_out, pos_out = layer(inputs["x"], pos, inputs["edge_index"], inputs["edge_attr"])
    (force,) = torch.autograd.grad(x_out.square().sum() + (pos_out**3).sum(), pos, create_graph=True)
    second = torch.autograd.grad(force.square().sum() + force.sum(), [pos, *layer.parameters()], allow_unused=True)
    assert force.isfinite().all()
    assert all(g.isfinite().all() for g in second if g is not None) and second[0] is not None


def test_invariant_without_steps_and_dropout_acts():
    layer, inputs = make(edge_channels=2, update_pos=False, dropout=0.5), graph()
    x_out, pos_out = layer(**inputs)
    assert pos_out is inputs["pos"]
    assert not torch.equal(layer.train()(**inputs)[0], x_out)


def test_an_isolated_node_and_one_with_a_loop():
    layer, inputs = make(), graph()
    x, pos = inputs["x"], inputs["pos"]
    x_out, pos_out = layer(x, pos, torch.empty(2, 0, dtype=torch.long))
    torch.testing.assert_close(x_out, layer.out.bias.relu().expand(6, -1))
    torch.testing.assert_close(pos_out, pos)
    x_out, pos_out = layer(x, pos, with_self_loops(torch.empty(2, 0, dtype=torch.long), 6)[0])
    torch.testing.assert_close(x_out, layer.out(layer.value(x)).relu())
    torch.testing.assert_close(pos_out, pos)


def test_wrong_arguments_are_named():
    layer, inputs = make(), graph()
    x, pos, edges = inputs["x"], inputs["pos"], inputs["edge_index"]
    geometry = edge_geometry(pos, Neighborhood.from_edge_index(edges, 6))
    for message, call in {
        "num_heads: got 0": lambda: EquivariantGATLayer(4, num_heads=0),
        "pos_aggr: got 'max'": lambda: EquivariantGATLayer(4, pos_aggr="max"),
        "act: got 'relu'": lambda: EquivariantGATLayer(4, act="relu"),
        "x: got shape (6, 3)": lambda: layer(pos, pos, edges),
        "pos: got shape (5, 3)": lambda: layer(x, pos[:5], edges),
        "edge_attr: got shape (18, 2)": lambda: layer(**inputs),
        "radial: got 3": lambda: layer(x, pos, edges, geometry=geometry._replace(radial=geometry.vector)),
        "geometry: got 17 rows": lambda: layer(x, pos, edges, geometry=geometry._replace(radial=geometry.radial[1:])),
    }.items():
        with pytest.raises(ShapeError) as error:
            call()
        assert message in str(error.value)
