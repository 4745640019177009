"""Memory for time: a function whose intermediate values are computed again when its derivatives are wanted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def recompute(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``function(*inputs)``, keeping its inputs alone for first and second derivatives.

    `torch.utils.checkpoint` saves nothing where gradients are themselves differentiated, as forces are in training:
    what the first backward pass has computed again is kept for the second. Here both passes compute again.

    Args:
        function: deterministic; depends on no tensor that requires gradients but its inputs (parameters too have to be
            inputs, see `torch.func.functional_call`); returns one tensor.
        inputs: tensors; those that do not require gradients are constants.

    Returns:
        the value, differentiable twice.

    Cost: time of three further evaluations and one further backward pass where second derivatives are taken, of one
    further evaluation where only first ones are. Gradients of all inputs are computed, also where a caller of
    `torch.autograd.grad` asks for some.

    Example:
        >>> x = torch.tensor(2.0, requires_grad=True)
        >>> (first,) = torch.autograd.grad(recompute(lambda x: x**3, x), x, create_graph=True)
        >>> (second,) = torch.autograd.grad(first, x)
        >>> first.item(), second.item()
        (12.0, 12.0)
    """
    device = inputs[0].device.type
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def as_called(*values: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = torch.autocast(device, dtype, enabled)
        with context:
            return function(*values)

    value: Tensor = _Value.apply(as_called, *inputs)
    return value


class _Value(torch.autograd.Function):
    """The function; its gradient is `_Gradient`."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return None, *_Gradient.apply(ctx.function, ctx.needs_input_grad[1:], grad, *ctx.saved_tensors)


class _Gradient(torch.autograd.Function):
    """The gradients by the wanted inputs, and their gradients."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], wanted: tuple[bool, ...], grad: Tensor, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.function, ctx.wanted = function, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, *inputs)
        with torch.enable_grad():
            leaves = _leaves(inputs, wanted)
            found = _gradients([function(*leaves)], [x for x in leaves if x.requires_grad], [grad])
        return _spread(found, wanted)

    @staticmethod
    def backward(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        grad, *inputs = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[2], *ctx.wanted]
        asked = [i for i, value in enumerate(second) if value is not None]
        if not asked:
            return (None, None, *[None] * len(wanted))
        with torch.enable_grad():
            grad, *leaves = _leaves([grad, *inputs], wanted)
            first = torch.autograd.grad(
                ctx.function(*leaves), [leaves[i] for i in asked], grad, create_graph=True, allow_unused=True
            )
        differentiable = [
            (value, second[i])
            for value, i in zip(first, asked, strict=True)
            if value is not None and value.requires_grad
        ]
        if not differentiable:
            return (None, None, *[None] * len(wanted))
        values, seconds = zip(*differentiable, strict=True)
        found = _gradients(values, [x for x in (grad, *leaves) if x.requires_grad], seconds)
        return (None, None, *_spread(found, wanted))


def _leaves(inputs: Any, wanted: Any) -> list[Tensor]:
    return [x.detach().requires_grad_(w) for x, w in zip(inputs, wanted, strict=True)]


def _gradients(outputs: Any, inputs: list[Tensor], grads: Any) -> list[Tensor | None]:
    return list(torch.autograd.grad(outputs, inputs, grads, allow_unused=True)) if inputs else []


def _spread(found: list[Tensor | None], wanted: Any) -> tuple[Tensor | None, ...]:
    remaining = iter(found)
    return tuple(next(remaining) if w else None for w in wanted)
