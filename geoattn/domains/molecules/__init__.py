"""Molecules and structures: reading, features, models, baselines, pictures; potentials and their ASE calculator."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoattn.domains.molecules.calculator import Calculator

__all__ = ["Calculator"]


def __getattr__(name: str) -> Any:
    """`Calculator` is imported when it is asked for: it needs ASE."""
    if name == "Calculator":
        from geoattn.domains.molecules.calculator import Calculator

        return Calculator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
