"""Geometric transform attention: the pairwise definition, the world's frame, RoPE, distances, masks, edges."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn
from torch.nn import functional as F

from geoattn.errors import ShapeError
from geoattn.geometry.block_rep import BlockRep
from geoattn.geometry.cameras import relative_poses
from geoattn.kernels import Neighborhood
from geoattn.layers.gta import GTA, geometric_transform_attention
from geoattn.testing import LayerContract

F64 = torch.float64
BLOCKS = [
    [("triv", 6)],
    [("se3", 8)],
    [("so3", 16)],
    [("so2", 8)],
    [("t2", 6)],
    [("projective", 8)],
    [("triv", 2), ("se3", 8), ("so3", 8), ("so2", 8), ("t2", 3), ("projective", 4)],
]
MIXED = BLOCKS[-1]
EUCLIDEAN = [("triv", 2), ("point", 6), ("so2", 4), ("so3", 8)]


def poses(*shape, size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = torch.Size(shape).numel()
    pose = torch.eye(4, dtype=F64).repeat(count, 1, 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.random(count, rng=seed).as_matrix())
    pose[:, :3, 3] = size * torch.randn(count, 3, generator=generator, dtype=F64)
    return pose.view(*shape, 4, 4)


def elements(blocks, tokens, views=None, seed=0, batch=2, frame=None, shift=0.0):
    """Representation of ``tokens`` tokens; ``frame`` changes the world's frame of poses, ``shift`` moves positions."""
    generator = torch.Generator().manual_seed(seed)
    pose = poses(batch, tokens if views is None else views, seed=seed)
    pose = pose if frame is None else pose @ frame
    position = torch.rand(batch, tokens, 2, generator=generator, dtype=F64) + shift
    lens = torch.diag(torch.tensor([1.7, 1.3, 1.0, 1.0], dtype=F64))
    return BlockRep(blocks, pose=pose, position=position, projection=lens @ pose)


def qkv(size, n=6, m=8, batch=2, heads=2):
    shapes = [(n, size), (m, size), (m, size)]
    return [torch.randn(batch, heads, *shape, dtype=F64, requires_grad=True) for shape in shapes]


def pairwise(q, k, v, rep_q, rep_k, v_transform=True):
    """The definition, with a matrix for each pair of tokens."""
    matrix_q, matrix_k = (
        rep.matrix().to(q.dtype).expand(rows.shape[0], rows.shape[2], -1, -1) for rep, rows in ((rep_q, q), (rep_k, k))
    )
    rho = torch.linalg.inv(matrix_q)[:, None, :, None] @ matrix_k[:, None, None]  # [B, 1, N, M, d, d]
    seen_k, seen_v = ((rho @ rows[:, :, None, :, :, None])[..., 0] for rows in (k, v))
    scores = (q[:, :, :, None] * seen_k).sum(-1) / q.shape[-1] ** 0.5
    seen_v = seen_v if v_transform else v[:, :, None]
    return (scores.softmax(-1)[..., None] * seen_v).sum(3)


@pytest.mark.parametrize("v_transform", [True, False])
@pytest.mark.parametrize("blocks", BLOCKS, ids=lambda blocks: "+".join(name for name, _ in blocks))
def test_equals_the_definition_over_pairs_with_all_gradients(blocks, v_transform):
    inputs = qkv(sum(size for _, size in blocks))
    rep_q, rep_k = elements(blocks, 6), elements(blocks, 8, seed=1)
    ours = geometric_transform_attention(*inputs, rep_q, rep_k, v_transform=v_transform)
    expected = pairwise(*inputs, rep_q, rep_k, v_transform)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weight).sum(), inputs) for out in (ours, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("views", [2, None], ids=["per view", "per token"])
@pytest.mark.parametrize("blocks", [*BLOCKS[1:], EUCLIDEAN], ids=lambda blocks: "+".join(name for name, _ in blocks))
def test_the_worlds_frame_does_not_matter(blocks, views):
    euclidean = blocks is EUCLIDEAN
    q, k, v = qkv(sum(size for _, size in blocks))
    frame, shift = poses(1, size=3.0, seed=5)[0], torch.tensor([0.4, -1.3], dtype=F64)
    out = []
    for change in ({}, {"frame": frame, "shift": shift}):
        rep_q, rep_k = elements(blocks, 6, views, **change), elements(blocks, 8, views, seed=1, **change)
        out.append(geometric_transform_attention(q, k, v, rep_q, rep_k, euclidean=euclidean))
    torch.testing.assert_close(*out, atol=1e-10, rtol=0)


def test_queries_without_the_inverse_transpose_see_the_frame(monkeypatch):
    """The test above can fail: the mistake that pure rotations hide."""
    q, k, v = qkv(8)
    frame = poses(1, size=3.0, seed=5)[0]
    run = lambda change: geometric_transform_attention(
        q, k, v, elements([("se3", 8)], 6, **change), elements([("se3", 8)], 8, seed=1, **change)
    )
    monkeypatch.setattr(BlockRep, "apply_inverse_transpose", BlockRep.apply)
    assert (run({}) - run({"frame": frame})).abs().max() > 1e-2


def test_turns_of_the_plane_without_values_are_rope():
    q, k, v = (t.detach() for t in qkv(16, n=7, m=7))
    position = torch.arange(7, dtype=F64)
    frequency = 2 * math.pi * 0.3 * 2.0 ** torch.arange(-7, 1, dtype=F64)

    def rope(x):  # pairs (2 i, 2 i + 1), as in the paper
        cos, sin = (f(position[:, None] * frequency).repeat_interleave(2, -1) for f in (torch.cos, torch.sin))
        return x * cos + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * sin

    rep = BlockRep([("so2", 16)], position=position[:, None], turns=0.3)
    ours = geometric_transform_attention(q, k, v, rep, rep, v_transform=False)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(rope(q), rope(k), v), atol=1e-12, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_the_euclidean_score_is_the_squared_distance(masked):
    q, k, v = qkv(20)
    rep_q, rep_k = elements(EUCLIDEAN, 6, 2), elements(EUCLIDEAN, 8, 4, seed=1)
    mask = torch.rand(2, 8) > 0.4 if masked else None
    ours = geometric_transform_attention(q, k, v, rep_q, rep_k, euclidean=True, mask=mask)
    distance = torch.cdist(rep_q.apply(q), rep_k.apply(k), compute_mode="donot_use_mm_for_euclid_dist")
    scores = -distance.square() / (2 * 20**0.5)
    scores = scores if mask is None else scores.masked_fill(~mask[:, None, None], -torch.inf)
    expected = rep_q.apply_inverse(scores.softmax(-1) @ rep_k.apply(v))
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)
    weight = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), (q, k, v)) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype, atol", [(torch.float32, 1e-6), (F64, 1e-14)])
