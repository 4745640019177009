"""Which implementation of an operation runs: reference (plain PyTorch), numba (CPU) or triton (CUDA)."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from geoattn.errors import InputError, nearest_hint

IMPLEMENTATIONS = ("reference", "numba", "triton")
FLOATS = {
    # bfloat16 and float16 on the CPU are computed in float32 and rounded once at the end
    "numba": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
    "triton": (torch.float32, torch.float64, torch.bfloat16, torch.float16),
}
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None

_forced: str | None = None
_record: dict[str, Choice] = {}


@dataclass(frozen=True)
class Choice:
    """What ran for an operation, and why the faster ones did not."""

    operation: str
    ran: str
    device: str
    dtype: str
    refused: dict[str, str]

    def __str__(self) -> str:
        why = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        return f"{self.operation} ({self.device}, {self.dtype}): {self.ran}" + (f"  [not {why}]" if why else "")


class use:  # noqa: N801 - reads as a statement, like torch.no_grad
    """Force one implementation for the whole process: ``use("reference")``, or ``with use("numba"): ...``.

    ``use("auto")`` goes back to choosing by device and dtype. A forced implementation that cannot run raises
    ``RuntimeError`` with the reason.
    """

    def __init__(self, implementation: str) -> None:
        global _forced
        known = ("auto", *IMPLEMENTATIONS)
        if implementation not in known:
            hint = nearest_hint(implementation, known)
            raise InputError(f"implementation: got {implementation!r}, expected one of {', '.join(known)}. {hint}")
        self._before = _forced
        _forced = None if implementation == "auto" else implementation

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _forced
        _forced = self._before


def explain() -> list[Choice]:
    """For each operation called so far in this process: what ran last, and why the others did not.

    Calls inside ``torch.compile`` are not recorded.

    Example:
        >>> for choice in explain():
        ...     print(choice)  # doctest: +SKIP
    """
    return list(_record.values())


def choose(operation: str, tensor: Tensor, refused: dict[str, str] | None = None) -> str:
    """The implementation that serves ``tensor``'s device and dtype.

    Args:
        operation: name of the operation, for ``explain()``.
        tensor: decides by its device and dtype.
        refused: implementation -> reason, where the operation itself rules one out for these arguments.

    Raises:
        RuntimeError: if ``use(...)`` forces an implementation that cannot run here.
    """
    reasons = dict(refused or {})
    for name in ("numba", "triton"):
        reason = _refusal(name, tensor.device.type, tensor.dtype)
        if reason and name not in reasons:
            reasons[name] = reason
    if _forced is not None:
        if _forced in reasons:
            raise RuntimeError(f"{operation}: use({_forced!r}) is in force, but {reasons[_forced]}")
        chosen = _forced
        reasons = {n: f"use({_forced!r}) is in force" for n in IMPLEMENTATIONS if n != _forced}
    else:
        chosen = next((n for n in ("triton", "numba") if n not in reasons), "reference")
        reasons.pop(chosen, None)
    if not torch.compiler.is_compiling():
        _record[operation] = Choice(operation, chosen, tensor.device.type, str(tensor.dtype).split(".")[1], reasons)
    return chosen


def _refusal(name: str, device: str, dtype: torch.dtype) -> str | None:
    home = {"numba": "cpu", "triton": "cuda"}[name]
    if device != home:
        return f"it serves {home} tensors, these are on {device}"
    if name == "triton" and not TRITON_INSTALLED:
        return "triton is not installed (pip install 'geoattn[gpu]')"
    if dtype not in FLOATS[name]:
        return f"it does not serve {dtype}"
    return None


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype an operation computes in.

    Outside autocast the promoted dtype of the arguments. Under autocast, CUDA computes in autocast's dtype with
    float32 accumulation, and the CPU in float32, because compiled CPU loops gain nothing from 16-bit storage.
    """
    present = [t for t in tensors if t is not None]
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in present))
    device = present[0].device.type
    if dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) if device == "cuda" else torch.float32
    return dtype


def working_dtype(chosen: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype an implementation is fed with to compute in ``dtype``: 16-bit is widened, except for Triton's loads."""
    return dtype if chosen == "triton" else torch.promote_types(dtype, torch.float32)
