"""`Neighborhood`: the edges of a graph, sorted by target, shared by every layer of a forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from geoattn.errors import ShapeError
from geoattn.kernels._checks import check_type


class Neighborhood:
    """The edges of a (possibly bipartite) graph in CSR order by target.

    Edges point from source ``j`` to target ``i``: ``edge_index[0]`` is ``j`` and ``edge_index[1]`` is ``i``, as in
    PyTorch Geometric, and the edge vector is ``pos[source] - pos[target]``. Within one target the edges keep the
    caller's order. A batch builds the object once and all layers share it. Edge tensors that a caller passes to an
    operation, or gets back, are in the caller's order; ``edge_id`` leads there.

    Attributes:
        row_ptr: ``[N+1]`` int64, the edges of target ``i`` are ``row_ptr[i]:row_ptr[i+1]``.
        source: ``[E]`` int64, source node of each edge, in CSR order.
        target: ``[E]`` int64, target node of each edge, in CSR order (ascending).
        edge_id: ``[E]`` int64, where each edge stood in the caller's ``edge_index``.
        num_targets: N, number of targets.
        num_sources: Ns, number of sources; equal to N unless the graph is bipartite.

    Cost: one stable sort of E integers unless they are sorted; the by-source order costs another, made when first
    needed.

    Example:
        >>> import torch
        >>> nbr = Neighborhood.from_edge_index(torch.tensor([[1, 2, 0], [0, 0, 2]]), num_targets=3)
        >>> nbr.row_ptr.tolist(), nbr.source.tolist()
        ([0, 2, 2, 3], [1, 2, 0])
    """

    def __init__(
        self, row_ptr: Tensor, source: Tensor, target: Tensor, edge_id: Tensor, num_targets: int, num_sources: int
    ) -> None:
        self.row_ptr = row_ptr
        self.source = source
        self.target = target
        self.edge_id = edge_id
        self.num_targets = num_targets
        self.num_sources = num_sources
        self._is_csr = False  # known to have edge_id = 0..E-1
        self._csr: Neighborhood | None = None
        self._source_ptr_and_order: tuple[Tensor, Tensor] | None = None
        self._transposed: Neighborhood | None = None

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_targets: int, num_sources: int | None = None) -> Neighborhood:
        """Sort the edges of ``edge_index`` ``[2, E]`` (row 0 = source, row 1 = target) by target.

        Raises:
            ShapeError: if ``edge_index`` is not a tensor ``[2, E]``, not of an integer dtype, or names a node that does
                not exist. The range is not checked inside ``torch.compile``.
        """
        check_type("edge_index", edge_index, Tensor)
        num_sources = num_targets if num_sources is None else num_sources
        if edge_index.ndim != 2 or edge_index.shape[0] != 2:
            hint = "Transpose it?" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else ""
            raise ShapeError("edge_index", f"shape {tuple(edge_index.shape)}", "[2, E], row 0 = source", hint)
        if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
            raise ShapeError("edge_index", f"dtype {edge_index.dtype}", "an integer dtype", "Call .long() on it.")
        source, target = edge_index[0].long(), edge_index[1].long()
        in_order = False
        if not torch.compiler.is_compiling():
            _check_range("edge_index[0] (source)", source, num_sources)
            _check_range("edge_index[1] (target)", target, num_targets)
            in_order = bool((target[1:] >= target[:-1]).all())
        if in_order:
            source, target = source.clone(), target.clone()  # edge_index is the caller's
            return cls.from_csr(_pointers(target, num_targets), source, target, num_targets, num_sources)
        target, edge_id = torch.sort(target, stable=True)
        return cls(_pointers(target, num_targets), source[edge_id], target, edge_id, num_targets, num_sources)

    @classmethod
    def from_csr(
        cls, row_ptr: Tensor, source: Tensor, target: Tensor, num_targets: int, num_sources: int
    ) -> Neighborhood:
        """Edges whose caller's order is CSR order, so that no operation has to reorder them. Nothing is checked."""
        edge_id = torch.arange(source.shape[0], device=source.device)
        nbr = cls(row_ptr, source, target, edge_id, num_targets, num_sources)
        nbr._is_csr = True
        return nbr

    @property
    def num_edges(self) -> int:
        """E, the number of edges."""
        return self.source.shape[0]

    @property
    def device(self) -> torch.device:
        """The device all index tensors live on."""
        return self.source.device

    @property
    def degree(self) -> Tensor:
        """``[N]`` int64, number of incoming edges of each target."""
        return self.row_ptr[1:] - self.row_ptr[:-1]

    def _by_source(self) -> tuple[Tensor, Tensor]:
        # not functools.cached_property, whose lock (Python 3.11) torch.compile cannot trace
        if self._source_ptr_and_order is None:
            ordered, order = torch.sort(self.source, stable=True)
            self._source_ptr_and_order = (_pointers(ordered, self.num_sources), order)
        return self._source_ptr_and_order

    @property
    def source_ptr(self) -> Tensor:
        """``[Ns+1]`` int64: the edges that leave source ``j`` are ``source_order[source_ptr[j]:source_ptr[j+1]]``."""
        return self._by_source()[0]

    @property
    def source_order(self) -> Tensor:
        """``[E]`` int64, positions in CSR order, grouped by source; made on demand for backward passes."""
        return self._by_source()[1]

    @property
    def transposed(self) -> Neighborhood:
        """The same edges turned round: targets are sources and sources targets. The caller's order stays.

        Within one target of the result the edges keep this object's CSR order.
        """
        if self._transposed is None:
            ptr, order = self._by_source()
            self._transposed = Neighborhood(
                ptr, self.target[order], self.source[order], self.edge_id[order], self.num_sources, self.num_targets
            )
        return self._transposed

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]`` int64 in the caller's order."""
        return torch.stack([self.to_caller_order(self.source), self.to_caller_order(self.target)])

    def to_csr_order(self, edge_values: Tensor) -> Tensor:
        """Reorder ``[E, ...]`` values from the caller's order to CSR order."""
        return edge_values if self._is_csr else edge_values[self.edge_id]

    def to_caller_order(self, edge_values: Tensor) -> Tensor:
        """Reorder ``[E, ...]`` values from CSR order to the caller's order."""
        if self._is_csr:
            return edge_values
        return torch.empty_like(edge_values).index_copy(0, self.edge_id, edge_values)

    def in_csr_order(self) -> Neighborhood:
        """The same edges with CSR order as the caller's order (``edge_id = 0..E-1``).

        A layer that makes its own edge tensors makes them in this order, so that no operation has to reorder them.
        """
        if self._is_csr:
            return self
        if self._csr is None:
            ends = (self.row_ptr, self.source, self.target)
            self._csr = Neighborhood.from_csr(*ends, self.num_targets, self.num_sources)
            self._csr._source_ptr_and_order = self._source_ptr_and_order
        return self._csr

    def with_edges_as_sources(self) -> Neighborhood:
        """The same targets with each edge its own source, for weighted sums of values that live on edges.

        Edge values must be in CSR order, as with ``in_csr_order``.
        """
        edge = torch.arange(self.num_edges, device=self.device)
        nbr = Neighborhood.from_csr(self.row_ptr, edge, self.target, self.num_targets, self.num_edges)
        nbr._source_ptr_and_order = (torch.arange(self.num_edges + 1, device=self.device), edge)
        return nbr

    def to(self, device: torch.device | str) -> Neighborhood:
        """A copy on ``device``."""
        row_ptr, source, target, edge_id = (
            t.to(device) for t in (self.row_ptr, self.source, self.target, self.edge_id)
        )
        nbr = Neighborhood(row_ptr, source, target, edge_id, self.num_targets, self.num_sources)
        nbr._is_csr = self._is_csr
        return nbr

    def __repr__(self) -> str:
        return (
            f"Neighborhood(num_targets={self.num_targets}, num_sources={self.num_sources}, "
            f"num_edges={self.num_edges}, device='{self.device}')"
        )


