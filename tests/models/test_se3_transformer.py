"""SE3Transformer with each of its kernels: symmetry per degree, derivatives of energies, envelope, contract."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geoattn.errors import ShapeError
from geoattn.layers import tensor_field_orders
from geoattn.layers.depthwise_conv import DepthwiseConv
from geoattn.layers.so2_tensor_field_conv import SO2TensorFieldConv
from geoattn.layers.tensor_field_conv import TensorFieldConv
from geoattn.models import IterativeSE3Transformer, SE3Transformer
from geoattn.testing import LayerContract, equivariance_error

F64 = torch.float64
KERNELS = {"full": TensorFieldConv, "depthwise": DepthwiseConv, "so2": SO2TensorFieldConv}
HIDDEN = "4x0e + 3x1o + 2x2e + 2x3o"
OUT = "2x0e + 1x1o + 1x2e + 1x3o"
SPECS = {"x": "2x0e + 1x1o/node", "pos": "position/node", "edge_index": "edge_index"}


def model_of(irreps_out=OUT, num_layers=1, **options):
    torch.manual_seed(0)
    return SE3Transformer("2x0e + 1x1o", HIDDEN, irreps_out, num_layers=num_layers, **options)


def inputs(dtype=F64, num_nodes=7, num_edges=20):
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(0, num_nodes, (num_edges,), generator=generator)
    target = (source + torch.randint(1, num_nodes, (num_edges,), generator=generator)) % num_nodes
    return {
        "x": torch.randn(num_nodes, 5, dtype=F64, generator=generator).to(dtype),
        "pos": torch.randn(num_nodes, 3, dtype=F64, generator=generator).to(dtype),
        "edge_index": torch.stack([source, target]),
    }


def symmetry_error(model, out, group, dtype=F64):
    found = equivariance_error(model, inputs(dtype), in_specs=SPECS, out_specs={"y": f"{out}/node"}, group=group)
    return float(found)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("out", ["3x0e", "2x1o", "1x2e", "1x3o"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-10), (torch.float32, 2e-5)], ids=["float64", "float32"])
def test_every_degree_is_equivariant(kernel, out, dtype, tolerance):
    assert symmetry_error(model_of(out, kernel=kernel).to(dtype), out, "SE(3)", dtype) < tolerance


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("reflections", [False, True])
def test_reflections_hold_if_and_only_if_asked(kernel, reflections):
    error = symmetry_error(model_of(kernel=kernel, reflections=reflections).double(), OUT, "E(3)")
    assert error < 1e-10 if reflections else error > 1e-3


def test_attentive_self_interaction_is_equivariant():
    assert symmetry_error(model_of(self_interaction="attentive").double(), OUT, "SE(3)") < 1e-10


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_broken_kernel_is_noticed(kernel):
    model = model_of(kernel=kernel).double()

    def broken(module, args, messages):
        return messages * torch.linspace(1, 2, messages.shape[2], dtype=messages.dtype)

    model.layers[0].conv.register_forward_hook(broken)
    assert symmetry_error(model, OUT, "SE(3)") > 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_layer_has_the_kernel_that_was_asked_for(kernel):
    models = IterativeSE3Transformer("1x0e", HIDDEN, num_iterations=1, num_layers=1, kernel=kernel).passes
    for model in (model_of(kernel=kernel), *models):
        assert {type(layer.conv) for layer in (*model.layers, model.last)} == {KERNELS[kernel]}


@pytest.mark.parametrize(
    ("kernel", "order"),
    [("full", None), ("full", "edge"), ("full", "source"), ("depthwise", None), ("so2", None)],
    ids=["full", "full, blocks of edges made again", "full, blocks of nodes made again", "depthwise", "so2"],
)
def test_forces_and_their_derivatives(monkeypatch, kernel, order):
    """Edges along each axis, two points at one place, a node without edges; then finite differences."""
    torch.manual_seed(0)
    model = SE3Transformer("1x0e", "1x0e + 2x1o", "1x0e", num_layers=1, radial_channels=4, kernel=kernel).double()
    if order is not None:
        monkeypatch.setattr(tensor_field_orders, "block_size", lambda like: 1)
        monkeypatch.setattr(TensorFieldConv, "_source_is_cheaper", lambda self, basis: order == "source")
    pos = torch.tensor([[0, 0, 0], [1.3, 0, 0], [0, -0.8, 0], [0, 0, 1.1], [0, 0, 0], [2, 2, 2]], dtype=F64)
    edges = torch.tensor([[1, 2, 3, 0, 4], [0, 0, 0, 1, 0]])
    x = torch.randn(6, 1, dtype=F64)

    def energy(pos):
        return model(x, pos, edges).square().sum()

    pos.requires_grad_()
    (first,) = torch.autograd.grad(energy(pos), pos, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), pos)
    assert torch.isfinite(first).all() and torch.isfinite(second).all() and first.abs().max() > 1e-6
    apart = pos.detach().clone()
    apart[4] = torch.tensor([0.3, 0.2, -0.4])  # the energy jumps where points meet
    apart.requires_grad_()
    assert gradcheck(energy, (apart,), atol=1e-6, rtol=1e-5, fast_mode=True)
    assert gradgradcheck(energy, (apart,), atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("kernel", KERNELS)
def test_envelope_lets_edges_leave_without_a_jump(kernel):
    model = model_of("1x0e", cutoff=2.0, kernel=kernel).double()
    x, edges = inputs()["x"][:3], torch.tensor([[1, 2], [0, 0]])

    def at(distance):
        return model(x, torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, distance, 0]], dtype=F64), edges)

    assert (at(2.0 - 1e-6) - at(2.0 + 1e-6)).abs().max() < 1e-9
    assert (at(1.5) - at(2.5)).abs().max() > 1e-4


class TestContract(LayerContract):
    in_specs = {**SPECS, "edge_attr": "invariant/edge"}
    out_specs = {"y": "1x0e + 2x1o/node"}
    group = "SE(3)"
    kernel = "full"

    def layer(self):
        return SE3Transformer(
            "2x0e + 1x1o",
            "2x0e + 2x1o",
            "1x0e + 2x1o",
            num_layers=1,
            num_heads=2,
            edge_channels=2,
            kernel=self.kernel,
            radial_channels=8,
            cutoff=4.0,
        )

    def inputs(self, graph):
        return {
            "x": graph.randn(graph.num_nodes, 5),
            "pos": graph.pos,
            "edge_index": graph.edge_index,
            "edge_attr": graph.randn(graph.num_edges, 2),
        }


class TestDepthwiseContract(TestContract):
    kernel = "depthwise"
    second_derivatives = True  # those of the full kernel are in the layer's contract
    compiles = True


class TestSO2Contract(TestContract):
    kernel = "so2"
    second_derivatives = True
    compiles = True


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_layers", 0), ("kernel", "depth-wise"), ("self_interaction", "concat"), ("scale", "head")],
)
def test_errors_name_the_argument(argument, value):
    with pytest.raises(ShapeError, match=argument):
        model_of(**{argument: value})


def test_reflections_need_natural_parities():
    with pytest.raises(ShapeError, match=r"irreps_in.*natural"):
        SE3Transformer("1x0o", HIDDEN, "1x0e", reflections=True)
