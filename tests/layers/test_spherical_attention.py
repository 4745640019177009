"""Attention on the sphere: the explicit formula, torch-harmonics, rotations, areas, edge cases."""

import math

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.geometry.sphere import geodesic_distance, healpix, lat_lon_grid, scattered, window_neighborhood
from geoattn.kernels import Neighborhood
from geoattn.layers import AttentionS2, NeighborhoodAttentionS2, SphereAttention, sphere_attention

F64 = torch.float64
GRID = lat_lon_grid(5, 8)


def qkv(targets, sources, batch=2, heads=2, dim=4, dtype=F64):
    sizes = (targets.num_points, sources.num_points, sources.num_points)
    return [torch.randn(batch, n, heads, dim, dtype=dtype) for n in sizes]


def explicit(q, k, v, sources, targets, cutoff=math.pi, taper=False):
    """N x N scores in float64."""
    angle = geodesic_distance(targets.xyz[:, None], sources.xyz)
    logits = torch.einsum("bnhd,bmhd->bhnm", q.double(), k.double()) / q.shape[3] ** 0.5 + sources.weight.log()
    if taper:
        logits = logits + 2 * (angle / cutoff).clamp_max(1).mul(math.pi / 2).cos().log()
    logits = logits.masked_fill(angle > cutoff * 1.001, -torch.inf)
    return torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1).nan_to_num(0), v.double())


