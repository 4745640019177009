"""Geometric transform attention: all tokens in one frame, so that relative poses alone matter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoattn.errors import ShapeError
from geoattn.geometry.block_rep import BlockRep, Blocks, check_blocks
from geoattn.kernels import Neighborhood, as_neighborhood, neighbor_attention
from geoattn.layers.biased_attention import biased_attention, key_mask

ISOMETRIES = ("triv", "point", "so3", "so2")


def geometric_transform_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rep_q: BlockRep,
    rep_k: BlockRep,
    *,
    v_transform: bool = True,
    euclidean: bool = False,
    mask: Tensor | None = None,
    attention: Callable[..., Tensor] = F.scaled_dot_product_attention,
) -> Tensor:
    r"""Attention in which token j is seen from token i: with its features mapped by :math:`\rho(g_i g_j^{-1})`.

    .. math::
        y_i = \sum_j \operatorname{softmax}_j\big(q_i^\top \rho_{ij} k_j / \sqrt d\big)\, \rho_{ij} v_j, \qquad
        \rho_{ij} = \rho(g_i g_j^{-1}) = P_i^{-1} P_j

    It is plain attention of :math:`P_i^{-\top} q_i`, :math:`P_j k_j` and :math:`P_j v_j` with outputs mapped by
    :math:`P_i^{-1}`. With ``euclidean``, the score is :math:`-|P_i q_i - P_j k_j|^2 / (2 \sqrt d)`, the query enters
    as a bias of each key, and blocks may move points.

    Paper: Miyato et al., "GTA: A Geometry-Aware Attention Mechanism for Multi-View Transformers", ICLR 2024,
    arXiv:2310.10375. The Euclidean score is that of the repository with the square, which older versions lack.

    Args:
        q: ``[B, H, N, d]`` queries.
        k: ``[B, H, M, d]`` keys.
        v: ``[B, H, M, d]`` values; any width if not ``v_transform``.
        rep_q: elements of the queries.
        rep_k: elements of the keys.
        v_transform: whether values and outputs are mapped. Without, and with "so2" alone, it is RoPE.
        euclidean: whether scores are distances. Blocks must be among "triv", "point", "so3", "so2".
        mask: ``[B, M]`` bool, True for keys that are there, e.g. not those of padded views.
        attention: plain attention; called with three tensors, ``scale`` and, with a mask, ``attn_mask [B, 1, 1, M]``.

    Returns:
        ``[B, H, N, d]`` in the dtype of v; a query without keys gets exactly 0.

    Symmetry: invariant to a change of the world's frame, :math:`g_i \to g_i h` for all i, exactly.

    Cost: that of ``attention``, and four maps of O(T d b). The Euclidean score takes one channel more.

    Raises:
        ShapeError: if a shape or block does not fit.

    Example:
        >>> import torch
        >>> q, k, v = torch.randn(3, 1, 2, 6, 16)  # 2 views of 3 tokens
        >>> rep = BlockRep([("se3", 8), ("so2", 8)], pose=torch.eye(4).expand(2, 4, 4), position=torch.rand(6, 2))
        >>> geometric_transform_attention(q, k, v, rep, rep).shape
        torch.Size([1, 2, 6, 16])
    """
    _check(q, k, v, rep_q, rep_k, euclidean)
    if mask is not None:
        mask = key_mask(mask, k)
    scale = q.shape[-1] ** -0.5
    values = rep_k.apply(v) if v_transform else v
    if euclidean:
        queries, keys = rep_q.apply(q), rep_k.apply(k)
        centre = keys.detach().mean(-2, keepdim=True)  # distances stay, and their rounding shrinks
        queries, keys = queries - centre, keys - centre
        bias = keys.to(torch.promote_types(keys.dtype, torch.float32)).square().sum(-1, keepdim=True) * (-scale / 2)
        one = torch.ones_like(bias[:, :, :1]).expand(*q.shape[:-1], 1)
        out = biased_attention(queries, keys, values, one, bias, mask=mask, scale=scale, attention=attention)
    else:
        options = {} if mask is None else {"attn_mask": mask[:, None, None, :]}
        out = attention(rep_q.apply_inverse_transpose(q), rep_k.apply(k), values, scale=scale, **options)
    out = rep_q.apply_inverse(out) if v_transform else out
    return out if mask is None else out.masked_fill(~mask.any(-1)[:, None, None, None], 0.0)


class GTA(nn.Module):
    r"""Multi-head geometric transform attention, to itself or to a context, of all tokens or along the edges of graphs.

    Tokens may be pixels or patches of views (a pose per view, a position in the image per token), a robot's joints and
    sensors, residues or rigid fragments of molecules: whatever has a pose or a position. The operator alone: put a norm
    before it and a residual around it.

    Paper: Miyato et al., "GTA", ICLR 2024, arXiv:2310.10375.

    Args:
        channels: C, width of the features.
        num_heads: H.
        blocks: of a head, see `BlockRep`; the head size d is their sum, and H d need not be C.
        context_channels: width of the keys' features; None for C.
        v_transform: whether values and outputs are mapped, see `geometric_transform_attention`.
        euclidean: whether scores are distances.
        translation_scale: what the learned factor of translations of "se3" and "point" starts with.

    Shapes:
        x ``[B, N, C]``; rep, the elements of x; context ``[B, M, C']`` and context_rep (x and rep if None); mask
        ``[B, M]`` bool, True for tokens of the context that are there. Or ragged, with ``edges`` ``[2, E]`` or a
        ``Neighborhood``: x ``[N, C]``, context ``[M, C']``, no mask. Returns the shape of x.

    Symmetry: invariant to the world's frame, exactly; equivariant to the order of tokens, which their elements follow.

    Cost: as plain attention or `neighbor_attention`, and four maps of O(T H d b), b at most 8; O(T C^2) for the maps.

    Edge cases: a token without keys or edges gets the bias of the last map. Poses of padded views must be the identity,
    and ``mask`` must hide their tokens. Logits of "se3" grow with the translations: give poses in units of the scene.

    Example:
        >>> import torch
        >>> layer = GTA(32, num_heads=2, blocks=[("se3", 8), ("so2", 8)])
        >>> extrinsics = torch.eye(4).expand(1, 3, 4, 4)  # of 3 views
        >>> rep = BlockRep(layer.blocks, pose=extrinsics, position=torch.rand(12, 2))  # 4 tokens per view
        >>> layer(torch.randn(1, 12, 32), rep).shape
        torch.Size([1, 12, 32])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        blocks: Blocks,
        *,
        context_channels: int | None = None,
        v_transform: bool = True,
        euclidean: bool = False,
        translation_scale: float = 0.01,
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        self.blocks = check_blocks(blocks)
        names = {name for name, _ in self.blocks}
        _check_kind(names, euclidean)
        self.channels, self.num_heads = channels, num_heads
        self.v_transform, self.euclidean = v_transform, euclidean
        self.context_channels = channels if context_channels is None else context_channels
        inner = num_heads * sum(size for _, size in self.blocks)
        self.query = nn.Linear(channels, inner)
        self.key_value = nn.Linear(self.context_channels, 2 * inner)
        self.out = nn.Linear(inner, channels)
        moves = bool(names & {"se3", "point"})
        self.translation_scale = nn.Parameter(torch.tensor(float(translation_scale))) if moves else None

    def forward(
        self,
        x: Tensor,
        rep: BlockRep,
        context: Tensor | None = None,
        context_rep: BlockRep | None = None,
        *,
        mask: Tensor | None = None,
        edges: Tensor | Neighborhood | None = None,
    ) -> Tensor:
        """Attended features in the shape of x; see the class for shapes.

        Raises:
            ShapeError: if a shape or a representation does not fit the constructor's arguments.
        """
        if (context is None) != (context_rep is None):
            raise ShapeError("context", "context or context_rep alone", "both or neither")
        self._check("x", x, self.channels, rep, edges is None)
        if context is None or context_rep is None:
            context, context_rep = x, rep
        self._check("context", context, self.context_channels, context_rep, edges is None)
        rep_q = self._scaled(rep)
        rep_k = rep_q if context_rep is rep else self._scaled(context_rep)
        rows = (self.query(x), *self.key_value(context).chunk(2, -1))
        q, k, v = (row.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2) for row in rows)
        attend = partial(geometric_transform_attention, v_transform=self.v_transform, euclidean=self.euclidean)
        if edges is None:
            y = attend(q, k, v, rep_q, rep_k, mask=mask)
            return self.out(y.transpose(1, 2).flatten(2))
        if mask is not None:
            raise ShapeError("mask", "a mask beside edges", "one of them", "Leave out the edges of missing nodes.")
        nbr = as_neighborhood(edges, x.shape[0]) if context is x else edges
        if not isinstance(nbr, Neighborhood):
            raise ShapeError("edges", f"{type(edges).__name__} for a context", "a Neighborhood of x and the context")
        y = attend(q[None], k[None], v[None], rep_q, rep_k, attention=_along(nbr))[0].transpose(0, 1).flatten(1)
        if rep.affine:  # an empty sum is no point to move
            y = y.masked_fill((nbr.degree == 0)[:, None], 0.0)
        return self.out(y)

    def _scaled(self, rep: BlockRep) -> BlockRep:
        return rep if self.translation_scale is None else rep.scaled(self.translation_scale)

    def _check(self, name: str, x: Tensor, channels: int, rep: BlockRep, dense: bool) -> None:
        if x.ndim != (3 if dense else 2) or x.shape[-1] != channels:
            raise ShapeError(name, f"shape {tuple(x.shape)}", f"{'[B, N, ' if dense else '[N, '}{channels}]")
        if rep.blocks != self.blocks:
            raise ShapeError("rep", f"blocks {rep.blocks}", f"those of the layer, {self.blocks}")

    def extra_repr(self) -> str:
        return f"{self.channels}, num_heads={self.num_heads}, blocks={self.blocks}, euclidean={self.euclidean}"


def _along(nbr: Neighborhood) -> Callable[..., Tensor]:
    """`neighbor_attention` for tensors ``[1, H, N, D]``."""

    def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        q, k, v = (rows[0].transpose(0, 1).contiguous() for rows in (q, k, v))
        return neighbor_attention(q, k, v, nbr, scale=scale).transpose(0, 1)[None]

    return attention


def _check_kind(names: set[str], euclidean: bool) -> None:
    if euclidean and not names <= set(ISOMETRIES):
        hint = 'Use "point" for poses.'
        raise ShapeError("blocks", f"{sorted(names)} with euclidean", f"isometries, {ISOMETRIES}", hint)
    if "point" in names and not euclidean:
        raise ShapeError("blocks", '"point" with dot products', "blocks with a matrix", "Use se3, or euclidean=True.")


def _check(q: Tensor, k: Tensor, v: Tensor, rep_q: BlockRep, rep_k: BlockRep, euclidean: bool) -> None:
    if rep_q.blocks != rep_k.blocks:
        raise ShapeError("rep_k", f"blocks {rep_k.blocks}", f"those of rep_q, {rep_q.blocks}")
    if q.ndim != 4 or q.shape[3] != rep_q.size:
        raise ShapeError("q", f"shape {tuple(q.shape)}", f"[B, H, N, d = {rep_q.size}]")
    if k.ndim != 4 or k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise ShapeError("k", f"shape {tuple(k.shape)}", f"[B, H, M, d] with B, H, d as in q, {tuple(q.shape)}")
    if v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ShapeError("v", f"shape {tuple(v.shape)}", f"[B, H, M, Dv] with B, H, M as in k, {tuple(k.shape)}")
    _check_kind({name for name, _ in rep_q.blocks}, euclidean)
