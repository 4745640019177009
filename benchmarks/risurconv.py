"""Where the time of a training step of RISurConv goes, and what the published form of the layer takes, in one run.

    python benchmarks/risurconv.py [--clouds 8] [--points 1024] [--out runs/benchmark-risurconv.json]

Clouds are drawn uniformly. Preparation is done once per cloud and kept (`Featurizer`); the network runs in every step,
forward and backward. "published" applies the layer as the paper's code does, with the two maps of the features one
after the other, the map of a point once per neighbour, and the published levels: the same classifier otherwise.
"""

import argparse
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor

from geoattn.geometry.normals import estimate_normals
from geoattn.geometry.surface_pyramid import SurfacePyramid, surface_pyramid
from geoattn.kernels import farthest_points, knn
from geoattn.layers import RISurConv
from geoattn.models import RISurClassifier

LEVELS = ((128, 16), (32, 24))
PUBLISHED_LEVELS = ((512, 8), (256, 16), (128, 32), (64, 64))


class PerNeighbor(RISurConv):
    """The layer with one joint map of features and source per neighbour."""

    def forward(self, x: Tensor | None, features: Tensor, idx: Tensor, ptr: Tensor | None = None) -> Tensor:
        if self.source is None or x is None:
            return super().forward(x, features, idx, ptr)
        edges = self.embed(features.flatten(0, 1))
        if self.neighbors is not None:
            edges = self._among_neighbors(self.neighbors, edges, idx >= 0, True, ptr)
        joint = torch.cat([self.edge.weight, self.source.weight], 1)
        hidden = self.norm(torch.cat([edges, x[idx.flatten()]], 1) @ joint.T).relu()
        return hidden.view(*idx.shape, -1).amax(1)


def step(model: RISurClassifier, clouds: SurfacePyramid) -> None:
    model(clouds).sum().backward()


def published(model: RISurClassifier) -> RISurClassifier:
    """The same network whose layers map sources once per neighbour."""
    for conv in (*model.encoder.convs, model.gather):
        conv.__class__ = PerNeighbor
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clouds", type=int, default=8, help="per batch")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-risurconv.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pos = torch.randn(arguments.clouds * arguments.points, 3)
    ptr = torch.arange(arguments.clouds + 1) * arguments.points
    normal, _ = estimate_normals(pos, ptr=ptr)
    ours = surface_pyramid(pos, LEVELS, normal=normal, ptr=ptr)
    deep = surface_pyramid(pos, PUBLISHED_LEVELS, normal=normal, ptr=ptr)
    model = RISurClassifier(10)
    joint = published(RISurClassifier(10, attention="neighbors", paper=True))
    large = published(RISurClassifier(10, (32, 64, 128, 256, 512), 64, attention="neighbors", context=0, paper=True))
    rows = compare(
        {
            "step, forward and backward": lambda: step(model, ours),
            "preparation, all of it": lambda: surface_pyramid(pos, LEVELS, ptr=ptr),
            "of which normals": lambda: estimate_normals(pos, ptr=ptr),
            "of which the search for their neighbours": lambda: knn(pos, k=24, ptr_x=ptr, loop=True),
            "of which farthest points": lambda: farthest_points(pos, arguments.points, ptr=ptr, start="centroid"),
            "of which levels, order and features": lambda: surface_pyramid(pos, LEVELS, normal=normal, ptr=ptr),
            "step, maps as published": lambda: step(joint, ours),
            "step, maps, levels and widths as published": lambda: step(large, deep),
        },
        arguments.repeats,
    )
    for row in rows:
        row["clouds/s"] = 1e3 * arguments.clouds / row["ms"]
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
