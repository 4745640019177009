"""Symmetry groups, their random elements, and how declared tensors transform under an element."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from geoattn.errors import InputError, ShapeError, nearest_hint
from geoattn.kernels import Neighborhood

REPRESENTATIONS = ("invariant", "vector", "position", "edge_index", "batch")
_IRREPS = re.compile(r"\s*(\d+\s*x\s*)?\d+[eo](\s*\+\s*(\d+\s*x\s*)?\d+[eo])*\s*")


def random_orthogonal(dim: int, determinant: Literal[1, -1] = 1, generator: torch.Generator | None = None) -> Tensor:
    """An orthogonal matrix ``[dim, dim]`` in float64, uniform (Haar) among those of the determinant asked for.

    Args:
        dim: n, at least 1.
        determinant: 1 for a rotation, -1 for a rotation with a reflection.
        generator: source of randomness; torch's own if None.

    Example:
        >>> import torch
        >>> R = random_orthogonal(4, determinant=-1)
        >>> bool(torch.allclose(R @ R.T, torch.eye(4, dtype=R.dtype))), round(float(torch.linalg.det(R)))
        (True, -1)
    """
    gaussian = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)  # makes the factorisation unique, and q uniform on O(n)
    if (torch.linalg.det(q) < 0) != (determinant < 0):
        q = torch.cat([-q[:, :1], q[:, 1:]], dim=1)
    return q


@dataclass(frozen=True)
class Group:
    """O(n), SO(n), E(n), SE(n), T(n) (translations), or the permutations of rows.

    Example:
        >>> Group.parse("SE(3)")
        Group(name='SE', dim=3)
    """

    name: Literal["O", "SO", "E", "SE", "T", "permutation"]
    dim: int = 0

    @classmethod
    def parse(cls, text: str) -> Group:
        """Read ``"E(3)"``, ``"SO(2)"``, ..., or ``"permutation"``."""
        if text == "permutation":
            return cls("permutation")
        match = re.fullmatch(r"(O|SO|E|SE|T)\(([1-9]\d*)\)", text.replace(" ", ""))
        if not match:
            raise InputError(f"group: got {text!r}, expected O(n), SO(n), E(n), SE(n), T(n) or 'permutation'.")
        return cls(match[1], int(match[2]))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.name}({self.dim})" if self.dim else self.name

    def element(self, trial: int, rows: Mapping[str, Tensor], generator: torch.Generator) -> Element:
        """A random element. Odd trials of O(n) and E(n) have determinant -1, so that two trials cover both halves.

        Args:
            trial: counts the elements drawn.
            rows: the blocks within which rows may be permuted, by label: a block number for each row.
            generator: source of randomness.
        """
        if self.name == "permutation":
            return Element(permutations={k: _block_permutation(block, generator) for k, block in rows.items()})
        rotation = torch.eye(self.dim, dtype=torch.float64)
        if self.name != "T":
            mirror = self.name in ("O", "E") and trial % 2 == 1
            rotation = random_orthogonal(self.dim, -1 if mirror else 1, generator)
        translation = torch.zeros(self.dim, dtype=torch.float64)
        if self.name in ("E", "SE", "T"):
            translation = torch.randn(self.dim, generator=generator, dtype=torch.float64)
        return Element(rotation, translation)


@dataclass(frozen=True)
class Element:
    """One group element: ``x -> rotation @ x + translation`` in space, and a permutation for each label of rows.

    Attributes:
        rotation: ``[n, n]`` float64, orthogonal; None where the element only permutes.
        translation: ``[n]`` float64; None where the element only permutes.
        permutations: label -> ``[rows]`` int64; the row that comes to stand at ``i`` stood at ``permutation[i]``.
    """

    rotation: Tensor | None = None
    translation: Tensor | None = None
    permutations: Mapping[str, Tensor] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.rotation is None or self.translation is None:
            return "a permutation of " + ", ".join(f"{len(p)} {k} rows" for k, p in self.permutations.items())
        kind = "reflection" if torch.linalg.det(self.rotation) < 0 else "rotation"
        return f"x -> Rx + t with the {kind} R = {_digits(self.rotation)}, t = {_digits(self.translation)}"


@dataclass(frozen=True)
class Spec:
    """How one tensor transforms.

    As text: ``REPRESENTATION`` or ``REPRESENTATION/ROWS``. Representations, all acting on the last axis:

    ``invariant``
        unchanged (features, charges, energies).
    ``vector``
        rotated and reflected: ``[..., n]`` (velocities, forces, dipoles).
    ``position``
        rotated, reflected and translated: ``[..., n]``.
    e3nn irreps, such as ``8x0e + 2x1o``
        packed as e3nn packs them; three dimensions only; needs no translation.
    ``edge_index``
        ``[2, E]`` numbers of nodes, or a Neighborhood; its columns are rows of the label ``edge``. For a bipartite
        graph name the labels of both ends: ``edge_index/atom,residue`` (source, target).
    ``batch``
        ``[N]`` number of the graph of each node. Permutations stay within each graph.

    ROWS is what the first axis counts: ``node``, ``edge``, ``graph``, or any label of yours. Rows of one label are
    permuted together; ``graph`` rows keep their order; without ROWS a tensor is not permuted.

    In code, ``representation`` may also be a function ``(tensor in float64, Element) -> tensor``.
    """

    representation: str | Callable[[Tensor, Element], Tensor]
    rows: str | None = None

    @classmethod
    def parse(cls, spec: str | Spec) -> Spec:
        """Read the text form; raises InputError with the nearest known name."""
        if isinstance(spec, Spec):
            return spec
        representation, _, rows = (part.strip() for part in spec.partition("/"))
        if representation not in REPRESENTATIONS and not _IRREPS.fullmatch(representation):
            raise InputError(
                f"spec: got {spec!r}, expected a representation or irreps, as in 'vector/node' or '4x1o/node'. "
                + nearest_hint(representation, REPRESENTATIONS)
            )
        return cls(representation, rows or {"edge_index": "node,node", "batch": "node"}.get(representation))

    def transform(self, value: Any, element: Element, dtype: torch.dtype | None = None) -> Any:
        """``value`` under ``element``, computed in float64 and returned in ``dtype`` (its own if None)."""
        if self.representation == "edge_index":
            return _permute_edges(value, *_ends(self.rows), element)
        dtype = value.dtype if dtype is None else dtype
        moved = value
        if element.rotation is not None and self.representation not in ("invariant", "batch"):
            moved = _act(self.representation, value.to(torch.float64), element)
        if self.rows is not None and self.rows in element.permutations:
            moved = moved[element.permutations[self.rows].to(moved.device)]
        return moved.to(dtype)


def count_rows(values: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, int]:
    """The number of rows of each label, from the tensors that carry it.

    Raises:
        ShapeError: if two tensors disagree.
    """
    counts: dict[str, int] = {}
    for name, spec in specs.items():
        value = values.get(name)
        found: dict[str | None, int]
        if value is None:
            continue
        if isinstance(value, Neighborhood):
            source, target = _ends(spec.rows)
            found = {source: value.num_sources, target: value.num_targets, "edge": value.num_edges}
        elif spec.representation == "edge_index":
            found = {"edge": value.shape[1]}
        else:
            found = {spec.rows: value.shape[0]} if spec.rows else {}
        for label, count in found.items():
            if counts.setdefault(str(label), count) != count:
                raise ShapeError(name, f"{count} rows", f"{counts[str(label)]} {label} rows, as in the other inputs")
    return counts


def permutable_rows(values: Mapping[str, Any], specs: Mapping[str, Spec]) -> dict[str, Tensor]:
    """For each label that a permutation may act on, the block of each row: its graph, or 0 for all."""
    counts = count_rows(values, specs)
    counts.pop("graph", None)
    blocks = {label: torch.zeros(count, dtype=torch.long) for label, count in counts.items()}
    for name, spec in specs.items():
        if spec.representation == "batch" and values.get(name) is not None:
            blocks[str(spec.rows)] = values[name].cpu()
    return blocks


def merge(values: Sequence[Mapping[str, Any]], specs: Mapping[str, Spec]) -> dict[str, Any]:
    """The disjoint union of several sets of inputs: rows one after the other, node numbers moved up.

    Tensors without rows must be the same in all.
    """
    counts = [count_rows(v, specs) for v in values]

    def offset(label: str, index: int) -> int:
        return sum(c.get(label, 0) for c in counts[:index])

    merged = dict(values[0])
    for name, spec in specs.items():
        if values[0].get(name) is None:
            continue
        parts = [v[name] for v in values]
        if spec.representation == "edge_index":
            ends = _ends(spec.rows)
            moved = [
                _edge_index(part) + torch.tensor([[offset(end, i)] for end in ends]) for i, part in enumerate(parts)
            ]
            merged[name] = torch.cat(moved, dim=1)
            if isinstance(parts[0], Neighborhood):
                sources, targets = (sum(c[end] for c in counts) for end in ends)
                merged[name] = Neighborhood.from_edge_index(merged[name], targets, sources)
        elif spec.representation == "batch":
            graphs = [0, *(int(part.max()) + 1 if part.numel() else 0 for part in parts)]
            merged[name] = torch.cat([part + sum(graphs[: i + 1]) for i, part in enumerate(parts)])
        elif spec.rows:
            merged[name] = torch.cat(parts)
    return merged


def _act(representation: str | Callable[[Tensor, Element], Tensor], value: Tensor, element: Element) -> Tensor:
    assert element.rotation is not None and element.translation is not None
    rotation, translation = element.rotation.to(value.device), element.translation.to(value.device)
    if callable(representation):
        return representation(value, element)
    if representation in ("vector", "position"):
        if value.shape[-1:] != rotation.shape[:1]:
            raise ShapeError(
                f"a {representation}", f"shape {tuple(value.shape)}", f"[..., {rotation.shape[0]}], the group's dim"
            )
        moved = value @ rotation.T  # rows are vectors
        return moved + translation if representation == "position" else moved
    if rotation.shape[0] != 3:
        raise InputError(f"irreps {representation!r} live in 3 dimensions; the group acts on {rotation.shape[0]}.")
    return value @ _irreps_matrix(representation, element.rotation).to(value.device).T


def _irreps_matrix(irreps: str, rotation: Tensor) -> Tensor:
    """The block-diagonal matrix ``[d, d]`` float64 that ``rotation`` becomes on features of these irreps.

    Each block is found from its definition, ``Y(R p) = D Y(p)`` at random points p: e3nn's own ``D_from_matrix`` is
    exact to 1e-6 only, unless torch's default dtype is float64.
    """
    from e3nn import o3  # slow to import, and only irreps need it

    sign = torch.sign(torch.linalg.det(rotation))
    proper = sign * rotation
    blocks = []
    for mul, ir in o3.Irreps(irreps):
        points = torch.randn(8 * ir.l + 4, 3, generator=torch.Generator().manual_seed(ir.l), dtype=torch.float64)
        before, after = (o3.spherical_harmonics(ir.l, p, normalize=True) for p in (points, points @ proper.T))
        block = torch.linalg.lstsq(before, after).solution.T
        blocks += mul * [block * (ir.p if sign < 0 else 1)]
    return torch.block_diag(*blocks)


def _permute_edges(edges: Tensor | Neighborhood, source: str, target: str, element: Element) -> Tensor | Neighborhood:
    if not element.permutations:
        return edges
    edge_index = _edge_index(edges)
    ends = [
        torch.argsort(element.permutations[label]).to(edge_index.device)[numbers] if label in element.permutations
        else numbers
        for label, numbers in zip((source, target), edge_index.long(), strict=True)
    ]  # fmt: skip
    moved = torch.stack(ends).to(edge_index.dtype)[:, element.permutations["edge"].to(edge_index.device)]
    if isinstance(edges, Neighborhood):
        return Neighborhood.from_edge_index(moved, edges.num_targets, edges.num_sources)
    return moved


def _edge_index(edges: Tensor | Neighborhood) -> Tensor:
    return edges.edge_index if isinstance(edges, Neighborhood) else edges


def _ends(rows: str | None) -> tuple[str, str]:
    labels = [label.strip() for label in (rows or "").split(",")]
    if len(labels) != 2:
        raise InputError(f"spec: 'edge_index' needs the labels of both ends, as in 'edge_index/a,b'; got {rows!r}.")
    return labels[0], labels[1]


def _block_permutation(block: Tensor, generator: torch.Generator) -> Tensor:
    """A random permutation that leaves every row within its block."""
    shuffled = torch.randperm(len(block), generator=generator)
    permutation = torch.empty_like(shuffled)
    permutation[torch.argsort(block, stable=True)] = shuffled[torch.argsort(block[shuffled], stable=True)]
    return permutation


def _digits(value: Tensor) -> str:
    return str([[round(x, 3) for x in row] if isinstance(row, list) else round(row, 3) for row in value.tolist()])