def as_neighborhood(edges: Tensor | Neighborhood, num_targets: int, num_sources: int | None = None) -> Neighborhood:
    """``edges`` itself if it is a Neighborhood of these sizes, else one built from an ``edge_index`` ``[2, E]``."""
    if not isinstance(edges, Neighborhood):
        return Neighborhood.from_edge_index(edges, num_targets, num_sources)
    expected = (num_targets, num_targets if num_sources is None else num_sources)
    if (edges.num_targets, edges.num_sources) != expected:
        raise ShapeError(
            "edge_index",
            f"a Neighborhood of {edges.num_targets} targets and {edges.num_sources} sources",
            f"{expected[0]} targets and {expected[1]} sources, the number of rows of the features",
        )
    return edges


def _pointers(ordered: Tensor, num: int) -> Tensor:
    """``[num+1]`` start of each value 0..num-1 in an ascending tensor."""
    return torch.searchsorted(ordered, torch.arange(num + 1, device=ordered.device))


def _check_range(argument: str, index: Tensor, num: int) -> None:
    if index.numel() == 0:
        return
    low, high = torch.aminmax(index)
    if low < 0 or high >= num:
        raise ShapeError(
            argument, f"values {int(low)}..{int(high)}", f"0..{num - 1}", "Is num_targets or num_sources right?"
        )
