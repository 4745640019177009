"""Softmax over each target's edges."""

from typing import Any

import torch
from torch import Tensor

from geoattn.kernels._checks import check_rows, check_type
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels._operation import operation
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.segment_reduce import segment_spread, segment_sum
from geoattn.kernels.segment_softmax import reference


def segment_softmax(x: Tensor, nbr: Neighborhood) -> Tensor:
    r"""Softmax over the edges of each target, separately in every channel.

    .. math:: y_e = \exp(x_e) / \sum_{f \in N(i)} \exp(x_f), \qquad i = \text{target of } e

    Stable for logits of any size. An edge with logit -inf gets 0; a target whose logits are all -inf gets 0 on all
    its edges, not NaN.

    Args:
        x: ``[E, ...]`` floating-point logits in the caller's order.
        nbr: the edges.

    Returns:
        ``[E, ...]`` in the caller's order and the dtype of ``x``. 16-bit input is computed in float32.

    Raises:
        ShapeError: if ``x`` does not have one row per edge, is not floating point or is on another device.

    Cost: O(E C) time; backward keeps only the result.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> segment_softmax(torch.zeros(3), nbr)
        tensor([0.5000, 0.5000, 1.0000])
    """
    check_type("nbr", nbr, Neighborhood)
    check_rows("x", x, nbr.num_edges, "E", nbr)
    dtype = compute_dtype(x)
    chosen = choose("segment_softmax", x.to(dtype))
    x = x.to(working_dtype(chosen, dtype))
    if chosen == "reference":
        return reference.segment_softmax(x, nbr.row_ptr, nbr.target, nbr.edge_id).to(dtype)
    rows = x.flatten(1) if x.ndim > 1 else x[:, None]
    return softmax_rows(rows, nbr.row_ptr, nbr.edge_id).view(x.shape).to(dtype)


@operation
def softmax_rows(x: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """`segment_softmax` of ``x [E, C]``."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operation
def softmax_rows_backward(grad: Tensor, y: Tensor, row_ptr: Tensor, edge_id: Tensor) -> Tensor:
    """Gradient of `softmax_rows` from its result: ``y_e (grad_e - sum_f y_f grad_f)``."""
    return torch.empty_like(y, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, row_ptr, edge_id = inputs
    ctx.save_for_backward(output, row_ptr, edge_id)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    y, row_ptr, edge_id = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return softmax_rows_backward(grad, y, row_ptr, edge_id), None, None
    mean = segment_sum(y * grad, row_ptr, edge_id, False)
    return y * (grad - segment_spread(mean, row_ptr, edge_id, False)), None, None


softmax_rows.register_autograd(_backward, setup_context=_save)
