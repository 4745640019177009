"""`interpolate`: features carried from one cloud to another by inverse squared distance."""

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_type
from geoattn.kernels._search import check_cloud, check_count, check_finite, check_integers, checked_pointer
from geoattn.kernels.gather_scatter import gather_scatter
from geoattn.kernels.knn import knn
from geoattn.kernels.neighborhood import Neighborhood


def interpolate(
    features: Tensor,
    pos_source: Tensor,
    pos_target: Tensor,
    k: int = 3,
    *,
    ptr_source: Tensor | None = None,
    ptr_target: Tensor | None = None,
) -> Tensor:
    r"""Features at new points: mean of those of the k nearest sources, weighted by inverse squared distance.

    .. math:: y_i = \frac{\sum_j w_{ij} f_j}{\sum_j w_{ij}}, \qquad w_{ij} = |p_i - p_j|^{-2}

    over the k nearest sources of :func:`geoattn.kernels.knn`. A target that lies on a source gets its feature exactly
    (the limit); one that lies on several of its k sources, which then coincide, gets their mean. Squared distances are
    divided by the smallest, so that none is too small or too large to be inverted.

    Args:
        features: ``[N, C]`` features of the sources, floating point.
        pos_source: ``[N, D]`` their positions.
        pos_target: ``[M, D]`` where features are wanted.
        k: sources per target, at least 1; a graph of fewer sources gives all of them.
        ptr_source: ``[B+1]`` integers, where each graph begins among the sources, and N; None: all are one graph.
        ptr_target: the same for the targets, and M; both are given or neither.

    Returns:
        ``[M, C]`` in the dtype of ``features``; 16-bit ones are accumulated in float32. A target in a graph without
        sources gets 0. Differentiable in the features to any order; positions get no gradient.

    Raises:
        ShapeError: for shapes, dtypes, graphs or counts that do not fit, and for nan or inf among the positions.

    Symmetry: invariant to rotation, reflection and translation, and to one scale for both clouds; equivariant to
    permutation, where distances at the k-th place do not tie within rounding. Weights are positive and sum to 1.

    Cost: that of `knn`, and O(M k C) time. No ``[M, k, C]`` tensor is made, forward or backward.

    Source: Qi et al., "PointNet++", 2017, equation 2 with p = 2 and k = 3.

    Example:
        >>> import torch
        >>> at_corners, corners = torch.tensor([[0.0], [10.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
        >>> interpolate(at_corners, corners, torch.tensor([[1.0, 0.0], [3.0, 0.0]])).flatten()  # weights 1 and 1/4
        tensor([ 2., 10.])
    """
    _check(features, pos_source, pos_target, ptr_source, ptr_target)
    check_count("k", k)
    num_sources, num_targets = pos_source.shape[0], pos_target.shape[0]
    if num_sources == 0:
        return features.new_zeros(num_targets, features.shape[1])
    k = min(k, num_sources)
    idx, dist2 = knn(pos_source, pos_target, k, ptr_x=ptr_source, ptr_y=ptr_target)
    smallest = dist2[:, :1]
    # the smallest may be 0, a hit, or, where squares overflow, infinite
    weight = torch.where(dist2 == smallest, 1, smallest / dist2).masked_fill(idx < 0, 0)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    idx = torch.where(weight > 0, idx, idx[:, :1]).clamp(min=0)  # not even nan times 0 from what has no weight
    row_ptr = torch.arange(num_targets + 1, device=idx.device) * k
    target = torch.arange(num_targets, device=idx.device).repeat_interleave(k)
    nbr = Neighborhood.from_csr(row_ptr, idx.flatten(), target, num_targets, num_sources)
    return gather_scatter(features, weight.flatten(), nbr).to(features.dtype)


def _check(
    features: Tensor, pos_source: Tensor, pos_target: Tensor, ptr_source: Tensor | None, ptr_target: Tensor | None
) -> None:
    """All that `knn` would check, by the names of these arguments."""
    check_type("features", features, Tensor)
    check_cloud("pos_source", pos_source)
    check_cloud("pos_target", pos_target)
    if features.ndim != 2 or features.shape[0] != pos_source.shape[0] or not features.is_floating_point():
        expected = f"floating-point [N, C] with N = {pos_source.shape[0]}, the rows of pos_source"
        raise ShapeError("features", f"{features.dtype} of shape {tuple(features.shape)}", expected)
    if pos_source.shape[1] != pos_target.shape[1]:
        raise ShapeError("pos_target", f"{pos_target.shape[1]} columns", f"as in pos_source, {pos_source.shape[1]}")
    if (ptr_source is None) != (ptr_target is None):
        missing = "ptr_source" if ptr_source is None else "ptr_target"
        raise ShapeError(missing, "None", "the graphs of both sources and targets, or of neither")
    check_integers("ptr_source", ptr_source, "[B+1]")
    check_integers("ptr_target", ptr_target, "[B+1]")
    if torch.compiler.is_compiling():
        return
    check_finite("pos_source", pos_source)
    check_finite("pos_target", pos_target)
    graphs = len(checked_pointer("ptr_source", ptr_source, pos_source)) - 1
    found = len(checked_pointer("ptr_target", ptr_target, pos_target)) - 1
    if found != graphs:
        raise ShapeError("ptr_target", f"{found} graphs", f"as many as ptr_source, {graphs}")
