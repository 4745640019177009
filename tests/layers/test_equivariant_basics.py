"""Linear map, normalisations and gate of packed irreps."""

import pytest
import torch
from e3nn import o3
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import InputError, ShapeError
from geoattn.layers import EquivariantLayerNorm, EquivariantLinear, Gate, NormNonlinearity
from geoattn.testing import LayerContract

IRREPS = "4x0e + 3x1o + 2x2e"


class PackedContract(LayerContract):
    """A layer of one packed input and one packed output, row by row."""

    out_specs = {"y": f"{IRREPS}/node"}
    group = "O(3)"
    second_derivatives = True
    compiles = True

    @property
    def in_specs(self):
        return {"x": f"{self.layer().irreps_in}/node"}

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, self.layer().irreps_in.dim)}


class TestLinear(PackedContract):
    def layer(self):
        return EquivariantLinear("3x1o + 2x0e + 2x2e + 1x3o + 1x0e", IRREPS)


class TestLayerNorm(PackedContract):
    def layer(self):
        layer = EquivariantLayerNorm(IRREPS)
        layer.irreps_in = layer.irreps
        return layer


class TestNormNonlinearity(PackedContract):
    second_derivatives = False  # ReLU has none

    def layer(self):
        layer = NormNonlinearity(IRREPS)
        layer.irreps_in = layer.irreps
        return layer


class TestGate(PackedContract):
    def layer(self):
        return Gate(IRREPS)


def blocks(x, irreps):
    irreps = o3.Irreps(irreps)
    return [
        (ir.l, x[..., place].unflatten(-1, (mul, ir.dim)))
        for (mul, ir), place in zip(irreps, irreps.slices(), strict=True)
    ]


# EquivariantLinear


def test_linear_equals_e3nn():
    """e3nn's linear map with the same matrices (its paths are scaled by 1 / sqrt(C_in))."""
    irreps_in, irreps_out = "3x0e + 2x1o", "2x1o + 4x0e + 1x2e"
    layer, reference = EquivariantLinear(irreps_in, irreps_out, bias=False), o3.Linear(irreps_in, irreps_out)
    with torch.no_grad():
        for _, instruction, theirs in reference.weight_views(yield_instruction=True):
            ours = layer.weight[str(reference.irreps_in[instruction.i_in].ir.l)]
            theirs.copy_(ours.T * ours.shape[1] ** 0.5)
    x = torch.randn(7, 9)
    torch.testing.assert_close(layer(x), reference(x))


def test_linear_keeps_the_variance():
    layer = EquivariantLinear("40x0e + 500x1o + 100x2e + 60x0e", "200x0e + 100x1o + 50x2e")
    y = layer(torch.randn(400, layer.irreps_in.dim)).detach()
    for _, block in blocks(y, layer.irreps_out):
        assert abs(float(block.var()) - 1) < 0.1


def test_linear_fills_missing_degrees_with_zeros():
    layer = EquivariantLinear("2x1o", "3x0e + 1x1o + 2x2e")
    torch.nn.init.normal_(layer.bias)
    y = layer(torch.randn(5, 6))
    (_, scalars), (_, vectors), (_, tensors) = blocks(y, layer.irreps_out)
    assert torch.equal(scalars[..., 0], layer.bias.expand(5, -1)) and not tensors.any() and vectors.any()
    assert EquivariantLinear("2x1o", "3x0e", bias=False)(torch.randn(5, 6)).eq(0).all()
    assert EquivariantLinear("2x0e", "1x1o").bias is None


def test_linear_of_other_shapes():
    layer = EquivariantLinear("2x0e + 1x1o", "1x0e + 2x1o")
    x = torch.randn(4, 3, 5)
    torch.testing.assert_close(layer(x)[2], layer(x[2]))
    assert layer(x[:0]).shape == (0, 3, 7)


# EquivariantLayerNorm


