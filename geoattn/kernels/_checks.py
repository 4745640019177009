"""Checks that the operations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from geoattn.errors import ShapeError

if TYPE_CHECKING:  # which checks its own arguments with this module
    from geoattn.kernels.neighborhood import Neighborhood

NEXT_STEP = {
    "Tensor": "Make one with torch.as_tensor(...).",
    "Neighborhood": "Make one with Neighborhood.from_edge_index(edge_index, num_targets).",
    "BilinearTable": "Make one with BilinearTable.from_dense(...).",
}


def check_type(argument: str, value: object, kind: type) -> None:
    """``value`` is a ``kind``, a class that `NEXT_STEP` names."""
    if not isinstance(value, kind):
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        hint = NEXT_STEP[kind.__name__]
        raise ShapeError(argument, f"{type(value).__name__}{shape}", f"a {kind.__name__}", hint)


def check_rows(argument: str, value: Tensor, rows: int, name: str, nbr: Neighborhood) -> None:
    """``value`` is a floating-point tensor of ``rows`` rows (``name`` in the message), on the device of the edges."""
    check_type(argument, value, Tensor)
    if value.ndim == 0 or value.shape[0] != rows:
        raise ShapeError(argument, f"shape {tuple(value.shape)}", f"[{name}, ...] with {name} = {rows}")
    if not value.is_floating_point():
        raise ShapeError(argument, f"dtype {value.dtype}", "a floating-point dtype", "Call .float() on it.")
    if value.device != nbr.device:
        raise ShapeError(argument, f"device {value.device}", f"{nbr.device}, where the edges are")