def test_identity_is_plain_attention(dtype, atol):
    q, k, v = (t.detach().to(dtype) for t in qkv(24, n=8))
    eye = torch.eye(4, dtype=dtype).expand(2, 2, 4, 4)
    rep = BlockRep([("se3", 8), ("so3", 8), ("so2", 8)], pose=eye, position=torch.zeros(8, 2))
    ours = geometric_transform_attention(q, k, v, rep, rep)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v), atol=atol, rtol=0)


def test_one_view_does_not_see_its_pose():
    q, k, v = qkv(24, n=8)
    blocks, position = [("se3", 8), ("so3", 8), ("so2", 8)], torch.rand(8, 2, dtype=F64)
    reps = [BlockRep(blocks, pose=poses(2, 1, seed=seed), position=position) for seed in (0, 1)]
    torch.testing.assert_close(*(geometric_transform_attention(q, k, v, r, r) for r in reps), atol=1e-12, rtol=0)


def test_float32_far_from_the_origin_after_recentring():
    q, k, v = (t.detach().float() for t in qkv(8))
    out = []
    for frame in (torch.eye(4, dtype=F64), poses(1, size=1e4, seed=3)[0]):
        pose = relative_poses(poses(2, 8) @ frame).float()
        reps = [BlockRep([("se3", 8)], pose=p) for p in (pose[:, :6], pose)]
        out.append(geometric_transform_attention(q, k, v, *reps))
    torch.testing.assert_close(*out, atol=1e-5, rtol=1e-5)


def make(blocks=MIXED, **options):
    torch.manual_seed(0)
    layer = GTA(12, 2, blocks, translation_scale=0.7, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return layer


@pytest.mark.parametrize("euclidean", [False, True])
def test_views_that_are_not_there_change_nothing(euclidean):
    layer = make(EUCLIDEAN if euclidean else MIXED, euclidean=euclidean)
    pose, position, x = poses(2, 3), torch.rand(6, 2, dtype=F64), torch.randn(2, 6, 12, dtype=F64)
    short = BlockRep(layer.blocks, pose=pose[:, :2], position=position[:4], projection=pose[:, :2])
    pose = torch.cat([pose[:, :2], torch.eye(4, dtype=F64).expand(2, 1, 4, 4)], 1)
    long = BlockRep(layer.blocks, pose=pose, position=position, projection=pose)
    mask = (torch.arange(6) < 4).expand(2, 6)
    torch.testing.assert_close(layer(x, long, mask=mask)[:, :4], layer(x[:, :4], short), atol=1e-12, rtol=0)
    nothing = layer(x, long, mask=torch.zeros_like(mask))
    torch.testing.assert_close(nothing, layer.out.bias.expand_as(nothing))


def test_scenes_of_a_batch_do_not_see_each_other():
    layer, x = make(), torch.randn(2, 6, 12, dtype=F64)
    pose, position = poses(2, 3), torch.rand(2, 6, 2, dtype=F64)
    rep = lambda i: BlockRep(MIXED, pose=pose[i], position=position[i], projection=pose[i])
    both = layer(x, rep(slice(None)))
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], layer(x[i : i + 1], rep(slice(i, i + 1))), atol=1e-12, rtol=0)


