"""Softmax over each target's edges."""

from __future__ import annotations

from torch import Tensor

from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels.neighborhood import Neighborhood
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
        ``[E, ...]`` in the caller's order, in the dtype of ``x``. 16-bit input is computed in float32.

    Raises:
        ShapeError: if ``x`` does not have one row per edge, is not floating point or is on another device.

    Cost: O(E C) time; backward keeps only the result.

    Example:
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> segment_softmax(torch.zeros(3), nbr)
        tensor([0.5000, 0.5000, 1.0000])
    """
    check_rows("x", x, nbr.num_edges, "E", nbr)
    dtype = compute_dtype(x)
    x = x.to(dtype)
    chosen = choose("segment_softmax", x, {"numba": "it is not written yet", "triton": "it is not written yet"})
    x = x.to(working_dtype(chosen, dtype))
    return reference.segment_softmax(x, nbr.row_ptr, nbr.target, nbr.edge_id).to(dtype)
