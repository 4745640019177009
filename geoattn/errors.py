"""The errors geoattn raises on purpose: each names what was wrong, what came, what was expected and what to do."""

from collections.abc import Sequence


class GeoattnError(ValueError):
    """Base class of the errors that a user can mend. The command line prints these without a traceback."""


class ShapeError(GeoattnError):
    """A tensor argument has the wrong shape, dtype, device or range.

    Args:
        argument: name of the argument as the caller wrote it, e.g. ``"edge_index"``.
        got: what arrived, e.g. ``"shape (3, 10)"``.
        expected: what is accepted, e.g. ``"[2, E]"``.
        hint: the next step, if there is an obvious one.
    """

    def __init__(self, argument: str, got: str, expected: str, hint: str = "") -> None:
        self.argument, self.got, self.expected, self.hint = argument, got, expected, hint
        super().__init__(f"{argument}: got {got}, expected {expected}." + (f" {hint}" if hint else ""))


class InputError(GeoattnError):
    """A user's file, column, option or folder cannot be used as it is."""


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """``"Did you mean 'y'?"`` for the nearest of the known names, or the list of known names if none is near."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]!r}?"
    return "Known: " + ", ".join(map(repr, known)) + "." if known else ""
