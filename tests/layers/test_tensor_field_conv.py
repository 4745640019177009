"""TensorFieldConv and its depthwise and SO(2) forms: against kernels built one by one from Clebsch-Gordan tensors."""

import pytest
import torch
from e3nn import o3
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.clebsch_gordan_table import clebsch_gordan_paths
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood, knn, segment_outer, segment_reduce
from geoattn.layers import tensor_field_orders
from geoattn.layers.depthwise_conv import DepthwiseConv
from geoattn.layers.padded_degrees import Columns
from geoattn.layers.so2_tensor_field_conv import SO2TensorFieldConv
from geoattn.layers.tensor_field_conv import TensorFieldConv, path_weights

F64 = torch.float64
FORMS = {"full": TensorFieldConv, "depthwise": DepthwiseConv, "so2": SO2TensorFieldConv}

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


def paths_of(conv):
    """``(k, J, l) -> W [U, C_k, C'_l]``: the weights that the full convolution would need to do the same."""
    inputs, outputs = conv.columns_in.channels, conv.columns_out.channels
    if isinstance(conv, TensorFieldConv):
        return conv.path_weights()
    if isinstance(conv, SO2TensorFieldConv):
        counts = [sum(c for k, c in inputs.items() if k >= m) for m in range(len(conv.weights))]
        pairs = zip(conv.multipliers.split(counts), conv.weights, strict=True)
        return path_weights([torch.einsum("cu,poc->ucpo", *pair) for pair in pairs], inputs, outputs)
    names = clebsch_gordan_paths(max(inputs), conv.lmax, max(outputs), reflections=conv.reflections)
    names = [name for name in names if name[0] in inputs and name[2] in outputs]
    parts = conv.weight.split([outputs[out] for _, _, out in names])
    before = {name: conv.before.weight[str(name[0])][: len(part)] for name, part in zip(names, parts, strict=True)}
    return {name: torch.einsum("ou,oc->uco", part, before[name]) for name, part in zip(names, parts, strict=True)}


def kernel_by_kernel(conv, x, basis, edge_attr):
    """The convolution with every edge's kernel ``[(2l+1) C', (2k+1) C]`` as a matrix, in e3nn's functions."""
    u = conv.radial(torch.cat([basis.distance[:, None], edge_attr], dim=1))
    paths = paths_of(conv)
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


def conv_of(fibers, form="full", **options):
    torch.manual_seed(1)
    channels_in, channels_out = FIBERS[fibers]
    return FORMS[form](Columns.heads(channels_in), Columns.heads(channels_out), edge_channels=1, **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fibers", FIBERS)
@pytest.mark.parametrize("reflections", [False, True], ids=["SE(3)", "E(3)"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"])
def test_equals_kernel_by_kernel(form, fibers, reflections, dtype, tolerance):
    conv = conv_of(fibers, form, reflections=reflections).to(dtype)
    basis = geometry(dtype)
    x, edge_attr = padded(FIBERS[fibers][0], 6, dtype), torch.randn(basis.nbr.num_edges, 1, dtype=dtype)
    with torch.no_grad():
        expected = kernel_by_kernel(conv, x, basis, edge_attr)
        got = conv(x, basis, edge_attr)
    assert (got - expected).abs().max() < tolerance * expected.abs().max()
    for out in range(conv.columns_out.lmax + 1):
        filled = conv.columns_out.of.get(out, [])
        empty = [c for c in range(conv.columns_out.width) if c not in filled]
        assert (got[:, empty, out**2 : (out + 1) ** 2] == 0).all()


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


def products(x, basis, paths):
    """For each path the features of the source times the harmonics, before any weights: ``[E, C, 2l+1]``."""
    inputs = FIBERS["unequal"][0]
    y, sources = basis.harmonics(6), x[basis.nbr.source]
    return {
        (k, j, out): torch.einsum(
            "kjo,ekc,ej->eco",
            clebsch_gordan(k, j, out),
            sources[:, k**2 : (k + 1) ** 2, : inputs[k]],
            y[:, j**2 : (j + 1) ** 2],
        )
        for k, j, out in paths
    }


def identity_case():
    """A convolution of several edges to a node: messages, units of the radial network, products, weights of paths."""
    conv, basis = conv_of("unequal").double(), geometry(num_edges=25)
    x, edge_attr = padded(FIBERS["unequal"][0], 6), torch.randn(25, 1, dtype=F64)
    u = conv.radial(torch.cat([basis.distance[:, None], edge_attr], dim=1))
    paths = conv.path_weights()
    return conv, x, basis, edge_attr, u, products(x, basis, paths), paths


def test_radial_layer_may_be_applied_once_per_node_after_the_sum():
    conv, x, basis, edge_attr, u, t, paths = identity_case()
    attention = torch.rand(25, 1, dtype=F64)
    messages = conv(x, basis, edge_attr)
    expected = segment_reduce(messages.flatten(1) * attention, basis.nbr, "sum").view(6, *messages.shape[1:])
    got = torch.zeros_like(expected)
    for (k, j, out), weight in paths.items():
        outer = segment_outer(attention * u, t[k, j, out].flatten(1), basis.nbr).unflatten(2, t[k, j, out].shape[1:])
        got[:, : weight.shape[2], out**2 : (out + 1) ** 2] += torch.einsum("nucm,uco->nom", outer, weight)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


def test_query_may_be_absorbed_into_the_kernel_of_the_keys():
    conv, x, basis, edge_attr, u, t, paths = identity_case()
    messages, target = conv(x, basis, edge_attr), basis.nbr.target
    query = torch.randn(6, *messages.shape[1:], dtype=F64)
    logits = (query[target] * messages).sum((1, 2))
    # the kernels as matrices: q . (W_e x_j) = (W_e^T q) . x_j, and messages depend on their source alone
    kernels = torch.autograd.functional.jacobian(lambda x: conv(x, basis, edge_attr), x)
    absorbed = torch.einsum("eom,eomnsc->ensc", query[target], kernels)
    own = absorbed[torch.arange(25), basis.nbr.source]
    torch.testing.assert_close((own * x[basis.nbr.source]).sum((1, 2)), logits, atol=1e-12, rtol=1e-12)
    # the radial layer too, once per node instead of per edge
    got = torch.zeros_like(logits)
    for (k, j, out), weight in paths.items():
        per_node = torch.einsum("uco,nom->nucm", weight, query[:, : weight.shape[2], out**2 : (out + 1) ** 2])
        got += torch.einsum("eucm,eu,ecm->e", per_node[target], u, t[k, j, out])
    torch.testing.assert_close(got, logits, atol=1e-12, rtol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest result of any operation."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


@pytest.mark.slow
@pytest.mark.parametrize("form", ["depthwise", "so2"])
def test_no_matrix_of_an_edge_is_ever_in_memory(form):
    """All that is kept for the backward is less than one matrix ``[C, C']`` per edge, and no tensor half as large."""
    channels = dict.fromkeys(range(3), 64)
    conv = FORMS[form](Columns.heads(channels), Columns.heads(channels))
    pos, x = torch.randn(512, 3, requires_grad=True), torch.randn(512, 9, 64, requires_grad=True)
    source, _ = knn(pos.detach(), k=12)
    edges = torch.stack([source.flatten(), torch.arange(512).repeat_interleave(12)])
    basis = EdgeBasis.build(pos, Neighborhood.from_edge_index(edges, 512))
    matrices = edges.shape[1] * 64 * 64
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with LargestTensor() as seen, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        conv(x, basis).square().sum().backward()
    assert 0 < seen.largest < matrices / 2
    assert 0 < sum(kept.values()) < matrices * 4
