"""Motion of interacting bodies: the verbs of ``geoattn dynamics``, and the same from Python.

Example:
    >>> from geoattn.tasks import dynamics
    >>> run = dynamics.fit("mine.npz")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoattn.tasks._dynamics_fit import Run, fit, run_fit
from geoattn.tasks._dynamics_module import DynamicsModule

__all__ = ["DynamicsModule", "Run", "fit", "run"]


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn dynamics VERB ARGUMENTS`` asks for."""
    verbs: dict[str, Callable[[list[str]], Any]] = {"fit": run_fit}
    verbs[verb](arguments)
