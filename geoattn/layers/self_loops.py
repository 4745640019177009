"""Self loops for attention that lets a node attend to itself."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, as_neighborhood, segment_reduce


def with_self_loops(
    edge_index: Tensor | Neighborhood, num_nodes: int, edge_attr: Tensor | None = None
) -> tuple[Neighborhood, Tensor | None]:
    """The graph with exactly one edge from each node to itself; once per batch, for layers that want it.

    Args:
        edge_index: ``[2, E]`` or a ``Neighborhood``; self loops that are there are dropped first, as in
            PyTorch Geometric.
        num_nodes: N.
        edge_attr: ``[E, A]`` in the caller's order; a loop gets the mean over the other edges that arrive at its node,
            zeros where there is none.

    Returns:
        the neighbourhood, whose order of edges is the caller's without loops and then the loops node by node, and its
        edge features in that order.

    Raises:
        ShapeError: if ``edge_attr`` does not have one row per edge.

    Example:
        >>> nbr, attr = with_self_loops(torch.tensor([[1, 1], [0, 1]]), 2, torch.tensor([[3.0], [5.0]]))
        >>> nbr.edge_index.tolist(), attr.tolist()
        ([[1, 0, 1], [0, 0, 1]], [[3.0], [3.0], [0.0]])
    """
    edges = as_neighborhood(edge_index, num_nodes).edge_index
    if edge_attr is not None and edge_attr.shape[0] != edges.shape[1]:
        raise ShapeError("edge_attr", f"shape {tuple(edge_attr.shape)}", f"[E = {edges.shape[1]}, A]")
    between = edges[0] != edges[1]
    edges = edges[:, between]
    if edge_attr is not None:
        edge_attr = edge_attr[between]
        mean = segment_reduce(edge_attr, Neighborhood.from_edge_index(edges, num_nodes), "mean")
        edge_attr = torch.cat([edge_attr, mean])
    loop = torch.arange(num_nodes, device=edges.device).expand(2, -1)
    return Neighborhood.from_edge_index(torch.cat([edges, loop], 1), num_nodes), edge_attr
