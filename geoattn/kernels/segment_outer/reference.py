"""Sum of outer products over each target's edges: the definition."""

from torch import Tensor


def segment_outer(u: Tensor, t: Tensor, target: Tensor, num_targets: int) -> Tensor:
    """``sum_e u_e (x) t_e`` over the edges of each target, ``[N, U, T]``; all in the caller's order of the edges."""
    products = u[:, :, None] * t[:, None, :]
    return products.new_zeros(num_targets, *products.shape[1:]).index_add(0, target, products)
