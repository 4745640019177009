"""Searches beside brute force, scipy's tree and (where installed) Open3D, torch-cluster and vesin, in one run.

    python benchmarks/search.py [--device cuda] [--out runs/benchmark-search.json]

Time and memory on uniform clouds in 3-D, float32, two threads: `knn` with k = 16, `radius` with 16 neighbours on
average, `farthest_points` that take one point in 16, and the same k-NN and one point in two for 32 clouds of 1,024
points, as training has them. "brute force" is the usual ``cdist`` (from differences) and ``topk`` or ``nonzero`` in
chunks; of farthest points, torch's vector operations. Before timing, every contender must find the neighbours that
geoattn finds, but for pairs within rounding of the border, and samples that cover the cloud alike. scipy runs with
``workers=-1``; Open3D's farthest points use one thread, having no setting for more.
"""

import argparse
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from _harness import compare, print_and_save
from scipy.spatial import cKDTree
from torch import Tensor

from geoattn.kernels import farthest_points, knn, radius, use

K = 16
THINNING = 16
CLOUDS, CLOUD = 32, 1024
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
    _, idx = cKDTree(points).query(points, K + 1, workers=-1)
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


def open3d_knn(x: Tensor) -> Tensor:
    import open3d

    points = open3d.core.Tensor(x.numpy())
    search = open3d.core.nns.NearestNeighborSearch(points)
    search.knn_index()
    return as_edges(torch.from_numpy(search.knn_search(points, K + 1)[0].numpy()[:, 1:]).long())


def open3d_farthest(x: Tensor, num: int) -> Tensor:
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(x.double().numpy()))
    return torch.from_numpy(np.asarray(cloud.farthest_point_down_sample(num).points)).float()


def torch_cluster_knn(x: Tensor, batch: Tensor | None = None) -> Tensor:
    import torch_cluster

    return torch_cluster.knn_graph(x, K, batch)


def torch_cluster_farthest(x: Tensor, ratio: float, batch: Tensor | None = None) -> Tensor:
    import torch_cluster

    return x[torch_cluster.fps(x, batch, ratio, random_start=False)]


def brute_farthest(x: Tensor, num: int) -> Tensor:
    with use("reference"):
        return x[farthest_points(x, num)[0]]


def cloud_by_cloud(search: Callable[[Tensor], Tensor], x: Tensor, *, edges: bool) -> Tensor:
    """What a library without batches is asked for."""
    found = [search(cloud) + CLOUD * graph * edges for graph, cloud in enumerate(x.split(CLOUD))]
    return torch.cat(found, dim=1 if edges else 0)


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
        if importlib.util.find_spec("open3d"):
            by_knn["Open3D"] = lambda: open3d_knn(x)
    if importlib.util.find_spec("torch_cluster"):
        found[f"knn, k = {K}"]["torch-cluster"] = lambda: torch_cluster_knn(x)
    return found


def samplers(x: Tensor, device: str) -> dict[str, Search]:
    """Each gives the sampled points ``[S, 3]``."""
    num = len(x) // THINNING
    found: dict[str, Search] = {"geoattn": lambda: x[farthest_points(x, num)[0]]}
    if len(x) <= 2000:
        found["brute force"] = lambda: brute_farthest(x, num)
    if device == "cpu" and importlib.util.find_spec("open3d"):
        found["Open3D"] = lambda: open3d_farthest(x, num)
    if importlib.util.find_spec("torch_cluster"):
        found["torch-cluster"] = lambda: torch_cluster_farthest(x, num / len(x))
    return found


def batched(x: Tensor, device: str) -> tuple[dict[str, Search], dict[str, Search]]:
    """Neighbours and samples in many clouds at once."""
    ptr = torch.arange(CLOUDS + 1, device=device) * CLOUD
    batch = torch.arange(CLOUDS, device=device).repeat_interleave(CLOUD)
    half = CLOUD // 2
    neighbours: dict[str, Search] = {"geoattn": lambda: as_edges(knn(x, k=K, ptr_x=ptr)[0])}
    samples: dict[str, Search] = {"geoattn": lambda: x[farthest_points(x, half, ptr=ptr)[0]]}
    if device == "cpu":
        neighbours["scipy cKDTree"] = lambda: cloud_by_cloud(scipy_knn, x, edges=True)
        if importlib.util.find_spec("open3d"):
            neighbours["Open3D"] = lambda: cloud_by_cloud(open3d_knn, x, edges=True)
            samples["Open3D"] = lambda: cloud_by_cloud(lambda cloud: open3d_farthest(cloud, half), x, edges=False)
    if importlib.util.find_spec("torch_cluster"):
        neighbours["torch-cluster"] = lambda: torch_cluster_knn(x, batch)
        samples["torch-cluster"] = lambda: torch_cluster_farthest(x, 0.5, batch)
    return neighbours, samples


def check_samples(x: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """As many points that cover the cloud alike: where two distances tie within rounding, samples go apart."""
    reach = [cKDTree(samples.cpu().numpy()).query(x.cpu().numpy())[0].max() for samples in (ours, theirs)]
    if ours.shape != theirs.shape or abs(reach[0] - reach[1]) > 0.05 * reach[0]:
        raise SystemExit(f"samples {tuple(theirs.shape)} cover within {reach[1]}, ours {reach[0]}: not timed")


def check(ours: Tensor, theirs: Tensor, num_points: int) -> None:
    """The same edges, but for one in a thousand: distances that tie within rounding at the border."""
    keys = [set((edges[0] * num_points + edges[1]).tolist()) for edges in (ours, theirs)]
    different = len(keys[0] ^ keys[1])
    if different > len(keys[0]) / 1000:
        raise SystemExit(f"{different} of {len(keys[0])} edges differ: not timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 20_000, 100_000])
    parser.add_argument("--samples", type=int, nargs="+", default=[1024, 16_384])
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
    for points in arguments.samples:
        x = torch.rand(points, 3).to(arguments.device)
        searches = samplers(x, arguments.device)
        ours = searches["geoattn"]()
        for search in searches.values():
            check_samples(x, ours, search())
        compared = compare(searches, arguments.repeats, arguments.device)
        rows += [{"operation": f"farthest points, 1 in {THINNING}", "points": points} | row for row in compared]
    x = torch.rand(CLOUDS * CLOUD, 3).to(arguments.device)
    neighbours, samples = batched(x, arguments.device)
    for search in neighbours.values():
        check(neighbours["geoattn"](), search(), len(x))
    for search in samples.values():
        first_cloud = (found[: CLOUD // 2] for found in (samples["geoattn"](), search()))
        check_samples(x[:CLOUD], *first_cloud)
    for operation, searches in {f"knn, k = {K}": neighbours, "farthest points, 1 in 2": samples}.items():
        compared = compare(searches, arguments.repeats, arguments.device)
        rows += [{"operation": operation, "points": f"{CLOUDS} x {CLOUD}"} | row for row in compared]
    print_and_save(rows, arguments.out)
    if importlib.util.find_spec("torch_cluster") is None:
        print("torch-cluster: not installed")


if __name__ == "__main__":
    main()
