"""Linear map, normalisation and activations of features [N, (L+1)^2, C]."""

import pytest
import torch
from torch import nn

from geoattn.errors import ShapeError
from geoattn.geometry.edge_frame import EdgeFrame
from geoattn.geometry.wigner import wigner_d
from geoattn.layers import GateActivation, S2Activation, SeparableS2Activation, SO3LayerNorm, SO3Linear
from geoattn.layers.so2_conv import join_m, split_m
from geoattn.testing import LayerContract, Spec, random_orthogonal

F64 = torch.float64


def turn(x, rotation):
    """Features under a rotation, mirrored with the parity (-1)^l if it mirrors."""
    sign = torch.linalg.det(rotation).sign()
    lmax = round(x.shape[1] ** 0.5) - 1
    blocks = [sign**degree * matrix for degree, matrix in enumerate(wigner_d(sign * rotation, lmax))]
    return torch.block_diag(*blocks) @ x


class DegreesContract(LayerContract):
    """A layer of features of degrees 0..2, node by node."""

    in_specs = {"x": Spec(lambda x, element: turn(x, element.rotation), "node")}
    out_specs = {"y": Spec(lambda y, element: turn(y, element.rotation), "node")}
    group = "O(3)"
    second_derivatives = True
    compiles = True

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 9, 4)}


class TestLinear(DegreesContract):
    def layer(self):
        return SO3Linear(2, 4, 5)


class TestLayerNorm(DegreesContract):
    def layer(self):
        return SO3LayerNorm(2, 4)


class TestGate(DegreesContract):
    in_specs = {**DegreesContract.in_specs, "scalars": "invariant/node"}

    def layer(self):
        return GateActivation(2, 4)

    def inputs(self, graph):
        return {**super().inputs(graph), "scalars": graph.randn(graph.num_nodes, 8)}


class TestS2(DegreesContract):
    tolerance = 2e-3  # of the quadrature; for the largest of many entries

    def layer(self):
        return S2Activation(2, resolution=14)


class TestSeparableS2(DegreesContract):
    in_specs = {**DegreesContract.in_specs, "scalars": "invariant/node"}
    tolerance = 2e-3

    def layer(self):
        return SeparableS2Activation(2, 4, resolution=14)

    def inputs(self, graph):
        return {**super().inputs(graph), "scalars": graph.randn(graph.num_nodes, 4)}


def test_linear_is_one_matrix_per_degree():
    layer = SO3Linear(2, 3, 2).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(4, 9, 3, dtype=F64)
    y = layer(x)
    for degree in range(3):
        for row in range(degree**2, (degree + 1) ** 2):
            expected = x[:, row] @ layer.weight[degree].T + (layer.bias if degree == 0 else 0)
            torch.testing.assert_close(y[:, row], expected)


def test_layer_norm_is_its_formula():
    layer = SO3LayerNorm(3, 5).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(4, 16, 5, dtype=F64)
    y = layer(x)
    scalars = nn.functional.layer_norm(x[:, 0], (5,), layer.weight[0], layer.bias, 1e-5)
    torch.testing.assert_close(y[:, 0], scalars)
    power = sum(x[:, l * l : (l + 1) ** 2].square().sum(1).mean(1) / (2 * l + 1) for l in (1, 2, 3)) / 3  # noqa: E741
    for degree in (1, 2, 3):
        for row in range(degree**2, (degree + 1) ** 2):
            expected = x[:, row] / (power + 1e-5).sqrt()[:, None] * layer.weight[degree]
            torch.testing.assert_close(y[:, row], expected)


def test_layer_norm_of_zero_has_finite_second_derivatives():
    x = torch.zeros(2, 9, 3, dtype=F64, requires_grad=True)
    (first,) = torch.autograd.grad(SO3LayerNorm(2, 3).double()(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first + x).square().sum(), x)
    assert torch.isfinite(first).all() and torch.isfinite(second).all()


def test_gate_is_silu_and_sigmoids():
    x, gates = torch.randn(4, 9, 3, dtype=F64), torch.randn(4, 6, dtype=F64)
    y = GateActivation(2, 3)(x, gates)
    torch.testing.assert_close(y[:, 0], nn.functional.silu(x[:, 0]))
    torch.testing.assert_close(y[:, 1:4], x[:, 1:4] * gates[:, None, :3].sigmoid())
    torch.testing.assert_close(y[:, 4:], x[:, 4:] * gates[:, None, 3:].sigmoid())


@pytest.mark.parametrize("mmax", [0, 1, 3])
@pytest.mark.parametrize("kind", [GateActivation, SeparableS2Activation])
def test_activations_in_the_frame_of_an_edge(kind, mmax):
    """On rows |m| <= M in the edge's frame they do what they do on all rows of which the others are zero."""
    options = {} if kind is GateActivation else {"resolution": 20}
    whole = kind(3, 2, **options)
    framed = whole if kind is GateActivation else kind(3, 2, mmax=mmax, **options)
    north = torch.tensor([[0.0, 1.0, 0.0]], dtype=F64).expand(5, 3)
    frame = EdgeFrame.build(north, 3, mmax)  # its rotation only reorders and drops rows
    z = torch.randn(5, frame.rotation.shape[1], 2, dtype=F64)
    scalars = torch.randn(5, whole.num_scalars, dtype=F64)
    expected = frame.rotate(whole(frame.rotate_back(z), scalars))
    torch.testing.assert_close(join_m(framed.forward_blocks(split_m(z, 3, mmax), scalars)), expected)


MEASURED = {  # relative errors of methods/escn_equiformer_v2.md, section 4
    (2, 14): 6.4e-5,
    (2, 18): 6.5e-6,
    (4, 14): 6.3e-3,
    (4, 18): 1.9e-3,
    (4, 36): 1.5e-6,
    (6, 14): 8e-2,
    (6, 18): 2.4e-2,
    (6, 26): 1.1e-3,
}


@pytest.mark.parametrize("lmax", [2, 4, 6])
def test_error_of_the_grid_falls_as_measured(lmax):
    x = torch.randn(100, (lmax + 1) ** 2, 1, dtype=F64)
    rotation = random_orthogonal(3)
    errors = []
    for resolution, published in sorted((r, error) for (degree, r), error in MEASURED.items() if degree == lmax):
        layer = S2Activation(lmax, resolution=resolution)
        difference = layer(turn(x, rotation)) - turn(layer(x), rotation)
        errors.append(float(difference.norm() / layer(x).norm()))
        assert errors[-1] < 1.5 * published
    assert errors == sorted(errors, reverse=True)


def test_variance_is_kept():
    x = torch.randn(2000, 9, 16)
    with torch.no_grad():
        for layer in (SO3Linear(2, 16, 16), SO3LayerNorm(2, 16)):
            per_degree = [layer(x)[:, l * l : (l + 1) ** 2].square().mean() for l in range(3)]  # noqa: E741
            torch.testing.assert_close(torch.stack(per_degree), torch.ones(3), atol=0.25, rtol=0)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match=r"x: got shape \(4, 9, 2\), expected \[N, \(lmax\+1\)\^2 = 9, 3 channels\]"):
        SO3Linear(2, 3, 5)(torch.zeros(4, 9, 2))
    with pytest.raises(ShapeError, match="x: got shape"):
        SO3LayerNorm(2, 3)(torch.zeros(4, 4, 3))
    with pytest.raises(ShapeError, match="at least 7, 13 for degrees up to 6"):
        S2Activation(6, resolution=12)
