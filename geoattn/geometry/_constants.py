"""Constant tensors of the geometry: made once per dtype and device, and traceable."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def constant(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn ``build(*args)``, a float64 or integer tensor, into ``f(*args, dtype, device)`` that keeps what it made.

    Arguments are hashable plain values, so the cache holds one tensor per choice of degrees, dtype and device. The
    tensors are shared: never write into them. They are ordinary tensors on the device asked for even where the first
    call comes from inference mode or under another default device, and ``torch.compile`` takes them as constants.
    """

    @functools.cache
    def made(args: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
            return build(*args).to(device=device, dtype=dtype)

    def lookup(*args: Any) -> Tensor:
        *degrees, dtype, device = args
        return made(tuple(degrees), dtype, torch.device(device))

    functools.update_wrapper(lookup, build)
    return torch.compiler.assume_constant_result(lookup)