def test_norm_is_the_formula():
    layer, x = EquivariantLayerNorm(IRREPS), torch.randn(6, 23) * 3
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    (_, scalars), *higher = blocks(x, IRREPS)
    scalars = scalars[..., 0]
    centred = scalars - scalars.mean(-1, keepdim=True)
    expected = [centred / (scalars.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * layer.weight["0"] + layer.bias]
    power = sum(part.square().sum((-2, -1)) / ((2 * degree + 1) * part.shape[-2]) for degree, part in higher) / 2
    for degree, part in higher:
        scaled = part / (power + 1e-5).sqrt()[:, None, None] * layer.weight[str(degree)][:, None]
        expected.append(scaled.flatten(1))
    torch.testing.assert_close(layer(x), torch.cat(expected, dim=1))


def test_norm_does_not_depend_on_size_and_keeps_degrees_in_proportion():
    layer, x = EquivariantLayerNorm("8x0e + 4x1o + 2x3o", eps=1e-12), torch.randn(5, 34, dtype=torch.float64)
    layer.double()
    torch.testing.assert_close(layer(1e3 * x), layer(x))
    (_, scalars), (_, vectors), (_, tensors) = blocks(layer(x), layer.irreps)
    torch.testing.assert_close(scalars.square().mean((-2, -1)), torch.ones(5).double())
    both = vectors.square().mean((-2, -1)) + tensors.square().mean((-2, -1))
    torch.testing.assert_close(both, torch.full((5,), 2.0).double())
    before = [part.square().sum() for _, part in blocks(x[:1], layer.irreps)]
    torch.testing.assert_close(vectors[0].square().sum() / tensors[0].square().sum(), before[1] / before[2])


@pytest.mark.parametrize("irreps", ["3x0e", "2x1o", "1x0e + 1x1o"])
def test_norm_of_few_irreps(irreps):
    layer = EquivariantLayerNorm(irreps)
    assert layer(torch.randn(4, layer.irreps.dim)).isfinite().all()


def test_norm_is_smooth_at_zero():
    layer = EquivariantLayerNorm("2x0e + 2x1o", eps=1e-2).double()
    zero = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(layer, zero) and gradgradcheck(lambda x: layer(x).pow(3).sum(), zero)
    assert not layer(zero).any()


def test_norm_of_large_16_bit_features():
    y = EquivariantLayerNorm("4x0e + 4x1o")(
        torch.full((1, 16), 6e4, dtype=torch.float16).index_fill(1, torch.tensor(0), 0.0)
    )
    torch.testing.assert_close(y[:, 4:].float(), torch.ones(1, 12))


def test_norm_needs_a_floor():
    with pytest.raises(ShapeError, match=r"^eps: got 0"):
        EquivariantLayerNorm("4x0e", eps=0.0)


# NormNonlinearity


def test_norm_nonlinearity_is_the_formula():
    layer, x = NormNonlinearity(IRREPS), torch.randn(6, 23)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    expected = []
    for degree, part in blocks(x, IRREPS):
        norm = part.norm(dim=-1)
        normal = (norm - norm.mean(-1, keepdim=True)) / (norm.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        length = (normal * layer.weight[str(degree)] + layer.bias[str(degree)]).relu()
        expected.append((length / norm).unsqueeze(-1).mul(part).flatten(1))
    torch.testing.assert_close(layer(x), torch.cat(expected, dim=1))


def test_norm_nonlinearity_of_single_channels_is_alive():
    layer, x = NormNonlinearity("1x0e + 1x1o"), torch.randn(6, 4)
    torch.testing.assert_close(layer(x), x)
    assert NormNonlinearity("2x1o")(torch.randn(6, 6)).any()


def test_norm_nonlinearity_at_zero():
    layer = NormNonlinearity("2x0e + 2x1o")
    torch.nn.init.ones_(layer.bias["1"])
    x = torch.cat([torch.zeros(1, 8), torch.randn(1, 8)]).requires_grad_()
    x.data[1, 2:5] = 0
    y = layer(x)
    (first,) = torch.autograd.grad(y.pow(3).sum() + y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert not y[0].any() and not first[0].any() and not second[0].any()
    assert first.isfinite().all() and second.isfinite().all()


# Gate


def test_gate_is_the_formula():
    gate, x = Gate("1x1o + 3x0e + 2x2e"), torch.randn(6, 16 + 3)
    assert gate.irreps_in == o3.Irreps("1x1o + 3x0e + 2x2e + 3x0e") and gate.irreps_out == o3.Irreps("1x1o+3x0e+2x2e")
    gates = x[:, 16:].sigmoid()
    expected = [x[:, :3] * gates[:, :1], torch.nn.functional.silu(x[:, 3:6])]
    expected += [x[:, 6:11] * gates[:, 1:2], x[:, 11:16] * gates[:, 2:]]
    torch.testing.assert_close(gate(x), torch.cat(expected, dim=1))


def test_gate_without_scalars_or_without_others():
    x = torch.randn(4, 8)
    torch.testing.assert_close(Gate("2x1o")(x), x[:, :6] * x[:, 6:].sigmoid().repeat_interleave(3, dim=1))
    torch.testing.assert_close(Gate("8x0e")(x), torch.nn.functional.silu(x))


# all


@pytest.mark.parametrize(
    "build", [EquivariantLayerNorm, NormNonlinearity, Gate, lambda i: EquivariantLinear(i, "1x0e")]
)
def test_arguments_that_do_not_fit_are_named(build):
    layer = build("2x0e + 1x1o")
    with pytest.raises(ShapeError, match=r"^x: got shape \(3, 4\), expected \[\.\.\., [56]\], packed 2x0e\+1x1o"):
        layer(torch.randn(3, 4))
    with pytest.raises(InputError, match=r"^irreps.*'2q'"):
        build("2q")
