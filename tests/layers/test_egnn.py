"""EGNNLayer: against a double loop in numpy, its symmetry, its gradients and its edge cases."""

import itertools

import numpy as np
import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.edges import gaussian_basis
from geoattn.kernels import Neighborhood
from geoattn.layers.egnn import EGNNLayer, edge_geometry

F64 = torch.float64


def graph(num_nodes: int, num_edges: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, num_nodes, (2, num_edges), generator=torch.Generator().manual_seed(seed))


def layer_with_large_weights(*args, **kwargs) -> EGNNLayer:
    """phi_x starts near zero; larger weights make its errors visible."""
    torch.manual_seed(0)
    layer = EGNNLayer(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.4)
    return layer


def silu(x):
    return x / (1 + np.exp(-x))


def linear(module, x):
    y = x @ module.weight.detach().numpy().T
    return y if module.bias is None else y + module.bias.detach().numpy()


def double_loop(layer, x, pos, edge_index, edge_attr, vel, node_attr):
    """The sheet's equations edge by edge, with the concatenated first layer."""
    x, pos = x.numpy(), pos.numpy()
    received = np.zeros((len(x), layer.hidden_channels))
    step = np.zeros_like(pos)
    count = np.zeros(len(x))
    for e, (j, i) in enumerate(edge_index.T.tolist()):
        if i == j:
            continue
        difference = pos[i] - pos[j]
        parts = [x[i], x[j], [difference @ difference]]
        if edge_attr is not None:
            parts.append(edge_attr[e].numpy())
        message = silu(linear(layer.edge_out, silu(linear(layer.edge_in, np.concatenate(parts)))))
        if layer.gate is not None:
            message = message / (1 + np.exp(-linear(layer.gate, message)))
        received[i] += message
        count[i] += 1
        if layer.pos_mlp is not None:
            strength = linear(layer.pos_mlp[2], silu(linear(layer.pos_mlp[0], message)))
            if layer.tanh:
                strength = np.tanh(strength)
            if layer.normalize:
                difference = difference / (np.sqrt(difference @ difference) + layer.norm_constant)
            step[i] += difference * strength
    parts = [x, received] + ([] if node_attr is None else [node_attr.numpy()])
    out = linear(layer.node_mlp[2], silu(linear(layer.node_mlp[0], np.concatenate(parts, 1))))
    if layer.residual:
        out = x + out
    if layer.pos_mlp is None:
        return out, pos
    if layer.pos_aggr == "mean":
        step = step / np.maximum(count, 1)[:, None]
    if layer.pos_clamp is not None:
        step = np.clip(step, -layer.pos_clamp, layer.pos_clamp)
    if vel is None:
        return out, pos + step
    scale = linear(layer.velocity_mlp[2], silu(linear(layer.velocity_mlp[0], x)))
    new_vel = scale * vel.numpy() + step
    return out, pos + new_vel, new_vel


OPTIONS = [
    dict(zip(("gate", "normalize", "pos_aggr", "use_velocity", "tanh"), values, strict=True))
    for values in itertools.product((False, True), (False, True), ("mean", "sum"), (False, True), (False, True))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(v) for v in o.values()))
