"""`farthest_points`: well spread samples of each cloud, batched, with a documented order."""

from typing import Literal

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._dispatch import choose
from geoattn.kernels._operation import operation
from geoattn.kernels._search import check_cloud, check_count, check_integers
from geoattn.kernels.farthest_points import reference

TRITON_LARGEST_CLOUD = 16384


def farthest_points(
    x: Tensor, num: int, *, ptr: Tensor | None = None, start: int | Tensor | Literal["centroid"] = 0
) -> tuple[Tensor, Tensor]:
    """Farthest-point samples of each graph: one point after the other, each the farthest from those taken so far.

    The next point has the largest squared distance to its nearest taken point; among equal ones the lowest index comes
    first. Squared distances follow the rule of :func:`geoattn.kernels.knn`, so all implementations take the same
    points to the bit. No point is taken twice, though points may coincide: once only points of distance 0 are left,
    they follow in the order of their indices.

    Args:
        x: ``[N, D]`` coordinates.
        num: points per graph, at least 1; a graph of fewer points gives all of them.
        ptr: ``[B+1]`` integers, where each graph begins in ``x``, and N; None: all points are one graph. Graphs may be
            empty. PyG calls it ``batch.ptr``.
        start: the first point of every graph, counted within the graph; ``[B]`` integers, one for each graph (that of
            an empty graph is ignored); or "centroid": the point farthest from the mean of its graph, which is rounded
            to the dtype of the distances.

    Returns:
        ``idx [S]`` int64, rows of ``x``, graph after graph in the order in which they were taken; and ``ptr [B+1]``
        int64, where each graph begins in ``idx``, and S.

    Raises:
        ShapeError: for shapes, dtypes, graphs, counts or starts that do not fit, and for nan or inf among the
            coordinates.

    Symmetry: where no two distances tie within rounding, invariant to rotation, reflection and translation; with
    "centroid" also equivariant to permutation.

    Cost: on the CPU O(N log N) and then, per point taken, the parts of the cloud that it may come nearer to than the
    others, at worst O(N num); on the GPU O(N num). O(N) memory. Under ``torch.compile`` it is one opaque operation;
    with ``ptr`` S is unknown there, so set ``torch._dynamo.config.capture_dynamic_output_shape_ops`` or call it
    outside.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; Eldar et al., "The farthest
    point strategy for progressive image sampling", 1997.

    Example:
        >>> import torch
        >>> idx, ptr = farthest_points(torch.tensor([[0.0], [1.0], [3.0], [1.5]]), 3)
        >>> idx.tolist(), ptr.tolist()
        ([0, 2, 3], [0, 3])
    """
    check_cloud("x", x)
    check_count("num", num)
    check_integers("ptr", ptr, "[B+1]")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).contiguous()
    starts = _starts(start, 1 if ptr is None else ptr.shape[0] - 1, x)
    chosen = choose("farthest_points", x, _refused(x, ptr))
    search = reference.farthest_search if chosen == "reference" else farthest_search
    return search(x, ptr, num, starts)


def _starts(start: int | Tensor | str, graphs: int, x: Tensor) -> Tensor | None:
    """``[B]`` first points within their graphs; None: the farthest from the centroid."""
    if isinstance(start, str) and start == "centroid":
        return None
    if isinstance(start, Tensor):
        check_integers("start", start, "[B]")
        if start.shape[0] != graphs:
            raise ShapeError("start", f"{start.shape[0]} rows", f"one for each of {graphs} graphs")
        return start.to(x.device, torch.int64)
    if isinstance(start, bool) or not isinstance(start, int):
        raise ShapeError("start", repr(start), "an integer, integers [B] or 'centroid'")
    return torch.full((graphs,), start, device=x.device)


def _refused(x: Tensor, ptr: Tensor | None) -> dict[str, str]:
    if x.dtype == torch.float64:
        return {"triton": "its keys of distance and index hold a float32 distance"}
    if x.is_cuda and _largest(x, ptr) > TRITON_LARGEST_CLOUD:
        return {"triton": f"it keeps at most {TRITON_LARGEST_CLOUD} distances in registers"}
    return {}


def _largest(x: Tensor, ptr: Tensor | None) -> int:
    if ptr is None:
        return x.shape[0]
    return int(ptr.diff().max()) if ptr.shape[0] > 1 else 0


@operation
def farthest_search(x: Tensor, ptr: Tensor | None, num: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
    """``idx [S]`` and ``ptr [B+1]`` of `farthest_points`."""
    if ptr is None:
        return x.new_empty(min(num, x.shape[0]), dtype=torch.int64), x.new_empty(2, dtype=torch.int64)
    idx = x.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
    return idx, x.new_empty(ptr.shape[0], dtype=torch.int64)
