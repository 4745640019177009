"""Sum of outer products over each target's edges: the definition."""

from torch import Tensor


def segment_outer(u: Tensor, t: Tensor, row_ptr: Tensor, target: Tensor) -> Tensor:
    """``sum_e u_e (x) t_e`` over the edges of each target, ``[N, U, T]``; edges in CSR order."""
    products = u[:, :, None] * t[:, None, :]
    return products.new_zeros(row_ptr.shape[0] - 1, *products.shape[1:]).index_add(0, target, products)
