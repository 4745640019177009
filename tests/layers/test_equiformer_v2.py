"""EquiformerV2's block: the contract of a layer, the attention's formula, and cutoffs."""

import pytest
import torch
from torch import nn

from geoattn.errors import ShapeError
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.geometry.wigner import wigner_d
from geoattn.kernels import Neighborhood, as_neighborhood
from geoattn.layers import EquiformerV2Block
from geoattn.layers.equiformer_v2_attention import EquiformerV2Attention, attention_weights
from geoattn.testing import LayerContract, Spec

F64 = torch.float64


def turn(x, rotation):
    return torch.block_diag(*wigner_d(rotation, round(x.shape[1] ** 0.5) - 1)) @ x


class OfPositions(nn.Module):
    """A block as a function of positions and of edge scalars in the caller's order."""

    def __init__(self, block, cutoff):
        super().__init__()
        self.block, self.cutoff = block, cutoff

    def forward(self, x, pos, edge_index, edge_scalars):
        nbr = as_neighborhood(edge_index, pos.shape[0])
        return self.block(x, EdgeBasis.build(pos, nbr, self.cutoff), nbr.to_csr_order(edge_scalars))


def check_second_derivatives(fn, arguments):
    """One random derivative of the gradient by everything against finite differences.

    `gradgradcheck` takes every pair of the thirty parameters, which is minutes.
    """
    arguments = [a.detach() for a in arguments]
    along, across = ([torch.randn_like(a) for a in arguments] for _ in range(2))

    def slope(step, create_graph=False):
        leaves = [(a + step * v).requires_grad_() for a, v in zip(arguments, along, strict=True)]
        value = sum(output.sin().sum() for output in fn(*leaves))
        gradients = torch.autograd.grad(value, leaves, create_graph=create_graph)
        return sum((g * w).sum() for g, w in zip(gradients, across, strict=True)), leaves

    value, leaves = slope(0.0, create_graph=True)
    second = torch.autograd.grad(value, leaves)
    exact = sum((g * v).sum() for g, v in zip(second, along, strict=True))
    step = 1e-5
    torch.testing.assert_close(exact, (slope(step)[0] - slope(-step)[0]) / (2 * step), rtol=1e-5, atol=1e-6)


class BlockContract(LayerContract):
    in_specs = {
        "x": Spec(lambda x, element: turn(x, element.rotation), "node"),
        "pos": "position/node",
        "edge_index": "edge_index",
        "edge_scalars": "invariant/edge",
    }
    out_specs = {"x": Spec(lambda x, element: turn(x, element.rotation), "node")}
    group = "SE(3)"

    def test_gradients(self):
        """Covered by the second ones, in a tenth of the time."""

    def test_second_gradients(self):
        check_second_derivatives(*self._differentiable(self._random(num_nodes=5, num_edges=9)))

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 9, 4),
            "pos": graph.pos,
            "edge_index": graph.edge_index,
            "edge_scalars": graph.randn(graph.num_edges, 3),
        }


class TestBlock(BlockContract):
    compiles = True

    def layer(self):
        return OfPositions(EquiformerV2Block(4, lmax=2, mmax=2, num_heads=2, edge_channels=3, alpha_channels=4), 4.0)


class TestTruncatedBlockWithoutCutoff(BlockContract):
    def layer(self):
        block = EquiformerV2Block(
            4,
            lmax=2,
            mmax=1,
            num_heads=3,
            edge_channels=3,
            hidden_channels=5,
            value_channels=2,
            ffn_channels=3,
            max_edges=4,  # several targets, one target, or one target with more edges than that, at a time
        )
        return OfPositions(block, None)


class TestBlockOnTheSphere(BlockContract):
    tolerance = 1e-2  # of the grid, for the largest of many entries

    def layer(self):
        block = EquiformerV2Block(
            4,
            lmax=2,
            mmax=2,
            num_heads=2,
            edge_channels=3,
            alpha_channels=4,
            activation="separable_s2",
            grid_resolution=18,
        )
        return OfPositions(block, 4.0)


def test_reflections_are_not_a_symmetry():
    """The imaginary parts are odd: a reflection is noticed."""
    block = TestBlock().layer().double()
    x, pos = torch.randn(4, 9, 4, dtype=F64), torch.randn(4, 3, dtype=F64)
    edge_index, scalars = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), torch.randn(4, 3, dtype=F64)
    parity = torch.tensor([1.0] + 3 * [-1.0] + 5 * [1.0], dtype=F64)[:, None]
    mirrored = block(parity * x, -pos, edge_index, scalars)
    assert (mirrored - parity * block(x, pos, edge_index, scalars)).abs().max() > 0.01


