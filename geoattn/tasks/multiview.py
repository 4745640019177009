"""Scenes from new cameras: the verbs of ``geoattn multiview``, and the same from Python.

Example:
    >>> from geoattn.tasks import multiview
    >>> run = multiview.fit("scenes/", data={"image_size": 32})  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoattn.tasks._multiview_fit import Run, fit, run_fit
from geoattn.tasks._multiview_module import MultiviewModule

__all__ = ["MultiviewModule", "Run", "fit", "run"]


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn multiview VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {"fit": run_fit}
    verbs[verb](arguments)
