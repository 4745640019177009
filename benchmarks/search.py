"""knn and radius beside brute force, scipy's tree and (where installed) vesin: time and memory, in one run.

    python benchmarks/search.py [--device cuda] [--out runs/benchmark-search.json]

Uniform clouds in 3-D, float32, k = 16, a radius with 16 neighbours on average, two threads. "brute force" is the usual
``cdist`` (from differences) and ``topk`` or ``nonzero`` in chunks. Before timing, every contender must find the
neighbours that geoattn finds, but for pairs within rounding of the border.
"""

import argparse
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from _harness import compare, print_and_save
from scipy.spatial import cKDTree
from torch import Tensor

from geoattn.kernels import knn, radius

K = 16
CHUNK = 2**24
Search = Callable[[], Tensor]
"""Gives ``[2, E]`` source and target."""


def distance_chunks(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First row and distances to all points, infinite to the point itself, of a few points at a time."""
    step = max(1, CHUNK // len(x))
    for start in range(0, len(x), step):
        distance = torch.cdist(x[start : start + step], x, compute_mode="donot_use_mm_for_euclid_dist")
        distance.diagonal(start).fill_(math.inf)
        yield start, distance


def brute_knn(x: Tensor) -> Tensor:
    nearest = [distance.topk(K, dim=1, largest=False).indices for _, distance in distance_chunks(x)]
    return as_edges(torch.cat(nearest))


def brute_radius(x: Tensor, r: float) -> Tensor:
    edges = []
    for start, distance in distance_chunks(x):
        target, source = (distance <= r).nonzero(as_tuple=True)
        edges.append(torch.stack([source, target + start]))
    return torch.cat(edges, dim=1)


def scipy_knn(x: Tensor) -> Tensor:
    points = x.numpy()
    _, idx = cKDTree(points).query(points, K + 1, workers=torch.get_num_threads())
    return as_edges(torch.from_numpy(idx[:, 1:]))  # takes the nearest for the point itself


def scipy_radius(x: Tensor, r: float) -> Tensor:
    tree = cKDTree(x.numpy())
    found = tree.sparse_distance_matrix(tree, r, output_type="ndarray")
    edges = torch.stack([torch.from_numpy(found["j"].copy()), torch.from_numpy(found["i"].copy())])
    return edges[:, edges[0] != edges[1]]


def vesin_radius(x: Tensor, r: float) -> Tensor:
    from vesin import NeighborList

    target, source = NeighborList(cutoff=r, full_list=True).compute(
        points=x.numpy(), box=torch.zeros(3, 3).numpy(), periodic=False, quantities="ij"
    )
    return torch.stack([torch.from_numpy(source.astype("int64")), torch.from_numpy(target.astype("int64"))])


def as_edges(idx: Tensor) -> Tensor:
    """``[2, M k]`` source and target of ``[M, k]`` neighbours."""
    return torch.stack([idx.flatten(), torch.arange(len(idx), device=idx.device).repeat_interleave(idx.shape[1])])


def contenders(x: Tensor, device: str) -> dict[str, dict[str, Search]]:
    r = (K / len(x) / (4 / 3 * math.pi)) ** (1 / 3)
    found: dict[str, dict[str, Search]] = {
        f"knn, k = {K}": {"geoattn": lambda: as_edges(knn(x, k=K)[0]), "brute force": lambda: brute_knn(x)},
        f"radius, mean degree {K}": {
            "geoattn": lambda: radius(x, r=r).edge_index,
            "brute force": lambda: brute_radius(x, r),
        },
    }
    if device == "cpu":
        by_knn, by_radius = found.values()
        by_knn["scipy cKDTree"] = lambda: scipy_knn(x)
        by_radius["scipy cKDTree"] = lambda: scipy_radius(x, r)
        if importlib.util.find_spec("vesin"):
            by_radius["vesin"] = lambda: vesin_radius(x, r)
    return found


def check(ours: Tensor, theirs: Tensor, num_points: int) -> None:
    """The same edges, but for one in a thousand: distances that tie within rounding at the border."""
    keys = [set((edges[0] * num_points + edges[1]).tolist()) for edges in (ours, theirs)]
    different = len(keys[0] ^ keys[1])
    if different > len(keys[0]) / 1000:
        raise SystemExit(f"{different} of {len(keys[0])} edges differ: not timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 20_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-search.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rows = []
    for points in arguments.points:
        x = torch.rand(points, 3).to(arguments.device)
        for operation, searches in contenders(x, arguments.device).items():
            if points > 50_000:
                del searches["brute force"]  # minutes
            ours = searches["geoattn"]()
            for search in searches.values():
                check(ours, search(), points)
            compared = compare(searches, arguments.repeats, arguments.device)
            rows += [{"operation": operation, "points": points} | row for row in compared]
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