def test_attention_is_its_formula():
    """Edge by edge, with full matrices, plain softmax and sums."""
    attention = EquiformerV2Attention(
        4, 5, lmax=2, mmax=1, num_heads=2, edge_channels=3, hidden_channels=6, alpha_channels=4, value_channels=3
    ).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(0, 0.3)
    x, pos, scalars = torch.randn(3, 9, 4, dtype=F64), torch.randn(3, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
    edges = [(1, 0), (2, 0), (0, 1), (2, 1), (1, 2)]
    basis = EdgeBasis.build(pos, Neighborhood.from_edge_index(torch.tensor(edges).T, 3), cutoff=4.0)
    frame = basis.frame(2, 1)
    values, logits = [], []
    for e, (source, target) in enumerate(edges):
        z = frame.rotation[e : e + 1] @ torch.cat([x[source], x[target]], dim=1)
        y, extra = attention.message_in(z, scalars[e : e + 1])
        alpha, gates = extra[:, :8].view(2, 4), extra[0, 8:].view(2, 6)
        factors = torch.stack([y[0, 0].sigmoid(), *gates.sigmoid()])
        value = attention.message_out(y * factors[[0, 1, 2, 1, 2, 1, 2]])
        values.append((frame.rotation[e].T @ value[0]).view(9, 2, 3))
        normal = nn.functional.layer_norm(
            alpha, (4,), attention.alpha_norm.weight, attention.alpha_norm.bias, attention.alpha_norm.eps
        )
        smooth = 0.6 * normal + 0.4 * normal * (2 * normal.sigmoid() - 1)  # the paper's smooth leaky ReLU, s = 0.2
        logits.append((smooth * attention.alpha_weight).sum(1))
    summed = torch.zeros(3, 9, 2, 3, dtype=F64)
    for target in range(3):
        into = [e for e, edge in enumerate(edges) if edge[1] == target]
        weights = torch.stack([basis.weight[e] * logits[e].exp() for e in into])
        for e, weight in zip(into, weights / weights.sum(0), strict=True):
            summed[target] += basis.weight[e] * weight[:, None] * values[e]
    torch.testing.assert_close(attention(x, basis, scalars), attention.out(summed.flatten(2)))


def test_attention_weights_with_equal_envelopes_are_a_softmax():
    nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 1]]), 3)
    logits = torch.randn(3, 2, dtype=F64)
    weights = attention_weights(logits, torch.full((3,), 0.5, dtype=F64), nbr)
    expected = torch.cat([logits[:2].softmax(0), torch.ones(1, 2, dtype=F64)]) / 2
    torch.testing.assert_close(weights, expected)


def test_envelope_zero_sends_and_takes_nothing():
    nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 1]]), 3)
    logits = torch.tensor([[-80.0], [80.0], [5.0]], dtype=F64, requires_grad=True)
    envelope = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
    weights = attention_weights(logits, envelope, nbr)
    assert weights.flatten().tolist() == [1.0, 0.0, 0.0]
    (first,) = torch.autograd.grad(weights.square().sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad((first + logits).square().sum(), logits)
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("gap", [0.3, 1e-2, 1e-4, 1e-6, 1e-9, 0.0])
def test_attention_weights_near_the_cutoff_have_two_finite_derivatives(gap, dtype):
    """The envelope falls like the third power of the gap; its logarithm's derivatives grow without bound."""
    nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 1], [0, 0, 2]]), 3)
    gaps = torch.tensor([gap, 2 * gap, gap], dtype=dtype, requires_grad=True)
    weights = attention_weights(torch.zeros(3, 1, dtype=dtype), gaps**3, nbr)
    (first,) = torch.autograd.grad(weights.sum(), gaps, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), gaps)
    assert torch.isfinite(first).all() and torch.isfinite(second).all()
    # by hand: weights a^6 / (a^3 + b^3), b^6 / (a^3 + b^3) and c^3, with a = c = gap, b = 2 gap
    expected = torch.tensor([(6 - 3 * 65 / 9) / 9, (6 * 32 - 12 * 65 / 9) / 9, 3.0], dtype=dtype) * gap**2
    visible = gap**3 > torch.finfo(dtype).tiny ** 0.4
    torch.testing.assert_close(first, expected if visible else torch.zeros_like(first), rtol=1e-3, atol=1e-8)


def test_channels_must_fill_the_heads():
    with pytest.raises(ShapeError, match="channels: got 10, expected a multiple of num_heads = 4"):
        EquiformerV2Block(10, lmax=1, mmax=1, num_heads=4, edge_channels=3)
    with pytest.raises(ShapeError, match="activation: got 'gates'"):
        EquiformerV2Block(8, lmax=1, mmax=1, num_heads=4, edge_channels=3, activation="gates")
