"""Fields on the globe: the verbs of ``geoattn sphere``, and the same from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoattn.tasks._sphere_fit import Run, fit, run_fit
from geoattn.tasks._sphere_module import SphereModule

__all__ = ["Run", "SphereModule", "fit", "run"]


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn sphere VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {"fit": run_fit}
    verbs[verb](arguments)
