"""``geoattn pointclouds view``: a window with a cloud, coloured by what a model says of it."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from geoattn._optional import require
from geoattn.datasets.pointcloud_output import COLOURS
from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_sets import list_clouds
from geoattn.domains.ensemble import Ensemble
from geoattn.domains.pointclouds.featurize import Featurizer
from geoattn.domains.pointclouds.pictures import attention_of_points, shaded
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError, nearest_hint
from geoattn.tasks._pointclouds_evaluate import nearest_sampled, predict_clouds
from geoattn.tasks._pointclouds_predict import check_clouds, load
from geoattn.tasks._run import say


def view_file(data: str, model: str | None = None, cloud: str | None = None, quiet: bool = False) -> None:
    """Show a cloud in a window, coloured by what a model says of it.

    Classes of points and normals are shown as colours; for a model of whole clouds the colour is attention, and the
    class is said. Without a model, the classes of points of the file, if it has any. Needs a screen and Open3D.

    Args:
        data: a file, folder, table or .npz.
        model: model folder, run folder, or the name of a shipped model.
        cloud: the name of the cloud to show, of several; the first if left out.
        quiet: do not say what is shown.
    """
    chosen = _choose(data, cloud)
    colours, what = _plain(chosen) if model is None else _coloured(chosen, model)
    say(f"{chosen.id}: {what}", quiet=quiet)
    check_screen()
    open3d = require("open3d", "pointclouds")
    shown = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(chosen.points.astype(np.float64)))
    shown.colors = open3d.utility.Vector3dVector(colours / 255.0)
    open3d.visualization.draw_geometries([shown], window_name=f"{chosen.id}: {what}")


def check_screen() -> None:
    """Refuse where no window can be opened.

    Raises:
        InputError: says what to do instead.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError(
            "view: there is no screen here. Write coloured .ply files with geoattn pointclouds predict --out FOLDER, "
            "and open them where there is one; the report has pictures too."
        )


def _choose(data: str, name: str | None) -> Cloud:
    found = list_clouds(data)
    names = [entry.id for entry in found.entries]
    if name is not None and name not in names:
        raise InputError(f"--cloud: {data} has no cloud {name!r}. {nearest_hint(name, names)}")
    row = 0 if name is None else names.index(name)
    _, cloud, _ = next(iter(found.read([row])))
    if isinstance(cloud, CloudError):
        raise InputError(f"{found.entries[row].file}: {cloud}") from cloud
    return cloud


def _plain(cloud: Cloud) -> tuple[np.ndarray, str]:
    if cloud.segment is None:
        return np.tile(COLOURS[0], (len(cloud), 1)), f"{len(cloud)} points"
    grey = np.array([200, 205, 210], dtype=np.uint8)
    colours = np.where(cloud.segment[:, None] >= 0, COLOURS[cloud.segment % len(COLOURS)], grey)
    return colours, f"{len(cloud)} points, by class"


def _coloured(cloud: Cloud, model: str) -> tuple[np.ndarray, str]:
    """``[N, 3]`` colours, and what they mean."""
    loaded = load(model)
    task, featurizer = loaded.preprocess["task"], Featurizer(loaded.preprocess)
    check_clouds([cloud], loaded.preprocess)
    answers = predict_clouds(loaded.model, [cloud], featurizer)
    if task == "normals":
        return (127.5 * (1 + answers.points[0])).astype(np.uint8), "normals as colours"
    if task == "segmentation":
        names = [loaded.preprocess["segment_names"][k] for k in np.unique(answers.points[0])]
        return COLOURS[answers.points[0] % len(COLOURS)], ", ".join(names)
    best = int(answers.classes()[0])
    said = f"{loaded.preprocess['class_names'][best]} ({answers.probability[0][best]:.2f})"
    network: Any = loaded.model.models[0] if isinstance(loaded.model, Ensemble) else loaded.model
    sample = featurizer(cloud)
    weights = attention_of_points(network, featurizer.collate([sample]))
    if weights is None:
        return _plain(cloud)[0], said
    names = shaded(weights.numpy()[nearest_sampled(cloud, sample)])
    return np.array([[int(name[k : k + 2], 16) for k in (1, 3, 5)] for name in names]), f"{said}, by attention"
