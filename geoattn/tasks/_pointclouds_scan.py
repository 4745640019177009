"""Scans that do not fit into memory, or that a model would see too little of: predicted in overlapping blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoattn.datasets.pointcloud_blocks import BlockedScan, stitched
from geoattn.datasets.progress import track
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.errors import InputError
from geoattn.hub import Pretrained
from geoattn.tasks._parts import checked_out
from geoattn.tasks._pointclouds_evaluate import predict_clouds
from geoattn.tasks._run import say

MARGIN = 0.1
"""Of the block's edge: how far blocks reach into each other if nobody says it."""


def predict_scan(
    loaded: Pretrained, data: str, out: str, block: float, margin: float | None, device: str, *, quiet: bool
) -> None:
    """Predict the points of one scan block by block, with memory for one block.

    Args:
        loaded: a model of points.
        data: one file of points.
        out: a .npy file: the class of each point in the order of the file (int32), or its normal (float32).
        block: edge of the blocks, in the unit of the file.
        margin: how far a block reaches into its neighbours; a tenth of ``block`` if left out.
        device: where to compute.
        quiet: no progress.

    Raises:
        InputError: a model of whole clouds, or a file that is none.
    """
    target = checked_out(out, (".npy",))
    task = loaded.preprocess["task"]
    if task == "classification":
        raise InputError("--block: this model classifies whole clouds; blocks are for models of points.")
    if loaded.preprocess["normals"] == "given":
        raise InputError("--block: this model reads normals, which blocks do not have. Use one that estimates them.")
    if not Path(data).is_file():
        raise InputError(f"--block: {data} is no file; blocks are of one scan.")
    featurizer = Featurizer(loaded.preprocess)
    reach = MARGIN * block if margin is None else margin
    with BlockedScan(data, block, reach, up=loaded.preprocess["up"]) as scan, stitched(target, scan) as result:
        for part in track(scan, scan.num_blocks, "Predict, blocks", show=not quiet):
            answers = predict_clouds(loaded.model, [part.cloud], featurizer, device)
            values = answers.points[0]
            result.add(part, values.astype(np.int32) if task == "segmentation" else values)
    names = ", ".join(f"{k} {name}" for k, name in enumerate(loaded.preprocess["segment_names"]))
    say(f"{scan.num_points} points in {scan.num_blocks} blocks: {target}. {names}".rstrip(), quiet=quiet)
