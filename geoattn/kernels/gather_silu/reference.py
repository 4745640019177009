"""SiLU of node parts plus an edge part: the definition."""

from torch import Tensor
from torch.nn import functional


def gather_silu(at_target: Tensor, at_source: Tensor, at_edge: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``silu(at_target[target] + at_source[source] + at_edge)``, ``[E, C]``; edges in CSR order."""
    return functional.silu(at_target.index_select(0, target) + at_source.index_select(0, source) + at_edge)
