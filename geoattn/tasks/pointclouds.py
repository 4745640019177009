"""Point clouds in any pose: the verbs of ``geoattn pointclouds``, and the same from Python.

Example:
    >>> from geoattn.tasks import pointclouds
    >>> run = pointclouds.fit("scans/", features={"num_points": 1024})  # doctest: +SKIP
    >>> pointclouds.predict(run.folder, [points])  # an array [N, 3] per cloud  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoattn.tasks._pointclouds_fit import Run, fit, run_fit
from geoattn.tasks._pointclouds_module import PointCloudModule

__all__ = ["PointCloudModule", "Run", "fit", "run"]


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn pointclouds VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {"fit": run_fit}
    verbs[verb](arguments)