@pytest.mark.parametrize("extras", [False, True], ids=["plain", "edge+node attributes"])
def test_agrees_with_double_loop(options, extras):
    num_nodes, num_edges, dim = 7, 30, 3
    torch.manual_seed(1)
    x, pos = torch.randn(num_nodes, 5, dtype=F64), torch.randn(num_nodes, dim, dtype=F64)
    edge_index = graph(num_nodes, num_edges)  # holds self loops and duplicate edges
    edge_attr = torch.randn(num_edges, 2, dtype=F64) if extras else None
    node_attr = torch.randn(num_nodes, 3, dtype=F64) if extras else None
    vel = torch.randn(num_nodes, dim, dtype=F64) if options["use_velocity"] else None
    layer = layer_with_large_weights(
        5, hidden_channels=6, edge_channels=2 * extras, node_attr_channels=3 * extras, **options
    )
    expected = double_loop(layer, x, pos, edge_index, edge_attr, vel, node_attr)
    with torch.no_grad():
        got = layer(x, pos, edge_index, edge_attr, vel=vel, node_attr=node_attr)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options", [dict(pos_clamp=0.05), dict(update_pos=False), dict(residual=False, out_channels=3)]
)
def test_other_options_agree_with_double_loop(options):
    x, pos = torch.randn(6, 5, dtype=F64), torch.randn(6, 2, dtype=F64)
    edge_index = graph(6, 20)
    layer = layer_with_large_weights(5, hidden_channels=4, **options)
    with torch.no_grad():
        got = layer(x, pos, edge_index)
    for ours, theirs in zip(got, double_loop(layer, x, pos, edge_index, None, None, None), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("reflect", [False, True])
def test_is_euclidean_equivariant_in_any_dimension(dim, reflect):
    torch.manual_seed(dim)
    rotation, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=F64))
    if (torch.linalg.det(rotation) < 0) != reflect:
        rotation[:, 0] *= -1
    layer = layer_with_large_weights(4, hidden_channels=8, use_velocity=True, gate=True, normalize=True)
    x, pos, vel = (torch.randn(9, width, dtype=F64) for width in (4, dim, dim))
    edge_index, move = graph(9, 40), torch.randn(dim, dtype=F64)
    x_out, pos_out, vel_out = layer(x, pos, edge_index, vel=vel)
    x_rot, pos_rot, vel_rot = layer(x, pos @ rotation.T + move, edge_index, vel=vel @ rotation.T)
    torch.testing.assert_close(x_rot, x_out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pos_rot, pos_out @ rotation.T + move, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(vel_rot, vel_out @ rotation.T, rtol=1e-10, atol=1e-10)


def test_nodes_can_be_renumbered_and_edges_shuffled():
    layer = layer_with_large_weights(4, hidden_channels=8, edge_channels=2)
    x, pos, edge_index, edge_attr = torch.randn(6, 4, dtype=F64), torch.randn(6, 3, dtype=F64), graph(6, 25), None
    edge_attr = torch.randn(25, 2, dtype=F64)
    x_out, pos_out = layer(x, pos, edge_index, edge_attr)
    order, shuffle = torch.randperm(6), torch.randperm(25)
    rank = torch.argsort(order)
    x_new, pos_new = layer(x[order], pos[order], rank[edge_index][:, shuffle], edge_attr[shuffle])
    torch.testing.assert_close(x_new, x_out[order])
    torch.testing.assert_close(pos_new, pos_out[order])


def test_first_and_second_derivatives():
    layer = layer_with_large_weights(2, hidden_channels=3, gate=True, normalize=True)
    edge_index = torch.tensor([[0, 1, 2, 2, 0], [1, 0, 0, 2, 3]])
    x = torch.randn(4, 2, dtype=F64, requires_grad=True)
    pos = torch.randn(4, 3, dtype=F64, requires_grad=True)
    torch.autograd.gradcheck(lambda a, b: layer(a, b, edge_index), (x, pos))
    torch.autograd.gradgradcheck(lambda a, b: layer(a, b, edge_index), (x, pos))


@pytest.mark.parametrize("normalize", [False, True])
def test_coincident_points_have_finite_derivatives(normalize):
    layer = layer_with_large_weights(2, hidden_channels=3, normalize=normalize)
    pos = torch.zeros(3, 3, dtype=F64, requires_grad=True)
    x_out, pos_out = layer(torch.randn(3, 2, dtype=F64), pos, torch.tensor([[0, 1, 2], [1, 2, 0]]))
    (gradient,) = torch.autograd.grad(x_out.sum() + pos_out.square().sum(), pos, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum() + gradient.sum(), pos)
    assert gradient.isfinite().all() and second.isfinite().all()


def test_forces_of_an_energy_equal_finite_differences():
    layer = layer_with_large_weights(3, hidden_channels=8, radial_channels=5)
    x, edge_index = torch.randn(5, 3, dtype=F64), graph(5, 18)
    nbr = Neighborhood.from_edge_index(edge_index, 5)

    def energy(pos):
        return layer(x, pos, nbr, geometry=edge_geometry(pos, nbr, num_rbf=5, cutoff=3.0))[0].sum()

    pos = torch.randn(5, 3, dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(pos), pos)
    step = 1e-5
    for index in np.ndindex(5, 3):
        moved = torch.zeros(5, 3, dtype=F64)
        moved[index] = step
        difference = (energy(pos.detach() + moved) - energy(pos.detach() - moved)) / (2 * step)
        assert abs(difference - gradient[index]) < 1e-6 * max(1, abs(gradient[index]))


def test_a_message_goes_from_source_to_target():
    layer = layer_with_large_weights(2, hidden_channels=4)
    x, pos = torch.randn(3, 2, dtype=F64), torch.randn(3, 3, dtype=F64)
    before = layer(x, pos, torch.tensor([[0], [1]]))[0]
    moved = pos.clone()
    moved[0] += 1
    after = layer(x, moved, torch.tensor([[0], [1]]))[0]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.allclose(before[1], after[1])


def test_isolated_node_self_loop_and_inputs_unchanged():
    layer = layer_with_large_weights(2, hidden_channels=4)
    x, pos = torch.randn(3, 2, dtype=F64), torch.randn(3, 3, dtype=F64)
    x_before, pos_before = x.clone(), pos.clone()
    alone = layer(x, pos, torch.empty(2, 0, dtype=torch.long))
    looped = layer(x, pos, torch.tensor([[0, 1, 2], [0, 1, 2]]))
    assert torch.equal(x, x_before) and torch.equal(pos, pos_before)
    torch.testing.assert_close(alone[1], pos)
    torch.testing.assert_close(alone[0], x + layer.node_mlp(torch.cat([x, torch.zeros(3, 4, dtype=F64)], 1)))
    for a, b in zip(alone, looped, strict=True):
        torch.testing.assert_close(a, b)


def test_self_loops_do_not_dilute_the_mean():
    layer = layer_with_large_weights(2, hidden_channels=4)
    x, pos = torch.randn(3, 2, dtype=F64), torch.randn(3, 3, dtype=F64)
    plain = layer(x, pos, torch.tensor([[1, 2], [0, 0]]))[1]
    looped = layer(x, pos, torch.tensor([[1, 2, 0], [0, 0, 0]]))[1]
    torch.testing.assert_close(plain, looped)


def test_two_graphs_in_a_batch_equal_each_alone():
    layer = layer_with_large_weights(2, hidden_channels=4)
    (xa, pa, ea), (xb, pb, eb) = (
        (torch.randn(n, 2, dtype=F64), torch.randn(n, 3, dtype=F64), graph(n, 10, n)) for n in (4, 5)
    )
    both = layer(torch.cat([xa, xb]), torch.cat([pa, pb]), torch.cat([ea, eb + 4], 1))
    for k in range(2):
        torch.testing.assert_close(both[k][:4], layer(xa, pa, ea)[k])
        torch.testing.assert_close(both[k][4:], layer(xb, pb, eb)[k])


def test_nothing_jumps_when_a_neighbour_crosses_the_cutoff():
    layer = layer_with_large_weights(2, hidden_channels=4, radial_channels=6)
    x, edge_index = torch.randn(3, 2, dtype=F64), torch.tensor([[1, 2], [0, 0]])

    def at(distance, edges):
        pos = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [0, distance, 0]], dtype=F64)
        nbr = Neighborhood.from_edge_index(edges, 3)
        return torch.cat(layer(x, pos, nbr, geometry=edge_geometry(pos, nbr, num_rbf=6, cutoff=2.0)), 1)[0]

    inside, outside = at(2.0 - 1e-5, edge_index), at(2.0 + 1e-5, edge_index)
    torch.testing.assert_close(inside, outside, atol=1e-9, rtol=0)
    torch.testing.assert_close(outside[:2], at(2.5, edge_index[:, :1])[:2])


