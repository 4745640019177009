"""Scans that do not fit into memory: read in overlapping blocks, with results put together in the order of the file.

The first pass reads the file some points at a time and appends each point to the file of its block in a temporary
folder, and, within a margin, to those of the neighbours. The second pass takes one block file after the other. Memory
holds one chunk or one block, however long the scan; the folder takes 33 bytes per point and copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, Self

import numpy as np

from geoattn._files import atomic_path
from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.datasets.pointcloud_streams import stream_points
from geoattn.domains.pointclouds.records import Cloud
from geoattn.errors import InputError

RECORD = np.dtype([("row", "<i8"), ("xyz", "<f8", 3), ("core", "?")])
CHUNK = 100_000
"""Points of the file in memory at a time."""
WINDOW = 500_000
"""Rows of the results that are mapped into memory at a time."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some points of a scan.

    Attributes:
        number: of the block, from 0.
        cloud: its points, the margin included; without normals and segments.
        rows: ``[N]`` int64, where they stand in the file, ascending.
        core: ``[N]`` bool, False in the margin. Each point of the file is in the core of one block.
    """

    number: int
    cloud: Cloud
    rows: np.ndarray
    core: np.ndarray


@dataclass(frozen=True)
class _Cell:
    file: Path
    low: tuple[float, float]
    size: float


class BlockedScan:
    """The blocks of a scan: columns over squares of the ground. Use it in a ``with`` statement; iterate at will.

    Args:
        path: a file of points, in any format; see `geoattn.datasets.pointcloud_streams.stream_points` for those that
            are read some points at a time.
        size: edge of the squares, in the unit of the file.
        margin: how far a block reaches into its neighbours: what a model looks at around a point, in the same unit.
        max_points: of a block, its margin included: denser squares are cut into four, and again.
        up: the axis along the columns.
        folder: for temporary files; that of the system if left out.

    Attributes (inside the ``with`` statement):
        num_points: of the file.
        num_blocks: how many blocks there are.

    Raises:
        InputError: a size or margin that cannot be, a file that cannot be read (with line or point), or a square that
            holds more than ``max_points`` within its margin, however small it is cut.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "scan.npy"
        >>> np.save(path, np.random.default_rng(0).random((1000, 3)))
        >>> with BlockedScan(path, size=0.5, margin=0.1) as scan:
        ...     sum(int(block.core.sum()) for block in scan), scan.num_blocks
        (1000, 4)
    """

    num_points: int

    def __init__(
        self,
        path: str | Path,
        size: float,
        margin: float,
        *,
        max_points: int = 500_000,
        up: Literal["x", "y", "z"] = "z",
        folder: str | Path | None = None,
    ) -> None:
        if not (0 <= margin <= size and 0 < size < np.inf):
            raise InputError(f"blocks: got size {size} and margin {margin}, expected 0 <= margin <= size.")
        if up not in ("x", "y", "z"):
            raise InputError(f"up: got {up!r}, expected 'x', 'y' or 'z'.")
        self.path, self.size, self.margin, self.max_points = Path(path), float(size), float(margin), max_points
        self._ground = [axis for axis in range(3) if axis != "xyz".index(up)]
        self._folder = folder

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(dir=self._folder, prefix="geoattn-blocks-")
        try:
            self._cells = self._cut(self._distribute())
        except BaseException:
            self._temporary.cleanup()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._temporary.cleanup()

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self._cells)

    def __iter__(self) -> Iterator[Block]:
        for number, cell in enumerate(self._cells):
            records = np.fromfile(cell.file, dtype=RECORD)
            origin = np.floor(records["xyz"].mean(axis=0))
            cloud = Cloud(
                id=f"{self.path.name}, block {number}",
                points=(records["xyz"] - origin).astype(np.float32),
                normals=None,
                label=None,
                segment=None,
                origin=origin,
                file=str(self.path),
                line=None,
            )
            yield Block(number, cloud, records["row"].copy(), records["core"].copy())

    def _distribute(self) -> list[_Cell]:
        """Append each point to the file of its square, and to those whose margin it is in."""
        cells: dict[tuple[int, int], _Cell] = {}
        origin, row = None, 0
        try:
            for points in stream_points(self.path, CHUNK):
                ground = points[:, self._ground]
                origin = np.floor(ground.min(axis=0)) if origin is None else origin
                place = np.floor((ground - origin) / self.size)
                inside = ground - origin - place * self.size
                records = np.empty(len(points), dtype=RECORD)
                records["row"], records["xyz"] = np.arange(row, row + len(points)), points
                row += len(points)
                for step in product((-1, 0, 1), repeat=2):
                    near = np.ones(len(points), dtype=bool)
                    for axis, side in enumerate(step):
                        if side:
                            gap = inside[:, axis] if side < 0 else self.size - inside[:, axis]
                            near &= gap <= self.margin
                    records["core"] = step == (0, 0)
                    self._append(cells, records[near], (place[near] + step).astype(np.int64), origin)
        except CloudError as error:
            raise InputError(f"{self.path}:{error.line or f' {error.place}'}: {error}") from error
        if not row:
            raise InputError(f"{self.path}: there is no point in it.")
        self.num_points = row
        return [cells[key] for key in sorted(cells)]

    def _append(
        self, cells: dict[tuple[int, int], _Cell], records: np.ndarray, place: np.ndarray, origin: np.ndarray
    ) -> None:
        if not len(records):
            return
        order = np.lexsort((place[:, 1], place[:, 0]))  # stable: rows stay in order
        records, place = records[order], place[order]
        starts = np.flatnonzero(np.r_[True, (place[1:] != place[:-1]).any(axis=1)])
        for begin, end in zip(starts, [*starts[1:], len(records)], strict=True):
            i, j = (int(k) for k in place[begin])
            if (i, j) not in cells:
                low = (float(origin[0] + i * self.size), float(origin[1] + j * self.size))
                cells[i, j] = _Cell(Path(self._temporary.name, f"{i}_{j}"), low, self.size)
            with cells[i, j].file.open("ab") as file:
                records[begin:end].tofile(file)

    def _cut(self, cells: Sequence[_Cell]) -> list[_Cell]:
        """Squares that hold few enough points, without those of which there is only a margin."""
        done: list[_Cell] = []
        waiting = list(reversed(cells))
        while waiting:
            cell = waiting.pop()
            if cell.file.stat().st_size <= self.max_points * RECORD.itemsize:
                records = np.fromfile(cell.file, dtype=RECORD)
                if records["core"].any():
                    records[np.argsort(records["row"], kind="stable")].tofile(cell.file)
                    done.append(cell)
                else:
                    cell.file.unlink()
                continue
            quarters = self._quarters(cell)
            if cell.size < self.margin or max(q.file.stat().st_size for q in quarters) == cell.file.stat().st_size:
                raise InputError(
                    f"{self.path}: {cell.file.stat().st_size // RECORD.itemsize} points lie within {self.margin:g} "
                    f"around {cell.low}, more than max_points {self.max_points}. Thin the scan, choose a smaller "
                    "margin, or allow more points."
                )
            cell.file.unlink()
            waiting.extend(reversed(quarters))
        return done

    def _quarters(self, cell: _Cell) -> list[_Cell]:
        half = cell.size / 2
        found = []
        for i, j in product((0, 1), repeat=2):
            low = (cell.low[0] + i * half, cell.low[1] + j * half)
            quarter = _Cell(cell.file.with_name(f"{cell.file.name}_{i}{j}"), low, half)
            quarter.file.touch()
            found.append(quarter)
        middle = np.array(cell.low) + half
        with cell.file.open("rb") as file:
            while len(records := np.fromfile(file, dtype=RECORD, count=CHUNK)):
                ground = records["xyz"][:, self._ground]
                upper = ground >= middle  # a core point belongs to one side, exactly
                for (i, j), quarter in zip(product((0, 1), repeat=2), found, strict=True):
                    corner = np.array(quarter.low)
                    near = ((ground >= corner - self.margin) & (ground <= corner + half + self.margin)).all(axis=1)
                    inside = (upper == (bool(i), bool(j))).all(axis=1)
                    chosen = records.copy()
                    chosen["core"] &= inside
                    with quarter.file.open("ab") as target:
                        chosen[near | chosen["core"]].tofile(target)
        return found


class Stitched:
    """Results of the points of a scan, block by block, in the order of the file; made by `stitched`."""

    def __init__(self, path: Path, scan: BlockedScan) -> None:
        self._path, self._scan = path, scan
        self._seen: set[int] = set()
        self._count = 0

    def add(self, block: Block, values: np.ndarray) -> None:
        """Keep those of ``values [N, ...]`` that are of the core of the block; dtype and shape are those of the first.

        Raises:
            InputError: values of another number of points, or a block that was added before.
        """
        if len(values) != len(block.rows) or block.number in self._seen:
            what = f"{len(values)} values of {len(block.rows)} points" if block.number not in self._seen else "it twice"
            raise InputError(f"block {block.number}: got {what}, expected one value per point, once.")
        if not self._seen:
            shape = (self._scan.num_points, *values.shape[1:])
            np.lib.format.open_memmap(self._path, mode="w+", dtype=values.dtype, shape=shape)
        self._seen.add(block.number)
        self._count += int(block.core.sum())
        rows, core = block.rows[block.core], values[block.core]
        for begin in range(0, self._scan.num_points, WINDOW):
            first, last = np.searchsorted(rows, [begin, begin + WINDOW])
            if first < last:
                target = np.lib.format.open_memmap(self._path, mode="r+")  # opened anew: pages are given back
                target[rows[first:last]] = core[first:last]
                del target

    def check(self) -> None:
        """Raise an InputError unless each point of the file has got its value."""
        if self._count != self._scan.num_points:
            raise InputError(
                f"{self._scan.path}: {self._count} of {self._scan.num_points} points got a value; "
                f"{len(self._seen)} of {self._scan.num_blocks} blocks were added."
            )


@contextmanager
def stitched(path: str | Path, scan: BlockedScan) -> Iterator[Stitched]:
    """A ``.npy`` file with one result per point of the scan, in the order of its file.

    It appears when all blocks were added, or not at all.

    Raises:
        InputError: a block was not added, or the file cannot be written.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "scan.npy"
        >>> np.save(path, np.random.default_rng(0).random((1000, 3)))
        >>> with BlockedScan(path, 0.5, 0.1) as scan, stitched(path.with_name("height.npy"), scan) as result:
        ...     for block in scan:
        ...         result.add(block, block.cloud.points[:, 2] + block.cloud.origin[2])
        >>> bool(np.allclose(np.load(path.with_name("height.npy")), np.load(path)[:, 2]))
        True
    """
    with atomic_path(path) as temporary:
        result = Stitched(temporary, scan)
        yield result
        result.check()
