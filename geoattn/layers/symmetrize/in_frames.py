"""How a user's network is called on points seen from frames, and how its outputs come back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from geoattn.errors import InputError, ShapeError, nearest_hint

Representation = Literal["invariant", "vector", "position"]
"""How a tensor ``[B, ..., D]`` goes with the points: not at all, as arrows, or as points."""


def check_representations(argument: str, names: Sequence[str]) -> None:
    """Refuse unknown representations.

    Raises:
        InputError: with the nearest known name.
    """
    for name in names:
        if name not in get_args(Representation):
            raise InputError(f"{argument}: got {name!r}. {nearest_hint(str(name), get_args(Representation))}")


def read_group(group: str) -> tuple[bool, int]:
    """Whether mirror images differ, and the dimension, of ``"SO3"``, ``"O3"``, ``"SO(2)"`` and so on.

    Raises:
        InputError: for anything else.
    """
    match = re.fullmatch(r"(S?)O(?:([1-9])|\(([1-9])\))", group)
    if not match:
        raise InputError(f"group: got {group!r}, expected 'SO3', 'O3', or another dimension.")
    return bool(match[1]), int(match[2] or match[3])


def mean_of_points(pos: Tensor, mask: Tensor | None) -> Tensor:
    """``[B, D]``: the mean of each cloud of ``pos [B, N, D]`` without its padding; 0 for a cloud without points."""
    if mask is None:
        return pos.sum(1) / max(pos.shape[1], 1)
    return pos.masked_fill(~mask[..., None], 0.0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def check_points(pos: Tensor, mask: Tensor | None, dim: int | None = None) -> None:
    """Refuse anything but dense points ``[B, N, D]`` with a mask ``[B, N]`` or None.

    Raises:
        ShapeError: if a shape or dtype does not fit.
    """
    if pos.ndim != 3 or not pos.is_floating_point() or (dim is not None and pos.shape[2] != dim):
        expected = f"floating-point [B, N, {'D' if dim is None else dim}]"
        raise ShapeError("pos", f"{pos.dtype} of shape {tuple(pos.shape)}", expected)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != pos.shape[:2]):
        raise ShapeError("mask", f"{mask.dtype} of shape {tuple(mask.shape)}", f"bool {list(pos.shape[:2])}")


def call_in_frames(
    net: Callable[..., Any],
    pos: Tensor,
    inputs: Sequence[Tensor | None],
    mask: Tensor | None,
    *,
    representations: Sequence[str],
    out: str | Sequence[str],
    into: Tensor,
    back: Tensor,
    center: Tensor,
) -> Any:
    """Call ``net`` once on all frames of all clouds, and turn what it returns back.

    Args:
        net: called as ``net(pos [B F, N, D], *inputs [B F, ...])``, with ``mask=[B F, N]`` if there is a mask; frames
            of one cloud stand next to each other. Returns a tensor ``[B F, ...]``, or a sequence of them.
        pos: ``[B, N, D]``.
        inputs: tensors ``[B, ...]``, or None to pass None.
        mask: ``[B, N]`` bool, false at padding, whose coordinates become 0; None for no padding.
        representations: of the inputs, one each.
        out: of the outputs, one each; a single name for a single tensor.
        into: ``[B, F, D, D]``, from the right: ``(pos - center) @ into``.
        back: ``[B, F, D, D]``, its inverse, from the right.
        center: ``[B, D]``.

    Returns:
        ``[B, F, ...]``, or a tuple of them where ``out`` is a sequence.
    """
    if len(inputs) != len(representations):
        expected = f"{len(representations)}, one for each name in the constructor's inputs"
        raise ShapeError("inputs", f"{len(inputs)} tensors", expected)
    num_clouds, num_frames = into.shape[:2]
    moved = _into(pos, "position", into, center)
    keywords = {}
    if mask is not None:
        folded = _repeat(mask, num_frames)
        moved = moved.masked_fill(~folded[..., None], 0.0)
        keywords["mask"] = folded
    rest = [
        None if x is None else _into(x, name, into, center) for x, name in zip(inputs, representations, strict=True)
    ]
    outputs = net(moved, *rest, **keywords)
    names = [out] if isinstance(out, str) else list(out)
    values = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if len(values) != len(names) or not all(isinstance(value, Tensor) for value in values):
        got = f"{len(values)} outputs of types {[type(value).__name__ for value in values]}"
        raise ShapeError("net", got, f"{len(names)} tensors, as named in the constructor's out")
    turned = []
    for value, name in zip(values, names, strict=True):
        if value.shape[:1] != moved.shape[:1]:
            raise ShapeError("net", f"an output of shape {tuple(value.shape)}", f"[{len(moved)}, ...], as its input")
        turned.append(_back(value.unflatten(0, (num_clouds, num_frames)), name, back, center))
    return turned[0] if isinstance(out, str) else tuple(turned)


def _into(value: Tensor, representation: str, into: Tensor, center: Tensor) -> Tensor:
    """``[B, ..., D]`` of the world -> ``[B F, ..., D]`` in the frames."""
    if representation == "invariant":
        return _repeat(value, into.shape[1])
    _check_dim("an input", representation, value, into)
    with torch.autocast(value.device.type, enabled=False):
        rows = value.reshape(len(value), 1, -1, value.shape[-1])
        if representation == "position":
            rows = rows - center[:, None, None, :].to(rows.dtype)
        return (rows @ into.to(rows.dtype)).reshape(-1, *value.shape[1:])


def _back(value: Tensor, representation: str, back: Tensor, center: Tensor) -> Tensor:
    """``[B, F, ..., D]`` in the frames -> the same shape in the world."""
    if representation == "invariant":
        return value
    _check_dim("an output of net", representation, value, back)
    with torch.autocast(value.device.type, enabled=False):
        rows = value.to(back.dtype).reshape(*value.shape[:2], -1, value.shape[-1]) @ back
        if representation == "position":
            rows = rows + center[:, None, None, :].to(rows.dtype)
        return rows.reshape(value.shape)


def _repeat(value: Tensor, number: int) -> Tensor:
    return value if number == 1 else value.repeat_interleave(number, dim=0)


def _check_dim(what: str, representation: str, value: Tensor, matrix: Tensor) -> None:
    if value.shape[-1] != matrix.shape[-1]:
        expected = f"[..., {matrix.shape[-1]}], the dimension of the points"
        raise ShapeError(f"{what} declared {representation!r}", f"shape {tuple(value.shape)}", expected)
