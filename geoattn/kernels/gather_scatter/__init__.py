"""Weighted sum of each target's sources."""

from __future__ import annotations

from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_rows
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype
from geoattn.kernels.gather_scatter import reference
from geoattn.kernels.neighborhood import Neighborhood


def gather_scatter(x: Tensor, weight: Tensor | None, nbr: Neighborhood) -> Tensor:
    r"""Weighted sum of the features of each target's sources.

    .. math:: y_i = \sum_{e \in N(i)} w_e \, x_{\text{source}(e)}

    The sizes of ``weight`` after the first are those of ``x`` after the first, as far as they go, and the weight is
    constant over the sizes of ``x`` that remain:

    ============  ==============  ========================
    ``x``         ``weight``      meaning
    ============  ==============  ========================
    ``[Ns, ...]``   None            plain sum
    ``[Ns, ...]``   ``[E]``           one weight per edge
    ``[Ns, H, C]``  ``[E, H]``        one weight per head
    ``[Ns, C]``     ``[E, C]``        one weight per channel
    ============  ==============  ========================

    Any other shape is an error; nothing is broadcast by guessing.

    Args:
        x: ``[Ns, ...]`` floating-point features of the sources.
        weight: as above, in the caller's order of the edges.
        nbr: the edges.

    Returns:
        ``[N, ...]`` in the promoted dtype of ``x`` and ``weight``; 16-bit input is accumulated in float32. A target
        without edges gets 0.

    Raises:
        ShapeError: if a shape, dtype or device does not fit.

    Cost: O(E C) time. No ``[E, C]`` tensor is made, forward or backward, unless ``weight`` is one.

    Example:
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> gather_scatter(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 10.0, 100.0]), nbr).flatten()
        tensor([ 32.,   0., 100.])
    """
    check_rows("x", x, nbr.num_sources, "Ns", nbr)
    if weight is not None:
        check_rows("weight", weight, nbr.num_edges, "E", nbr)
        if weight.ndim > x.ndim or weight.shape[1:] != x.shape[1 : weight.ndim]:
            raise ShapeError(
                "weight",
                f"shape {tuple(weight.shape)}",
                f"[E] followed by the first sizes of x after Ns; x has shape {tuple(x.shape)}",
                "A trailing size of 1 is not broadcast: squeeze it." if weight.shape[-1] == 1 else "",
            )
    dtype = compute_dtype(x, weight)
    x = x.to(dtype)
    chosen = choose("gather_scatter", x, {"numba": "it is not written yet", "triton": "it is not written yet"})
    work = working_dtype(chosen, dtype)
    x, weight = x.to(work), None if weight is None else weight.to(work)
    return reference.gather_scatter(x, weight, nbr.row_ptr, nbr.source, nbr.target, nbr.edge_id).to(dtype)