def test_periodic_image_of_the_same_atom_is_a_neighbour():
    layer = layer_with_large_weights(2, hidden_channels=4)
    x, pos = torch.randn(1, 2, dtype=F64), torch.zeros(1, 3, dtype=F64)
    nbr = Neighborhood.from_edge_index(torch.tensor([[0, 0], [0, 0]]), 1)
    shift = torch.tensor([[1.5, 0, 0], [-1.5, 0, 0]], dtype=F64)
    with_image = layer(x, pos, nbr, geometry=edge_geometry(pos, nbr, shift))[0]
    assert not torch.allclose(with_image, layer(x, pos, nbr)[0])


def test_updates_agree_with_a_tensor_product_of_e3nn():
    """The position update is the path 0e x 1o -> 1o with weights phi_x(m) * distance."""
    from e3nn import o3

    layer = layer_with_large_weights(2, hidden_channels=4, pos_aggr="sum")
    x, pos, edge_index = torch.randn(5, 2, dtype=F64), torch.randn(5, 3, dtype=F64), graph(5, 20)
    nbr = Neighborhood.from_edge_index(edge_index, 5).in_csr_order()
    geometry = edge_geometry(pos, nbr)
    strength = layer.pos_mlp(layer.message(x, nbr, geometry, None)[0]) * geometry.weight
    vector = pos[nbr.target] - pos[nbr.source]
    harmonics = o3.spherical_harmonics("1o", vector, normalize=True, normalization="norm")
    product = o3.FullyConnectedTensorProduct(
        "1x0e", "1x1o", "1x1o", shared_weights=False, internal_weights=False
    ).double()
    update = product(torch.ones(nbr.num_edges, 1, dtype=F64), harmonics, strength * vector.norm(dim=1, keepdim=True))
    expected = pos + torch.zeros_like(pos).index_add_(0, nbr.target, update)
    torch.testing.assert_close(layer(x, pos, edge_index)[1], expected)


