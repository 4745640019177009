"""TensorFieldConv: against kernels built one by one from Clebsch-Gordan coefficients."""

import pytest
import torch
from e3nn import o3

from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood
from geoattn.layers import tensor_field_orders
from geoattn.layers.padded_degrees import Columns
from geoattn.layers.tensor_field_conv import TensorFieldConv

F64 = torch.float64

FIBERS = {
    "unequal": ({0: 2, 1: 3, 3: 1}, {0: 1, 1: 2, 2: 4}),
    "equal": ({0: 2, 1: 2, 2: 2, 3: 2}, {0: 3, 1: 3, 2: 3, 3: 3}),
    "from vectors": ({1: 2}, {0: 1, 1: 1, 2: 1, 3: 2}),
    "to vectors": ({0: 4, 1: 2, 2: 1, 3: 1}, {1: 2}),
    "scalars": ({0: 3}, {0: 2}),
}


def geometry(dtype=F64, num_nodes=6, num_edges=8):
    """Random points, two of them above one another along the polar axis."""
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(0, num_nodes, (num_edges,), generator=generator)
    target = (source + torch.randint(1, num_nodes, (num_edges,), generator=generator)) % num_nodes
    pos = torch.randn(num_nodes, 3, dtype=F64, generator=generator).to(dtype)
    pos[source[0]] = pos[target[0]] + torch.tensor([0, 2.0, 0], dtype=dtype)
    pos[source[0]] = pos[target[0]] - torch.tensor([0, 2.0, 0], dtype=dtype)
    nbr = Neighborhood.from_edge_index(torch.stack([source, target]), num_nodes).in_csr_order()
    return EdgeBasis.build(pos, nbr)


def padded(channels, num_nodes, dtype=F64):
    """Random features, and large numbers in the padding, which must not matter."""
    x = torch.full((num_nodes, (max(channels) + 1) ** 2, max(channels.values())), 1e3, dtype=dtype)
    for degree, count in channels.items():
        x[:, degree**2 : (degree + 1) ** 2, :count] = torch.randn(num_nodes, 2 * degree + 1, count, dtype=dtype)
    return x


def kernel_by_kernel(conv, x, basis, edge_attr):
    """The convolution with every edge's kernel ``[(2l+1) C', (2k+1) C]`` as a matrix, in e3nn's functions."""
    u = conv.radial(torch.cat([basis.distance[:, None], edge_attr], dim=1))
    paths = conv.path_weights()
    inputs, outputs = conv.columns_in.channels, conv.columns_out.channels
    y = x.new_zeros(basis.nbr.num_edges, conv.columns_out.width, (max(outputs) + 1) ** 2)
    for e, j in enumerate(basis.nbr.source.tolist()):
        for out, count in outputs.items():
            for k, c in inputs.items():
                kernel = x.new_zeros(count, 2 * out + 1, c, 2 * k + 1)
                for degree in range(abs(k - out), k + out + 1):
                    if (k, degree, out) not in paths:
                        continue
                    harmonics = o3.spherical_harmonics(degree, basis.unit[e], True, "component")
                    coupling = torch.einsum("imo,m->oi", o3.wigner_3j(k, degree, out, dtype=x.dtype), harmonics)
                    radial = torch.einsum("u,uco->oc", u[e], paths[k, degree, out])
                    kernel += radial[:, None, :, None] * coupling[None, :, None, :]
                features = x[j, k**2 : (k + 1) ** 2, :c].T.flatten()
                message = (kernel.flatten(2).flatten(0, 1) @ features).view(count, 2 * out + 1)
                y[e, :count, out**2 : (out + 1) ** 2] += message
    return y


def conv_of(fibers, **options):
    torch.manual_seed(1)
    channels_in, channels_out = FIBERS[fibers]
    return TensorFieldConv(Columns.heads(channels_in), Columns.heads(channels_out), edge_channels=1, **options)


@pytest.mark.parametrize("fibers", FIBERS)
@pytest.mark.parametrize("reflections", [False, True], ids=["SE(3)", "E(3)"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_equals_kernel_by_kernel(fibers, reflections, dtype, tolerance):
    conv = conv_of(fibers, reflections=reflections).to(dtype)
    basis = geometry(dtype)
    x, edge_attr = padded(FIBERS[fibers][0], 6, dtype), torch.randn(basis.nbr.num_edges, 1, dtype=dtype)
    with torch.no_grad():
        expected = kernel_by_kernel(conv, x, basis, edge_attr)
        got = conv(x, basis, edge_attr)
    assert (got - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("reflections", [False, True], ids=["SE(3)", "E(3)"])
def test_has_the_paths_it_should(reflections):
    paths = conv_of("equal", reflections=reflections).path_weights()
    assert len(paths) == (30 if reflections else 44)
    assert all(not reflections or sum(path) % 2 == 0 for path in paths)
    assert all(weight.abs().min() > 0 for weight in paths.values())


@pytest.mark.parametrize("fibers", FIBERS)
@pytest.mark.parametrize("reflections", [False, True], ids=["SE(3)", "E(3)"])
@pytest.mark.parametrize("order", ["edge", "source"])
@pytest.mark.parametrize("block_size", [1, 2000, 2**23], ids=["node by node", "blocks", "one block"])
def test_orders_of_work_agree(monkeypatch, fibers, reflections, order, block_size):
    conv = conv_of(fibers, reflections=reflections).double()
    basis = geometry(num_edges=25)
    x, edge_attr = padded(FIBERS[fibers][0], 6).requires_grad_(), torch.randn(25, 1, dtype=F64)
    expected = conv(x, basis, edge_attr, order="edge")
    monkeypatch.setattr(tensor_field_orders, "block_size", lambda like: block_size)
    got = conv(x, basis, edge_attr, order=order)
    leaves = (x, *conv.parameters())
    probe = torch.randn_like(expected)
    for ours, theirs in zip(
        (got, *torch.autograd.grad((got * probe).sum(), leaves)),
        (expected, *torch.autograd.grad((expected * probe).sum(), leaves)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-11)
