"""Batches of systems as tensors: sliced from memory, with all pairs of bodies as edges."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geoattn.domains.dynamics.systems import Systems, pointer, rows_of_segments
from geoattn.domains.dynamics.units import Units
from geoattn.kernels import Neighborhood


@dataclass(frozen=True)
class SystemBatch:
    """What a model of dynamics gets: B systems with N bodies and E edges, in the units the model works in.

    Attributes:
        pos, vel: ``[N, n]``; the positions of each system are relative to the mean of its bodies.
        charge: ``[N, 1]``, or None.
        node_scalars: ``[N, A]`` other invariants of the bodies; A may be 0.
        edge_scalars: ``[E, B]`` invariants of the pairs: the product of the charges if there are any, then what is
            known of the interaction; B may be 0. In the order of the edges of ``nbr``.
        nbr: all ordered pairs of different bodies of a system, in CSR order.
        batch: ``[N]`` the system of each body.
        num_systems: B.
        size: bodies per system where all systems have the same number, else None. Then ``pos.view(B, size, n)`` is the
            dense form.
        horizon: time from here to the prediction.
        target_pos, target_vel: ``[N, n]``, or None.
    """

    pos: Tensor
    vel: Tensor
    charge: Tensor | None
    node_scalars: Tensor
    edge_scalars: Tensor
    nbr: Neighborhood
    batch: Tensor
    num_systems: int
    size: int | None
    horizon: float
    target_pos: Tensor | None = None
    target_vel: Tensor | None = None

    @property
    def edge_index(self) -> Tensor:
        """``[2, E]``, row 0 the source."""
        return torch.stack([self.nbr.source, self.nbr.target])

    def to(self, device: torch.device | str) -> SystemBatch:
        """A copy on ``device``; the batch itself if it is there already."""
        if self.pos.device == torch.device(device):
            return self
        device = torch.device(device)
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        moved = {name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)}
        nbr = self.nbr.to(device) if self.size is None else _equal_graphs(self.num_systems, self.size, device)
        return self.replaced(**moved, nbr=nbr)

    def replaced(self, **values: Any) -> SystemBatch:
        """A copy with some attributes replaced."""
        return dataclasses.replace(self, **values)


class Prediction(NamedTuple):
    """What a model of dynamics returns.

    Attributes:
        pos: ``[N, n]`` after the horizon.
        vel: ``[N, n]``, or None from a model that predicts positions alone.
    """

    pos: Tensor
    vel: Tensor | None = None


def full_graph(sizes: tuple[int, ...]) -> Neighborhood:
    """All ordered pairs of different bodies of each of several systems, one system after the other.

    Example:
        >>> full_graph((3, 1, 2)).source.tolist()
        [1, 2, 0, 2, 0, 1, 5, 4]
    """
    if sizes and sizes.count(sizes[0]) == len(sizes):
        return _equal_graphs(len(sizes), sizes[0], torch.device("cpu"))
    lengths = np.array(sizes, dtype=np.int64)
    degree = np.repeat(lengths - 1, lengths)
    row_ptr = pointer(degree)
    first = np.repeat(pointer(lengths)[:-1], lengths)  # the first body of each body's system
    target = np.repeat(np.arange(len(degree)), degree)
    number = np.arange(len(target)) - row_ptr[target]  # of the edge among those of its target
    source = first[target] + number
    source += source >= target  # a body is not its own neighbour
    pointers, sources, targets = (torch.from_numpy(array) for array in (row_ptr, source, target))
    return Neighborhood.from_csr(pointers, sources, targets, len(degree), len(degree))


@lru_cache(maxsize=64)
def _equal_graphs(num_systems: int, size: int, device: torch.device) -> Neighborhood:
    """The usual case: batches of one shape share one object, with all that it has computed."""
    body = torch.arange(size)
    others = body.expand(size, size)[~torch.eye(size, dtype=torch.bool)].view(size, size - 1) if size else body[:, None]
    first = torch.arange(num_systems)[:, None, None] * size
    source = (first + others).reshape(-1)
    target = torch.arange(num_systems * size).repeat_interleave(max(size - 1, 0))
    row_ptr = torch.arange(num_systems * size + 1) * max(size - 1, 0)
    row_ptr, source, target = (tensor.to(device) for tensor in (row_ptr, source, target))
    return Neighborhood.from_csr(row_ptr, source, target, num_systems * size, num_systems * size)


class SystemTensors:
    """Systems as tensors in memory, from which batches are sliced; nothing is done per system.

    Args:
        systems: in the user's units.
        units: those of the model.
        dtype: of the tensors.

    Attributes:
        center: ``[S, n]`` float64, the mean position of each system in the user's units. Models are equivariant under
            translations, so it is subtracted first, in float64: far from the origin float32 loses digits.
    """

    def __init__(self, systems: Systems, units: Units, dtype: torch.dtype = torch.float32) -> None:
        self.sizes, self.ptr, self.edge_ptr = systems.sizes, systems.ptr, systems.edge_ptr
        self.size = int(self.sizes[0]) if len(self.sizes) and (self.sizes == self.sizes[0]).all() else None
        self.units, self.horizon = units, systems.horizon / units.time
        body = systems.system_of_body
        counts = np.maximum(self.sizes, 1)[:, None]
        self.center = np.zeros((len(systems), systems.dim))
        np.add.at(self.center, body, systems.pos)
        self.center /= counts
        speed = units.length / units.time

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(dtype)

        def moved(values: np.ndarray | None) -> Tensor | None:
            return None if values is None else tensor((values - self.center[body]) / units.length)

        pos = moved(systems.pos)
        assert pos is not None
        self.pos, self.vel = pos, tensor(systems.vel / speed)
        self.charge = None if systems.charge is None else tensor(systems.charge[:, None] / units.charge)
        self.node_scalars = tensor(systems.scalars / np.array(units.scalars))
        self.edge_attr = None if systems.edge_attr is None else tensor(systems.edge_attr)
        self.target_pos = moved(systems.target_pos)
        self.target_vel = None if systems.target_vel is None else tensor(systems.target_vel / speed)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: list[int]) -> SystemBatch:
        """The systems ``rows`` as a batch."""
        index = np.asarray(rows, dtype=np.int64)
        sizes = self.sizes[index]
        bodies = torch.from_numpy(rows_of_segments(self.ptr, index))
        nbr = full_graph(tuple(sizes.tolist()))

        def chosen(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.index_select(0, bodies)

        charge = chosen(self.charge)
        edge = []
        if charge is not None:
            edge.append(charge.index_select(0, nbr.target) * charge.index_select(0, nbr.source))
        if self.edge_attr is not None:
            edge.append(self.edge_attr[torch.from_numpy(rows_of_segments(self.edge_ptr, index))])
        return SystemBatch(
            pos=self.pos.index_select(0, bodies),
            vel=self.vel.index_select(0, bodies),
            charge=charge,
            node_scalars=self.node_scalars.index_select(0, bodies),
            edge_scalars=torch.cat(edge, dim=1) if edge else self.pos.new_empty(nbr.num_edges, 0),
            nbr=nbr,
            batch=torch.from_numpy(np.repeat(np.arange(len(index)), sizes)),
            num_systems=len(index),
            size=self.size,
            horizon=self.horizon,
            target_pos=chosen(self.target_pos),
            target_vel=chosen(self.target_vel),
        )
