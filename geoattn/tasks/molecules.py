"""Properties of molecules and structures: the verbs of ``geoattn molecules``, and the same from Python."""

from __future__ import annotations

from geoattn.tasks._molecules_fit import Run, fit, run_fit
from geoattn.tasks._molecules_module import MoleculesModule

__all__ = ["MoleculesModule", "Run", "fit"]


def run(verb: str, arguments: list[str]) -> None:
    """Do what ``geoattn molecules VERB ARGUMENTS`` asks for."""
    if verb == "fit":
        run_fit(arguments)