@pytest.mark.parametrize("cutoff", [None, 0.8, math.pi])
@pytest.mark.parametrize("taper", [False, True])
@pytest.mark.parametrize(("targets", "sources"), [(GRID, GRID), (healpix(1), GRID), (GRID, healpix(1))])
def test_explicit_formula_with_gradients(targets, sources, cutoff, taper):
    if taper and cutoff != 0.8:
        pytest.skip("only a disk fades")
    layer = SphereAttention(8, sources, targets, 2, cutoff=cutoff, taper=taper).double()
    values = [x.requires_grad_() for x in qkv(targets, sources)]
    expected = explicit(*values, sources, targets, cutoff or math.pi, taper)
    found = layer.points.attend(*values)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    for a, b in zip(
        torch.autograd.grad(found, values, slope), torch.autograd.grad(expected, values, slope), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    single = layer.points.attend(*(x.detach().float() for x in values))
    torch.testing.assert_close(single.double(), expected, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("kind", ["equiangular", "legendre-gauss", "lobatto"])
@pytest.mark.parametrize(("shape_in", "shape_out"), [((9, 16), (9, 16)), ((9, 16), (5, 8)), ((5, 8), (9, 16))])
@pytest.mark.parametrize(("name", "cutoff"), [("AttentionS2", None), ("NeighborhoodAttentionS2", None), ("disk", 0.9)])
@pytest.mark.filterwarnings("ignore:Default theta_cutoff")
def test_torch_harmonics(kind, shape_in, shape_out, name, cutoff):
    theirs = pytest.importorskip("torch_harmonics")
    if name == "AttentionS2" and shape_out[1] > shape_in[1]:
        pytest.skip("they have no global up-sampling")
    options = {"in_channels": 8, "num_heads": 2, "in_shape": shape_in, "out_shape": shape_out, "use_qknorm": True}
    options |= {"grid_in": kind, "grid_out": kind, "k_channels": 12, "out_channels": 4}
    if cutoff is not None:
        options |= {"theta_cutoff": cutoff}
    classes = {"AttentionS2": AttentionS2}.get(name, NeighborhoodAttentionS2)
    peer, layer = getattr(theirs, classes.__name__)(**options), classes(**options)
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    layer.load_state_dict(peer.state_dict())
    query, key = torch.randn(2, 8, *shape_out), torch.randn(2, 8, *shape_in)
    results = []
    for module in (peer, layer):
        leaves = [x.clone().requires_grad_() for x in (query, key)]
        out = module(leaves[0], leaves[1], leaves[1])
        out.mul(torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        gradients = {n: p.grad for n, p in module.named_parameters()}  # with norms, k_bias has one that is not rounding
        results.append({"out": out.detach(), "query": leaves[0].grad, "key": leaves[1].grad} | gradients)
    for field, expected in results[0].items():
        # entries of a gradient are sums over all points, which may cancel: each tensor by its own largest entry
        torch.testing.assert_close(results[1][field], expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_radius_pi_is_everywhere_and_longitude_rolls():
    options = {"in_shape": (9, 16), "out_shape": (9, 16), "num_heads": 2}
    everywhere, local = AttentionS2(8, **options), NeighborhoodAttentionS2(8, **options, theta_cutoff=math.pi - 1e-3)
    assert local.points.neighborhood.num_edges == 144**2  # by edges, not by the way of the global class
    local.load_state_dict(everywhere.state_dict())
    x = torch.randn(2, 8, 9, 16)
    torch.testing.assert_close(local(x), everywhere(x), atol=1e-6, rtol=1e-5)
    for layer in (everywhere, NeighborhoodAttentionS2(8, **options, theta_cutoff=0.6)):
        torch.testing.assert_close(layer(x.roll(3, 3)), layer(x).roll(3, 3), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(layer(x.flip(2)), layer(x).flip(2), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(layer(x), torch.cat([layer(x[:1]), layer(x[1:])]), atol=1e-6, rtol=1e-5)


def rotation_error(points, cutoff=None, weighted=True):
    """Attention of a turned field of degree 2 against turned attention, at 20 points of no grid."""
    at = torch.nn.functional.normalize(torch.randn(20, 3, dtype=F64), dim=1)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=F64))[0]
    maps = torch.randn(3, 9, 4, dtype=F64) / 3

    def attend(targets, turned):
        fields = []
        for x, m in zip((targets, points.xyz, points.xyz), maps, strict=True):
            seen = x @ turned
            fields.append(torch.cat([seen, seen**2, seen * seen.roll(1, 1)], 1) @ m)
        q, k, v = (f[None, :, None] for f in fields)
        nbr = None
        if cutoff is not None:
            target, source = (geodesic_distance(targets[:, None], points.xyz) <= cutoff).nonzero(as_tuple=True)
            nbr = Neighborhood.from_edge_index(torch.stack([source, target]), 20, points.num_points)
        return sphere_attention(q, k, v, points.weight.log() * weighted, nbr)

    there, back = attend(at, torch.eye(3, dtype=F64)), attend(at @ turn.T, turn)
    return float((there - back).norm() / there.norm())


def random_points(number):
    z = 2 * torch.rand(number, dtype=F64) - 1
    return scattered(z.asin().rad2deg(), 360 * torch.rand(number, dtype=F64))


@pytest.mark.parametrize("cutoff", [None, 0.6])
@pytest.mark.parametrize(
    ("make", "small", "large"),
    [
        (lambda n: lat_lon_grid(n, 2 * n - 2), 9, 33),
        (lambda n: lat_lon_grid(n, 2 * n - 2, "legendre-gauss"), 9, 33),
        (healpix, 4, 16),
        (random_points, 200, 3200),
    ],
)
def test_error_under_rotation_falls_with_resolution(make, small, large, cutoff):
    coarse, fine = rotation_error(make(small), cutoff), rotation_error(make(large), cutoff)
    assert fine < coarse / 3 or fine < 1e-12
    assert fine < (2e-3 if cutoff is None else 0.05)


def test_areas_make_attention_rotation_equivariant():
    points = lat_lon_grid(33, 64)
    assert rotation_error(points) < 1e-6 < 1e-4 < rotation_error(points, weighted=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cutoff", [None, 0.9])
def test_constants_stay_and_queries_of_zero_give_the_mean(cutoff, dtype):
    points = SphereAttention(8, GRID, num_heads=2, cutoff=cutoff).points
    q, k, v = qkv(GRID, GRID, dtype=dtype)
    constant = torch.full_like(v, 3.0)
    torch.testing.assert_close(points.attend(q, k, constant), constant, rtol=1e-6, atol=0)
    if cutoff is None:
        mean = torch.einsum("n,bnhd->bhd", GRID.weight / (4 * math.pi), v.double())[:, None].expand(v.shape)
        tolerance = {torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype]
        found = points.attend(0 * q, 0 * k, v)
        torch.testing.assert_close(found.double(), mean, atol=tolerance, rtol=tolerance)


def test_a_key_in_two_halves_changes_nothing():
    q, k, v = qkv(GRID, GRID)
    weight = torch.cat([GRID.weight, GRID.weight[7:8]])
    weight[[7, -1]] /= 2
    twice = [torch.cat([x, x[:, 7:8]], 1) for x in (k, v)]
    expected = sphere_attention(q, k, v, GRID.weight.log())
    torch.testing.assert_close(sphere_attention(q, *twice, weight.log()), expected)
    target, source = torch.meshgrid(torch.arange(40), torch.arange(41), indexing="ij")
    nbr = Neighborhood.from_edge_index(torch.stack([source.flatten(), target.flatten()]), 40, 41)
    torch.testing.assert_close(sphere_attention(q, *twice, weight.log(), nbr), expected)


@pytest.mark.parametrize("nbr", [None, Neighborhood.from_edge_index(torch.tensor([[0, 1], [0, 0]]), 1, 2)])
def test_areas_keep_their_digits_in_16_bits(nbr):
    q, k = torch.zeros(1, 1, 1, 4, dtype=torch.bfloat16), torch.zeros(1, 2, 1, 4, dtype=torch.bfloat16)
    v = torch.tensor([0.0, 1.0], dtype=torch.bfloat16).view(1, 2, 1, 1)
    found = sphere_attention(q, k, v, torch.tensor([-20.05, -20.0]), nbr)  # in 16 bits both are -20
    assert float(found) == pytest.approx(1 / (1 + math.exp(-0.05)), abs=2e-3)


@pytest.mark.parametrize("cutoff", [None, 0.9])
def test_shifted_logits_stay_finite(cutoff):
    points = SphereAttention(8, GRID, num_heads=2, cutoff=cutoff).points
    q, k, v = qkv(GRID, GRID, dtype=torch.float32)
    q[..., 0] = 100
    shifted = k.clone()
    shifted[..., 0] -= 200  # logits less 100 * 200 / 2
    torch.testing.assert_close(points.attend(q, shifted, v), points.attend(q, k, v), atol=1e-2, rtol=0)


def test_no_neighbour_gives_zero_and_no_gradient():
    layer = SphereAttention(4, lat_lon_grid(3, 4), healpix(2), num_heads=1, cutoff=0.1)
    empty = layer.points.neighborhood.degree == 0
    q, k, v = (x.requires_grad_() for x in qkv(healpix(2), lat_lon_grid(3, 4), heads=1))
    out = layer.points.attend(q, k, v)
    out.sum().backward()
    assert bool(empty.any()) and bool((out[:, empty] == 0).all())
    assert all(bool(x.grad.isfinite().all()) for x in (q, k, v)) and bool((q.grad[:, empty] == 0).all())


def test_gradcheck_with_a_bias_on_edges():
    nbr = window_neighborhood((2, 3), (3, 4), 2)
    q, k, v = (torch.randn(2, n, 2, 3, dtype=F64, requires_grad=True) for n in (6, 12, 12))
    bias = torch.randn(nbr.num_edges, dtype=F64, requires_grad=True)
    weight = torch.rand(12, dtype=F64).log()
    assert torch.autograd.gradcheck(lambda *x: sphere_attention(*x[:3], weight, nbr, x[3]), (q, k, v, bias))
    assert torch.autograd.gradcheck(lambda *x: sphere_attention(*x, weight), (q, k, v))


def test_modules_compile_move_and_serve_other_resolutions():
    layer = SphereAttention(8, GRID, num_heads=2, cutoff=0.9)
    x = torch.randn(2, 40, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    finer = SphereAttention(8, healpix(2), num_heads=2)
    finer.load_state_dict(layer.state_dict())
    assert finer.bfloat16()(torch.randn(1, 48, 8).bfloat16()).dtype == torch.bfloat16
    assert finer.points.log_weight.dtype == F64  # areas keep their digits


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: SphereAttention(7, GRID, num_heads=2), "channels"),
        (lambda: SphereAttention(8, GRID, num_heads=0), "num_heads"),
        (lambda: SphereAttention(8, GRID, num_heads=-2), "num_heads"),
        (lambda: AttentionS2(8, 0, (5, 8), (5, 8)), "num_heads"),
        (lambda: NeighborhoodAttentionS2(8, (5, 8), (5, 8), num_heads=0), "num_heads"),
        (lambda: SphereAttention(8, GRID, taper=True), "taper"),
        (lambda: SphereAttention(8, GRID)(torch.randn(2, 39, 8)), "x"),
        (lambda: AttentionS2(8, 3, (5, 8), (5, 8)), "k_channels"),
        (lambda: AttentionS2(8, 2, (5, 8), (5, 8))(torch.randn(2, 8, 8, 5)), "query"),
        (lambda: AttentionS2(8, 2, (5, 8), (5, 8))(*torch.randn(2, 2, 8, 5, 8), torch.randn(2, 8, 8, 5)), "value"),
        (lambda: sphere_attention(*qkv(GRID, GRID), torch.zeros(39)), "log_weight"),
        (lambda: sphere_attention(*qkv(GRID, GRID), torch.zeros(40), bias=torch.zeros(3)), "bias"),
    ],
)
def test_errors_name_the_argument(call, argument):
    with pytest.raises(ShapeError) as error:
        call()
    assert error.value.argument == argument
