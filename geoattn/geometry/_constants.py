"""Constant tensors of the geometry: made once per dtype and device, and traceable."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def constant(build: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn ``build(*args)``, a float64 or integer tensor, into ``f(*args, dtype, device)`` that keeps what it made.

    Arguments are plain values, so what is kept is one tensor per choice of degrees, dtype and device. The tensors are
    shared: never write into them. They are ordinary tensors on the device asked for even where the first call comes
    from inference mode or under another default device, and ``torch.compile`` traces the call, the first one too.
    """
    kept = SimpleNamespace()

    def place(*args: Any) -> str:
        # attributes of an object are looked up one by one when traced; a dict would be read once, before it is filled
        name = "_".join(map(str, args)).replace(".", "_").replace(":", "_")
        if not hasattr(kept, name):
            *values, dtype, device = args
            with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
                setattr(kept, name, build(*values).to(device=device, dtype=dtype))
        return name

    # torch.compiler.assume_constant_result, without importing the compiler (seconds): it runs build, not traces it
    place._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def lookup(*args: Any) -> Tensor:
        value: Tensor = getattr(kept, place(*args))
        return value

    return lookup
