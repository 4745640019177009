"""Graphs that hurt, for every operation over a neighbourhood."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from geoattn.kernels import Neighborhood


class Graph(NamedTuple):
    edge_index: Tensor
    num_targets: int
    num_sources: int

    @property
    def num_edges(self) -> int:
        return self.edge_index.shape[1]

    def neighborhood(self) -> Neighborhood:
        return Neighborhood.from_edge_index(self.edge_index, self.num_targets, self.num_sources)


def _random(num_edges: int, num_targets: int, num_sources: int, reachable: int | None = None) -> Graph:
    """Random edges, which repeat where there are many; only the first ``reachable`` targets have any."""
    generator = torch.Generator().manual_seed(num_edges)
    source = torch.randint(num_sources, (num_edges,), generator=generator)
    target = torch.randint(reachable or num_targets, (num_edges,), generator=generator)
    return Graph(torch.stack([source, target]), num_targets, num_sources)


GRAPHS = {
    "no nodes": Graph(torch.zeros(2, 0, dtype=torch.int64), 0, 0),
    "no edges": Graph(torch.zeros(2, 0, dtype=torch.int64), 3, 2),
    "one node": Graph(torch.zeros(2, 1, dtype=torch.int64), 1, 1),
    "duplicate edges": Graph(torch.tensor([[1, 1, 1, 0], [2, 2, 2, 0]]), 3, 3),
    "isolated targets, bipartite": _random(63, 12, 5, reachable=7),
    "bipartite": _random(100, 7, 19),
    "hub": _random(300, 4, 40, reachable=1),
    "sorted": Graph(torch.stack([torch.arange(64) % 9, torch.arange(64) // 4]), 16, 9),
}


@pytest.fixture(params=GRAPHS)
def graph(request) -> Graph:
    return GRAPHS[request.param]


@pytest.fixture
def small_graph() -> Graph:
    """Small enough for finite differences: an isolated target, duplicate edges, two sizes of neighbourhood."""
    return Graph(torch.tensor([[0, 2, 2, 1, 0, 2], [3, 0, 0, 3, 3, 1]]), 5, 3)
