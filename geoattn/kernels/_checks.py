"""Checks that the operations share."""

from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels.neighborhood import Neighborhood


def check_rows(argument: str, value: Tensor, rows: int, name: str, nbr: Neighborhood) -> None:
    """``value`` is floating point, has ``rows`` rows (``name`` in the message) and is on the device of the edges."""
    if value.ndim == 0 or value.shape[0] != rows:
        raise ShapeError(argument, f"shape {tuple(value.shape)}", f"[{name}, ...] with {name} = {rows}")
    if not value.is_floating_point():
        raise ShapeError(argument, f"dtype {value.dtype}", "a floating-point dtype", "Call .float() on it.")
    if value.device != nbr.device:
        raise ShapeError(argument, f"device {value.device}", f"{nbr.device}, where the edges are")
