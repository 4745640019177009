"""Two orders of work for a tensor field convolution, which give the same messages.

With ``R_e = sum_u u_eu W_u`` the matrices of an edge, W the weights and x the features of the source:

- by edge: make ``R_e`` in the edge's frame, then apply it to x (`messages_by_edge`);
- by source: apply every ``W_u`` to x once per node, then sum over u for each edge that leaves there, and turn the
  result with the edge's couplings (`messages_by_source`). The large product is done once per node instead of per edge.

Both work on blocks of edges or nodes if their intermediate results are large, and make these again in the backward, so
that memory grows with the number of edges times that of channels, and not with the size of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from geoattn.geometry.clebsch_gordan import clebsch_gordan
from geoattn.geometry.edge_basis import EdgeBasis
from geoattn.kernels import Neighborhood
from geoattn.layers.padded_degrees import Columns

Path = tuple[int, int, int]
"""Degrees (k, J, l): features of degree k times harmonics of degree J give degree l."""


def messages_by_edge(
    z: Tensor, u: Tensor, weights: Sequence[Tensor], columns: Sequence[Tensor | None], lmax: int
) -> Tensor:
    """The convolution in the edges' frames: for each m the matrices of the edges, times the components of order m.

    Args:
        z: ``[E, S_M, C]``, features of the sources, m-major.
        u: ``[E, U]``, units of the radial network.
        weights: for each m ``[U, K_m, 1 or 2, N_m]``, ``K_m`` and ``N_m`` the channels of all degrees >= m.
        columns: for each m where those K_m stand among ``(degrees lmax >= m, C)``; None where that is all of them.
        lmax: highest degree of ``z``'s order.

    Returns:
        ``[E, N_0 + 2 N_1 + ...]``: m = 0, +1, -1, +2, ...

    Cost: ``U sum_m parts K_m N_m`` multiplications per edge, and as many numbers without the U in memory.
    """
    signs = [2 if m else 1 for m in range(len(weights))]
    rows = z.split([sign * (lmax + 1 - m) for m, sign in enumerate(signs)], dim=1)
    out = []
    for z_m, sign, weight, where in zip(rows, signs, weights, columns, strict=True):
        z_m = z_m.reshape(z.shape[0], sign, z_m.shape[1] // sign * z.shape[2])
        if where is not None:
            z_m = z_m.index_select(2, where)
        _, size_in, parts, size_out = weight.shape
        matrix = functional.linear(u, weight.flatten(1).mT).view(z.shape[0], size_in, parts * size_out)
        y = torch.bmm(z_m, matrix)
        if parts == 1:
            out.append(y.flatten(1))
        else:
            (real_plus, imag_plus), (real_minus, imag_minus) = (
                side.unbind(1) for side in y.unflatten(2, (2, size_out)).unbind(1)
            )
            out += [real_plus - imag_minus, real_minus + imag_plus]
    return torch.cat(out, dim=1)


class SourceBlock(NamedTuple):
    """Some nodes and the edges that leave them.

    Attributes:
        num_nodes: n.
        degree: D, the largest number of edges of one of them.
        slots: ``[edges]``, the place of each edge among ``n D``, D to each node; None if all are taken, in order.
        num_edges: number of edges.
    """

    num_nodes: int
    degree: int
    slots: Tensor | None
    num_edges: int


class SourceBlocks:
    """Nodes in blocks of about as many leaving edges each, so that padding to the largest of a block wastes little.

    Attributes:
        nodes: all nodes with leaving edges, block by block.
        edges: all edges, in CSR order's numbers, node by node.
        blocks: sizes of the blocks.
    """

    def __init__(self, nbr: Neighborhood, max_nodes: int) -> None:
        counts, order = nbr.source_ptr.diff().sort(descending=True, stable=True)
        counts, order = counts[counts > 0], order[counts > 0]
        starts = nbr.source_ptr[order]
        place = torch.arange(nbr.num_edges, device=nbr.device)
        first = counts.cumsum(0) - counts
        owner = torch.arange(len(counts), device=nbr.device).repeat_interleave(counts)
        self.nodes = order
        self.edges = nbr.source_order[starts[owner] + place - first[owner]]
        self.blocks = []
        sizes, begin, edge = counts.tolist(), 0, 0
        while begin < len(sizes):
            end, num_edges = begin, 0
            while end < min(begin + max_nodes, len(sizes)) and 2 * sizes[end] > sizes[begin]:
                num_edges += sizes[end]
                end += 1
            here = slice(edge, edge + num_edges)
            regular = sizes[begin] == sizes[end - 1]
            slots = (owner[here] - begin) * sizes[begin] + place[here] - first[owner[here]]
            self.blocks.append(SourceBlock(end - begin, sizes[begin], None if regular else slots, num_edges))
            begin, edge = end, edge + num_edges


def messages_by_source(
    x: Tensor,
    u: Tensor,
    weights: Mapping[Path, Tensor],
    basis: EdgeBasis,
    columns_in: Columns,
    columns_out: Columns,
) -> Tensor:
    """The convolution in space, node by node: W on the features, then u and the couplings of each leaving edge.

    Args:
        x: ``[N, (L_in+1)^2, C]``, padded.
        u: ``[E, U]``.
        weights: of the paths, ``(k, J, l) -> [U, C_k, C'_l]``.
        basis: the edges' geometry.
        columns_in, columns_out: where the channels stand.

    Returns:
        ``[E, (L_out+1)^2, C']``, zero in columns that a degree does not fill.

    Cost: ``U sum_paths (2k+1) C_k C'_l`` multiplications per node and ``U sum_paths (2k+1) C'_l`` per edge.
    """
    pairs = _pairs(weights)
    matrices = [
        torch.stack([weights[k, j, out] for j in degrees], dim=2).transpose(0, 1).flatten(1)
        for (k, out), degrees in pairs.items()
    ]
    per_node = sum((2 * k + 1) * matrix.shape[1] for (k, _), matrix in zip(pairs, matrices, strict=True))
    max_nodes = max(1, block_size(u) // per_node)
    plan: SourceBlocks = basis.once(("source blocks", max_nodes), lambda: SourceBlocks(basis.nbr, max_nodes))
    harmonics = basis.harmonics(columns_in.lmax + columns_out.lmax)
    couplings = [
        basis.once(
            ("coupling", k, out, *degrees, max_nodes), partial(_coupling, harmonics, k, out, degrees, plan.edges)
        )
        for (k, out), degrees in pairs.items()
    ]
    counts = [block.num_edges for block in plan.blocks]
    nodes = x.index_select(0, plan.nodes).split([block.num_nodes for block in plan.blocks])
    units = u.index_select(0, plan.edges).split(counts)
    turned = list(zip(*(coupling.split(counts) for coupling in couplings), strict=True))

    def one(block: SourceBlock, x: Tensor, u: Tensor, couplings: Sequence[Tensor], *matrices: Tensor) -> Tensor:
        by_pair = zip(pairs, couplings, matrices, strict=True)
        return _one_block(block, x, u, by_pair, columns_in, columns_out)

    run = again_in_backward(one) if len(plan.blocks) > 1 else one
    messages = [run(*each, *matrices) for each in zip(plan.blocks, nodes, units, turned, strict=True)]
    out = u.new_zeros(u.shape[0], (columns_out.lmax + 1) ** 2, columns_out.width)
    return out.index_copy(0, plan.edges, torch.cat(messages)) if messages else out


def _one_block(
    block: SourceBlock,
    x: Tensor,
    u: Tensor,
    by_pair: Iterator[tuple[tuple[int, int], Tensor, Tensor]],
    columns_in: Columns,
    columns_out: Columns,
) -> Tensor:
    """Messages ``[edges, (L_out+1)^2, C']`` of the edges that leave the nodes of one block."""
    num_nodes, degree, slots, num_edges = block
    if slots is not None:
        u = u.new_zeros(num_nodes * degree, u.shape[1]).index_copy(0, slots, u)
    u = u.view(num_nodes, 1, degree, u.shape[1])
    parts: dict[int, Tensor] = {}
    for (k, out), coupling, matrix in by_pair:
        of, width = columns_in.of[k], columns_in.width
        rows = x[:, k**2 : (k + 1) ** 2]
        rows = rows if of == list(range(width)) else rows[..., of]
        mapped = (rows.reshape(-1, len(of)) @ matrix).view(num_nodes * (2 * k + 1), u.shape[3], -1)
        mixed = torch.bmm(u.expand(-1, 2 * k + 1, -1, -1).flatten(0, 1), mapped)
        mixed = mixed.view(num_nodes, 2 * k + 1, degree, mixed.shape[2]).transpose(1, 2)
        mixed = mixed.reshape(num_nodes * degree, -1, len(columns_out.of[out]))  # [places, (2k+1) F, C'_l]
        if slots is not None:
            mixed = mixed.index_select(0, slots)
        parts[out] = torch.baddbmm(parts[out], coupling, mixed) if out in parts else torch.bmm(coupling, mixed)
    if not columns_out.full:
        like = next(iter(parts.values()))
        for out in range(columns_out.lmax + 1):
            empty = like.new_zeros(num_edges, 2 * out + 1, columns_out.width)
            if out in parts:
                where = torch.tensor(columns_out.of[out], device=like.device)
                parts[out] = empty.index_copy(2, where, parts[out])
            else:
                parts[out] = empty
    return torch.cat([parts[out] for out in sorted(parts)], dim=1)


def block_size(like: Tensor) -> int:
    """How many numbers of intermediate results to have at a time: what caches and, on a GPU, its many threads want."""
    return 2**27 if like.is_cuda else 2**23


def edges_in_blocks(
    z: Tensor, u: Tensor, weights: Sequence[Tensor], columns: Sequence[Tensor | None], lmax: int
) -> Tensor:
    """`messages_by_edge` over blocks of edges, whose matrices are made again in the backward."""
    per_edge = sum(weight[0].numel() for weight in weights)
    num_edges = max(1, block_size(u) // per_edge)
    if torch.compiler.is_compiling() or len(u) <= num_edges:
        return messages_by_edge(z, u, weights, columns, lmax)
    run = again_in_backward(messages_by_edge)
    blocks = zip(z.split(num_edges), u.split(num_edges), strict=True)
    return torch.cat([run(*block, weights, columns, lmax) for block in blocks])


def again_in_backward(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function``, which keeps no intermediate results but makes them again in the backward."""
    if not torch.is_grad_enabled():
        return function

    def run(*args: object) -> Tensor:
        result: Tensor = checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False)
        return result

    return run


def _pairs(weights: Mapping[Path, Tensor]) -> dict[tuple[int, int], list[int]]:
    """(k, l) -> the degrees J of its paths, ascending."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for k, j, out in sorted(weights):
        pairs.setdefault((k, out), []).append(j)
    return pairs


def _coupling(harmonics: Tensor, k: int, out: int, degrees: Sequence[int], edges: Tensor) -> Tensor:
    """``sum_M C[m', M, m] Y_JM``, ``[E, 2l+1 (m), (2k+1) F (m', J)]`` for the F degrees J, edges as ``edges`` says."""
    harmonics = harmonics[:, : (k + out + 1) ** 2].index_select(0, edges)
    table = harmonics.new_zeros(harmonics.shape[1], 2 * out + 1, 2 * k + 1, len(degrees))
    for place, j in enumerate(degrees):
        table[j**2 : (j + 1) ** 2, :, :, place] = clebsch_gordan(k, j, out).permute(1, 2, 0)
    return (harmonics @ table.flatten(1)).view(-1, 2 * out + 1, (2 * k + 1) * len(degrees))