def test_autocast_keeps_positions_in_float32():
    torch.manual_seed(0)
    layer = EGNNLayer(8, hidden_channels=16)
    x, pos, edge_index = torch.randn(10, 8), torch.randn(10, 3) + 100, graph(10, 40)
    exact = layer(x, pos, edge_index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x, pos, edge_index)
    assert rounded[1].dtype == torch.float32
    torch.testing.assert_close(rounded[1], exact[1], atol=1e-3, rtol=0)
    torch.testing.assert_close(rounded[0].float(), exact[0], atol=0.05, rtol=0.05)


@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecation warnings
def test_compiles_without_graph_breaks():
    torch.manual_seed(0)
    layer = EGNNLayer(4, hidden_channels=8)
    x, pos, edge_index = torch.randn(6, 4), torch.randn(6, 3), graph(6, 20)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(x, pos, edge_index), layer(x, pos, edge_index), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_seven_layers_on_many_points_stay_finite():
    torch.manual_seed(0)
    layers = torch.nn.ModuleList([EGNNLayer(16, hidden_channels=16) for _ in range(7)])
    start, start_pos, edge_index = torch.randn(500, 16), torch.randn(500, 3), graph(500, 8000)
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)
    for _ in range(10):
        x, pos = start, start_pos
        for layer in layers:
            x, pos = layer(x, pos, edge_index)
        loss = x.square().mean() + pos.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.randn(4, 3)), "x: got shape (4, 3), expected [N, in_channels = 2]"),
        (dict(pos=torch.randn(3, 3)), "pos: got shape (3, 3), expected [N = 4, n]"),
        (dict(edge_attr=torch.randn(2, 1)), "edge_attr: got shape (2, 1), expected 0 columns"),
        (
            dict(
                edge_index=torch.tensor([[0, 1, 2], [1, 0, 1]]),
                layer=EGNNLayer(2, edge_channels=1),
                edge_attr=torch.randn(5, 1),
            ),
            "edge_attr: got 5 rows, expected one per edge, E = 3",
        ),
        (dict(layer=EGNNLayer(2, use_velocity=True), vel=torch.randn(4, 1)), "vel: got shape (4, 1), expected that of"),
        (dict(vel=torch.randn(4, 3)), "vel: got a tensor, expected use_velocity = False"),
        (dict(edge_index=torch.tensor([[0], [4]])), "edge_index[1] (target): got values 4..4, expected 0..3"),
        (dict(edge_index=torch.zeros(4, 2, dtype=torch.long)), "Transpose it?"),
        (dict(edge_index=torch.zeros(2, 4)), "an integer dtype"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    arguments = dict(x=torch.randn(4, 2), pos=torch.randn(4, 3), edge_index=torch.tensor([[0, 1], [1, 0]])) | change
    layer = arguments.pop("layer", EGNNLayer(2))
    with pytest.raises(ShapeError) as error:
        layer(**arguments)
    assert message in str(error.value)


def test_wrong_options_are_named():
    with pytest.raises(ShapeError, match="residual=False"):
        EGNNLayer(2, 3)
    with pytest.raises(ShapeError, match="update_pos=True"):
        EGNNLayer(2, use_velocity=True, update_pos=False)
    with pytest.raises(ShapeError, match="num_rbf > 0"):
        edge_geometry(
            torch.zeros(1, 3), Neighborhood.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 1), num_rbf=4
        )


def test_radial_basis_replaces_the_squared_distance():
    pos = torch.randn(4, 3, dtype=F64)
    nbr = Neighborhood.from_edge_index(graph(4, 12), 4)
    geometry = edge_geometry(pos, nbr, num_rbf=5, cutoff=4.0)
    distance = (pos[nbr.source] - pos[nbr.target]).norm(dim=1)
    torch.testing.assert_close(geometry.radial, gaussian_basis(distance, 0.0, 4.0, 5), atol=1e-6, rtol=1e-6)
