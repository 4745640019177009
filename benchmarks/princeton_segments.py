"""Parts of the Princeton segmentation benchmark by cross-validation, scored by the Rand index.

    python benchmarks/pointclouds_to_npz.py FOLDER princeton.npz
    python benchmarks/princeton_segments.py princeton.npz [--folds 5] [--epochs 20]

The people who cut the shapes gave parts no names, so there are no classes to learn. What is learned is whether two
points close to each other are of one part: a `RISurSegmenter` gives each point a vector z, and the probability of one
part is ``sigmoid(a - exp(b) |z_i - z_j|^2)``, over pairs of neighbours. Parts are then merged from single points
along the graph of neighbours (average linkage), until the mean distance means a probability of one half. Nothing is
chosen on a test fold: all epochs are trained, and the threshold is what the loss makes it. All clouds are turned at
random. Beside it k-means of coordinates and normals, with the median number of parts of the class, which it is told.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_matrix
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn

from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.baselines import KMeansSegments
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.metrics import evaluate_partitions
from geoattn.domains.pointclouds.records import Cloud
from geoattn.domains.pointclouds.rotations import random_rotation, rotated
from geoattn.kernels import knn
from geoattn.models import RISurSegmenter

SETTINGS = {
    "task": "segmentation",
    "num_points": 512,
    "levels": [[128, 16], [32, 16]],
    "up_neighbors": [8, 8],
    "normals": "given",
    "normal_neighbors": 24,
    "scale": "unit",
}
NEAR, GRAPH = 32, 8
BATCH = 16


class PartNetwork(nn.Module):
    """Vectors of points, and what distance between two of them means."""

    def __init__(self) -> None:
        super().__init__()
        self.points = RISurSegmenter(16, (64, 128), 32)
        self.offset, self.scale = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.0))

    def logits(self, z: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return self.offset - self.scale.exp() * ((z[i] - z[j]) ** 2).sum(-1)

    @property
    def border(self) -> float:
        """The distance at which both are equally likely."""
        return float((self.offset.clamp_min(1e-6) / self.scale.exp()).sqrt())


def train(clouds: Sequence[Cloud], epochs: int, seed: int) -> PartNetwork:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    featurizer = Featurizer(SETTINGS, keep=True)
    network = PartNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    steps = epochs * (len(clouds) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        order = rng.permutation(len(clouds))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = featurizer.batch([clouds[k] for k in order[start : start + BATCH]])
            near, _ = knn(batch.pyramid.pos, k=NEAR, ptr_x=batch.pyramid.ptr[0])
            i = torch.arange(len(near))[:, None].expand_as(near)[near >= 0]
            j = near[near >= 0]
            assert batch.target is not None
            same = (batch.target[i] == batch.target[j]).float()
            logits = network.logits(network.points(batch.pyramid), i, j)
            balance = torch.where(same == 1, same.mean(), 1 - same.mean()).reciprocal()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, same, balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.inference_mode()
def parts(network: PartNetwork, cloud: Cloud) -> np.ndarray:
    """``[N]`` part of every point of the cloud."""
    pyramid = Featurizer(SETTINGS)(cloud).pyramid
    z = network.points(pyramid).double().numpy()
    near = knn(pyramid.pos, k=GRAPH)[0].numpy()
    ends = np.repeat(np.arange(len(z)), GRAPH), near.reshape(-1)
    graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(len(z), len(z))).tocsr()
    graph = graph.maximum(graph.T)
    merging = AgglomerativeClustering(None, connectivity=graph, linkage="average", distance_threshold=network.border)
    found = merging.fit_predict(z)
    sampled = torch.from_numpy(cloud.points[pyramid.index.numpy()])
    return found[knn(sampled, torch.from_numpy(cloud.points), 1)[0][:, 0].numpy()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--folds", type=int, default=5, help="of them, how many to compute")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scores: dict[str, list[float]] = {"geoattn": [], "k_means": []}
    for fold in range(arguments.folds):
        data = PointCloudData(str(arguments.file), split=f"kfold:5:{fold}", progress=False)
        data.setup()
        learned = [*data.part("train"), *data.part("valid")]
        rng = np.random.default_rng(arguments.seed)
        test = [rotated(cloud, random_rotation(rng)) for cloud in data.part("test")]
        began = time.monotonic()
        network = train(learned, arguments.epochs, arguments.seed)
        truth = [cloud.segment for cloud in test if cloud.segment is not None]
        found = {
            "geoattn": [parts(network, cloud) for cloud in test],
            "k_means": KMeansSegments().fit(learned).predict(test),
        }
        for name, answer in found.items():
            scores[name].append(evaluate_partitions(truth, answer)["rand_index"]["value"])
        row = {"fold": fold, "shapes": len(test), "seconds": round(time.monotonic() - began)}
        print(json.dumps(row | {name: round(values[-1], 4) for name, values in scores.items()}), flush=True)
    for name, values in scores.items():
        print(f"{name}: Rand index {np.mean(values):.3f} ± {np.std(values):.3f} over {len(values)} folds")


if __name__ == "__main__":
    main()
