"""SE3TransformerLayer: against a dense masked softmax, its symmetry, its derivatives and its edge cases."""

import pytest
import torch

from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood
from geoattn.layers.padded_degrees import to_padded
from geoattn.layers.se3_transformer import SE3TransformerLayer
from geoattn.testing import LayerContract

F64 = torch.float64
UNEQUAL = "3x0e + 2x1o + 1x3o"


def graph(num_nodes=6, num_edges=18, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(0, num_nodes, (num_edges,), generator=generator)
    target = (source + torch.randint(1, num_nodes, (num_edges,), generator=generator)) % num_nodes
    return torch.stack([source, target])


def layer_of(irreps_in=UNEQUAL, irreps_out="2x0e + 4x1o + 1x2e", **options):
    torch.manual_seed(0)
    return SE3TransformerLayer(irreps_in, irreps_out, **options).double()


def packed_heads(x, columns, num_heads):
    """Padded ``[N, S, C]`` -> per degree ``[N, 2l+1, H, channels]``, without the padding."""
    return {
        degree: x[:, degree**2 : (degree + 1) ** 2, of].unflatten(2, (num_heads, -1))
        for degree, of in columns.of.items()
    }


def dense(layer, x, basis, edge_attr):
    """Attention written out: one softmax per head over the logits summed over degrees, masked, over all edges."""
    padded = to_padded(x, layer.layout_in)
    messages = layer.conv(padded, basis, edge_attr).mT
    keys, values = messages.split([layer.columns_key.width, layer.columns_value.width], dim=2)
    key, value = (
        packed_heads(part, columns, layer.num_heads)
        for part, columns in ((keys, layer.columns_key), (values, layer.columns_value))
    )
    query = packed_heads(layer.query(padded), layer.columns_key, layer.num_heads)
    nbr = basis.nbr
    logits = sum(torch.einsum("emhc,emhc->eh", query[degree][nbr.target], key[degree]) for degree in key)
    logits = logits * layer.scale
    incoming = nbr.target[None, :] == torch.arange(len(x))[:, None]
    masked = logits[None].masked_fill(~incoming[:, :, None], -torch.inf)
    weights = torch.softmax(masked, dim=1).nan_to_num(0.0)
    received = torch.zeros(len(x), messages.shape[1], layer.columns_value.width, dtype=x.dtype)
    for degree, part in value.items():
        rows = slice(degree**2, (degree + 1) ** 2)
        received[:, rows, layer.columns_value.of[degree]] = torch.einsum("neh,emhc->nmhc", weights, part).flatten(2)
    return received


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("irreps_in", [UNEQUAL, "2x0e + 2x1o + 2x2e", "1x2e"])
def test_equals_dense_masked_softmax(num_heads, irreps_in):
    layer = layer_of(irreps_in, num_heads=num_heads, edge_channels=1)
    x, pos, edge_attr = torch.randn(7, layer.layout_in.dim, dtype=F64), torch.randn(7, 3, dtype=F64), torch.randn(18, 1)
    nbr = Neighborhood.from_edge_index(graph(), 7)  # node 6 has no edges
    basis = EdgeBasis.build(pos, nbr)
    seen = {}
    layer.out.register_forward_pre_hook(lambda module, inputs: seen.update(received=inputs[0]))
    layer(x, pos, nbr, edge_attr.double())
    expected = dense(layer, x, basis, nbr.to_csr_order(edge_attr.double()))
    torch.testing.assert_close(seen["received"], expected, atol=1e-12, rtol=1e-12)
    assert (seen["received"][6] == 0).all()


class TestContract(LayerContract):
    in_specs = {
        "x": f"{UNEQUAL}/node",
        "pos": "position/node",
        "edge_index": "edge_index",
        "edge_attr": "invariant/edge",
    }
    out_specs = {"x": "2x0e + 4x1o + 1x2e/node"}
    group = "SE(3)"
    second_derivatives = True
    compiles = True

    def layer(self):
        return SE3TransformerLayer(UNEQUAL, "2x0e + 4x1o + 1x2e", num_heads=2, edge_channels=2)

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 16),
            "pos": graph.pos,
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 2),
        }


class TestContractWithReflectionsAndCutoff(TestContract):
    in_specs = {"x": f"{UNEQUAL}/node", "pos": "position/node", "edge_index": "edge_index"}
    group = "E(3)"
    compiles = False

    def layer(self):
        return SE3TransformerLayer(UNEQUAL, "2x0e + 4x1o + 1x2e", reflections=True, self_interaction="sum", cutoff=3.0)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 16), "pos": graph.pos, "edge_index": graph.edge_index}
