"""The product that a table of coefficients describes: the definition."""

from torch import Tensor


def sparse_bilinear(
    x: Tensor, y: Tensor, index_x: Tensor, index_y: Tensor, index_out: Tensor, path: Tensor, value: Tensor,
    weight: Tensor | None, num_out: int,
) -> Tensor:  # fmt: skip
    """``z[n, k, c] = sum_t value_t x[n, i_t, c] y[n, j_t(, c)] weight[n, p_t, c]``, ``[n, K, C]``."""
    y = y if y.ndim == 3 else y[:, :, None]
    terms = value[:, None] * x[:, index_x] * y[:, index_y]
    if weight is not None:
        terms = terms * weight[:, path]
    return x.new_zeros(x.shape[0], num_out, x.shape[2]).index_add(1, index_out, terms)
