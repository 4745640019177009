"""Normals of point clouds from the points alone, and sides that agree between neighbours."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from torch import Tensor

from geoattn.geometry.surface import local_reference_axes
from geoattn.kernels import knn

SMALLEST = 1e-9
"""Added to the lengths of edges: a sparse matrix would drop those of exactly 0."""


def estimate_normals(pos: Tensor, k: int = 24, *, ptr: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Unit normals from the k nearest points of each, the point itself among them; they point away from the centroid.

    Args:
        pos: ``[N, 3]``.
        k: neighbours; where a cloud has fewer points, all of them.
        ptr: ``[B+1]``, where each cloud begins; None: one cloud.

    Returns:
        ``normal [N, 3]`` and ``gap [N]`` (`geoattn.geometry.surface.local_reference_axes`): where the gap is about 0,
        on a line, on a corner or among too few points, the normal means little.

    Symmetry: turns with the points. Cost: that of `knn`, ``O(N k)``, and N 3 x 3 eigenproblems.

    Example:
        >>> flat = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0])
        >>> normal, _ = estimate_normals(flat)
        >>> bool((normal[:, 2].abs() > 0.999).all())
        True
    """
    ptr = torch.tensor([0, len(pos)], device=pos.device) if ptr is None else ptr
    neighbors, _ = knn(pos, k=k, ptr_x=ptr, loop=True)
    return local_reference_axes(pos, pos, neighbors, pos - centroids(pos, ptr)[cloud_of(ptr)])


def orient_normals(pos: Tensor, normal: Tensor, k: int = 12) -> Tensor:
    """Normals flipped so that those of neighbours agree, and that of the outermost point looks outward.

    Sides spread from the point farthest from the centroid over a minimum spanning tree of the graph of k nearest
    neighbours, which prefers edges between nearly parallel normals. Where that graph falls apart, each piece begins
    at its own outermost point.

    Args:
        pos: ``[N, 3]`` one cloud.
        normal: ``[N, 3]`` unit, of either side.
        k: neighbours.

    Source: Hoppe et al., "Surface reconstruction from unorganized points", 1992. Cost: ``O(N k log N)``.
    """
    if len(pos) < 2:
        return normal
    neighbors, _ = knn(pos, k=k)
    source = torch.arange(len(pos), device=pos.device)[:, None].expand_as(neighbors)[neighbors >= 0]
    target = neighbors[neighbors >= 0]
    bend = 1 - (normal[source] * normal[target]).sum(-1).abs() + SMALLEST
    edges = (bend.double().cpu().numpy(), (source.cpu().numpy(), target.cpu().numpy()))
    graph = coo_matrix(edges, shape=(len(pos), len(pos))).tocsr()
    tree = minimum_spanning_tree(graph.minimum(graph.T) + (graph - graph.T).maximum(0))
    tree = tree + tree.T
    found = normal.double().cpu().numpy().copy()
    away = (pos.double() - pos.double().mean(0)).cpu().numpy()
    distance = np.linalg.norm(away, axis=1)
    for piece in _pieces(connected_components(tree, directed=False)[1]):
        start = piece[distance[piece].argmax()]
        if found[start] @ away[start] < 0:
            found[start] *= -1
        order, parent = breadth_first_order(tree, start, directed=False)
        for point in order[1:]:
            if found[point] @ found[parent[point]] < 0:
                found[point] *= -1
    return torch.from_numpy(found).to(normal)


def centroids(pos: Tensor, ptr: Tensor) -> Tensor:
    """``[B, 3]`` means of the points of each cloud, summed in float64; 0 for a cloud without."""
    total = pos.new_zeros(len(ptr) - 1, 3, dtype=torch.float64).index_add(0, cloud_of(ptr), pos.double())
    return (total / ptr.diff().clamp_min(1)[:, None]).to(pos.dtype)


def cloud_of(ptr: Tensor) -> Tensor:
    """``[N]`` the cloud to which each point belongs."""
    return torch.arange(len(ptr) - 1, device=ptr.device).repeat_interleave(ptr.diff())


def _pieces(labels: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
