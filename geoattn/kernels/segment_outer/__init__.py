"""Per target the sum of outer products of its edges' rows."""

from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels.neighborhood import Neighborhood
from geoattn.kernels.segment_outer import reference


def segment_outer(u: Tensor, t: Tensor, nbr: Neighborhood) -> Tensor:
    r"""Sum of the outer products of two rows per edge, over the edges of each target (a grouped matrix product).

    .. math:: Z_i = \sum_{e \in N(i)} u_e \otimes t_e

    Args:
        u: ``[E, U]``, in the caller's order of the edges.
        t: ``[E, T]``, likewise.
        nbr: the edges.

    Returns:
        ``[N, U, T]`` in the promoted dtype; 16-bit input is accumulated in float32. A target without edges gets 0.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E U T) time.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 0], [0, 0]]), num_targets=2)
        >>> segment_outer(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 0], [0, 10]]), nbr).tolist()
        [[[1.0, 20.0]], [[0.0, 0.0]]]
    """
    for name, value in (("u", u), ("t", t)):
        check_rows(name, value, nbr.num_edges, "E", nbr)
        if value.ndim != 2:
            raise ShapeError(name, f"shape {tuple(value.shape)}", "[E, number]")
    dtype = compute_dtype(u, t)
    unwritten = dict.fromkeys(("numba", "triton"), "not written yet")
    working = working_dtype(choose("segment_outer", u.to(dtype), unwritten), dtype)
    u, t = (nbr.to_csr_order(value.to(working)) for value in (u, t))
    return reference.segment_outer(u, t, nbr.row_ptr, nbr.target).to(dtype)
