"""Systems of bodies: where each body is and moves at one moment, and where it is later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geoattn.errors import InputError


@dataclass
class Systems:
    """S systems, N bodies altogether, in n dimensions; the numbers are the user's, in float64.

    The bodies of a system stand together. Edges are all ordered pairs of different bodies of a system, by target and
    then by source: in a system of three (0, 1, 2) the sources are ``1 2 0 2 0 1`` for the targets ``0 0 1 1 2 2``.

    Attributes:
        ids: name of each system, S.
        sizes: ``[S]`` bodies of each.
        pos, vel: ``[N, n]``.
        charge: ``[N]``, or None. Interactions see the products :math:`q_i q_j` alone.
        scalars: ``[N, A]`` other invariant properties of the bodies, such as masses.
        scalar_names: A names.
        edge_attr: ``[E, B]`` known interactions (a spring or none), over all edges; E is the sum of size (size - 1).
        target_pos, target_vel: ``[N, n]`` after the time ``horizon``; None where nothing is known.
        entities: name of each body, N; empty for their numbers within the system.
        horizon: time between the two moments, in the unit of time that the velocities have.
    """

    ids: list[str]
    sizes: np.ndarray
    pos: np.ndarray
    vel: np.ndarray
    charge: np.ndarray | None = None
    scalars: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    scalar_names: list[str] = field(default_factory=list)
    edge_attr: np.ndarray | None = None
    target_pos: np.ndarray | None = None
    target_vel: np.ndarray | None = None
    entities: list[str] = field(default_factory=list)
    horizon: float = 1.0

    def __post_init__(self) -> None:
        if not self.scalar_names:
            self.scalars = np.empty((len(self.pos), 0))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """n, of the space."""
        return self.pos.shape[1]

    @property
    def ptr(self) -> np.ndarray:
        """``[S+1]``: the bodies of system s are the rows ``ptr[s]:ptr[s+1]``."""
        return pointer(self.sizes)

    @property
    def edge_ptr(self) -> np.ndarray:
        """``[S+1]``: the edges of system s are the rows ``edge_ptr[s]:edge_ptr[s+1]``."""
        return pointer(self.sizes * (self.sizes - 1))

    @property
    def system_of_body(self) -> np.ndarray:
        """``[N]`` the system of each body."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def entity_names(self) -> list[str]:
        """The name of each body; its number within the system, from 0, where it has none."""
        if self.entities:
            return self.entities
        return [str(number) for size in self.sizes for number in range(size)]

    def take(self, rows: Sequence[int] | np.ndarray) -> Systems:
        """The systems ``rows``, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        bodies, edges = rows_of_segments(self.ptr, rows), rows_of_segments(self.edge_ptr, rows)

        def chosen(values: np.ndarray | None, index: np.ndarray) -> np.ndarray | None:
            return None if values is None else values[index]

        return Systems(
            ids=[self.ids[row] for row in rows],
            sizes=self.sizes[rows],
            pos=self.pos[bodies],
            vel=self.vel[bodies],
            charge=chosen(self.charge, bodies),
            scalars=self.scalars[bodies],
            scalar_names=self.scalar_names,
            edge_attr=chosen(self.edge_attr, edges),
            target_pos=chosen(self.target_pos, bodies),
            target_vel=chosen(self.target_vel, bodies),
            entities=[self.entities[body] for body in bodies] if self.entities else [],
            horizon=self.horizon,
        )


def pointer(lengths: np.ndarray) -> np.ndarray:
    """``[S+1]`` where segments of these lengths begin."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def rows_of_segments(ptr: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """All rows of the ``segments``, one segment after the other.

    Example:
        >>> rows_of_segments(np.array([0, 2, 5]), np.array([1, 0])).tolist()
        [2, 3, 4, 0, 1]
    """
    lengths = ptr[segments + 1] - ptr[segments]
    begins = pointer(lengths)
    return np.repeat(ptr[segments] - begins[:-1], lengths) + np.arange(begins[-1])


def joined(parts: Sequence[Systems]) -> Systems:
    """Several sets of systems as one, in that order.

    Raises:
        InputError: the sets do not have the same quantities.
    """
    first = parts[0]
    for part in parts[1:]:
        odd = sorted(_quantities(first) ^ _quantities(part))
        if odd:
            raise InputError(f"the parts of the file differ: {', '.join(odd)} is in one and not in another.")

    def all_of(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    arrays = ("sizes", "pos", "vel", "charge", "scalars", "edge_attr", "target_pos", "target_vel")
    return replace(
        first,
        ids=[name for part in parts for name in part.ids],
        entities=[name for part in parts for name in part.entities],
        **{name: all_of(name) for name in arrays},
    )


def _quantities(systems: Systems) -> frozenset[str]:
    optional = {"charge": "charge", "edge_attr": "edges", "target_pos": "loc1", "target_vel": "vel1"}
    names = {said for name, said in optional.items() if getattr(systems, name) is not None}
    return frozenset({*names, *systems.scalar_names, f"{systems.dim} coordinates"})