@pytest.mark.parametrize("euclidean", [False, True])
def test_along_all_edges_is_dense(euclidean):
    layer = make(EUCLIDEAN if euclidean else MIXED, euclidean=euclidean)
    rep_x, rep_c = elements(layer.blocks, 4, batch=1), elements(layer.blocks, 5, batch=1, seed=1)
    x, context = torch.randn(1, 4, 12, dtype=F64), torch.randn(1, 5, 12, dtype=F64)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(4)).T
    nbr = Neighborhood.from_edge_index(pairs, 4, 5)
    edges = layer(x[0], rep_x, context[0], rep_c, edges=nbr)
    torch.testing.assert_close(edges, layer(x, rep_x, context, rep_c)[0], atol=1e-6, rtol=0)
    alone = layer(x[0], rep_x, edges=torch.zeros(2, 0, dtype=torch.long))
    torch.testing.assert_close(alone, layer.out.bias.expand_as(alone))


class OnGraph(nn.Module):
    """The layer along edges, with elements made from features of nodes."""

    def __init__(self):
        super().__init__()
        self.layer = GTA(8, 2, [("triv", 2), ("so2", 8)])

    def forward(self, x, position, edge_index):
        return self.layer(x, BlockRep(self.layer.blocks, position=position), edges=edge_index)


class TestContract(LayerContract):
    in_specs = {"x": "invariant/node", "position": "invariant/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node"}
    second_derivatives = True

    def layer(self):
        return OnGraph()

    def inputs(self, graph):
        position = graph.randn(graph.num_nodes, 2)
        return {"x": graph.randn(graph.num_nodes, 8), "position": position, "edge_index": graph.edge_index}


def test_all_parameters_and_poses_learn_and_weights_load():
    layer, rep = make(), elements(MIXED, 6, 2)
    x = torch.randn(2, 6, 12, dtype=F64)
    layer(x, rep).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
    again = make()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x, rep), layer(x, rep))
    assert GTA(12, 2, [("so2", 8)]).translation_scale is None


def test_relative_pose_is_learned_for_every_frame_of_the_world():
    """A query at one pose reads a point that another pose holds in its own coordinates, in its own."""
    torch.manual_seed(0)
    blocks, frame = [("se3", 4)], poses(1, size=5.0, seed=9)[0].float()
    pose = poses(256, 2, seed=2).float()
    point = torch.randn(256, 1, 3)
    own = torch.nn.functional.pad(point, (0, 1), value=1.0)
    target = (pose[:, :1] @ torch.linalg.inv(pose[:, 1:]) @ own[..., None])[:, 0, :3, 0]
    layer = GTA(4, 1, blocks, translation_scale=0.5)
    optimizer = torch.optim.Adam(layer.parameters(), 0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)

    def error(pose):
        query, key = (BlockRep(blocks, pose=pose[:, i : i + 1]) for i in (0, 1))
        return (layer(torch.ones(256, 1, 4), query, own, key)[:, 0, :3] - target).square().mean()

    for _ in range(400):
        optimizer.zero_grad()
        loss = error(pose)
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4
    assert error(pose @ frame) < 2e-4  # any frame, never seen


def test_errors_say_what_to_do():
    q, k, v = qkv(8)
    rep, other = elements([("se3", 8)], 6), elements([("so3", 8)], 8)
    for call, message in [
        (lambda: geometric_transform_attention(q, k, v, rep, other), "rep_k"),
        (lambda: geometric_transform_attention(q[..., :4], k, v, rep, rep), "q: "),
        (lambda: geometric_transform_attention(q, k[..., :4], v, rep, rep), "k: "),
        (lambda: geometric_transform_attention(q, k, v[:, :, :3], rep, rep), "v: "),
        (lambda: geometric_transform_attention(q, k, v, rep, rep, euclidean=True), 'Use "point"'),
        (lambda: GTA(8, 2, [("point", 3)]), "euclidean=True"),
        (lambda: GTA(8, 2, [("se3", 4)], euclidean=True), "isometries"),
        (lambda: GTA(8, 0, [("se3", 4)]), "num_heads"),
        (lambda: make()(torch.randn(2, 6, 12), rep), "those of the layer"),
        (lambda: make()(torch.randn(6, 12), elements(MIXED, 6)), "x: "),
        (lambda: make()(torch.randn(2, 6, 12), elements(MIXED, 6), torch.randn(2, 6, 12)), "both or neither"),
    ]:
        with pytest.raises(ShapeError, match=message):
            call()
    layer, node = make(), elements(MIXED, 6, batch=1)
    x, edges = torch.randn(6, 12, dtype=F64), torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ShapeError, match="mask beside edges"):
        layer(x, node, mask=torch.ones(1, 6, dtype=torch.bool), edges=edges)
    with pytest.raises(ShapeError, match="Neighborhood of x and the context"):
        layer(x, node, x.clone(), elements(MIXED, 6, batch=1, seed=1), edges=edges)
