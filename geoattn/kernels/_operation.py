"""Decorators: what registers a compiled operation with torch, and what keeps torch.compile out."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch


def operation(fake: Callable[..., Any] | None = None, *, strided: bool = False) -> Any:
    """Make ``geoattn::<name>`` of a function that returns empty results of the right shape.

    The operation runs the function of the same name in ``cpu.py`` or ``cuda.py`` beside the file of ``fake``, which
    are imported by the first call: until then neither numba nor triton is needed. Tensors reach them detached from
    autograd, and contiguous, unless with ``@operation(strided=True)`` the functions take them as they are.
    """
    if fake is None:
        return functools.partial(operation, strided=strided)

    def implementation(module: str) -> Callable[..., Any]:
        @functools.cache
        def function() -> Callable[..., Any]:
            return getattr(importlib.import_module(f"{fake.__module__}.{module}"), fake.__name__)

        def run(*args: Any) -> Any:
            args = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args)
            if not strided:
                args = tuple(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args)
            return function()(*args)

        return run

    schema = torch.library.infer_schema(fake, mutates_args=())
    op = torch.library.custom_op(
        f"geoattn::{fake.__name__}", implementation("cpu"), mutates_args=(), device_types="cpu", schema=schema
    )
    op.register_kernel("cuda")(implementation("cuda"))
    op.register_fake(fake)
    return op


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable`, which imports the compiler and Triton (seconds), put off to the first call."""
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call
