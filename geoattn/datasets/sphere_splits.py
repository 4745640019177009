"""Splits of fields: in time, drawn, by trajectories, or by regions of one globe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geoattn.datasets.sphere_files import FieldFile
from geoattn.datasets.sphere_samples import SampleSpec
from geoattn.datasets.splits import PARTS, Split, split_rows
from geoattn.errors import InputError, nearest_hint
from geoattn.geometry.sphere import SpherePoints, healpix

KINDS = ("time", "random", "kfold:K:I", "column:NAME", "column:NAME=VALUE", "file:PATH", "region:SEED")
BLOCK_NSIDE = 4
"""Regions are the cells of this HEALPix grid: 192 blocks of equal area, 15 degrees across."""


def split_fields(
    spec: str,
    source: FieldFile,
    specs: Sequence[SampleSpec],
    table: pd.DataFrame,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    gap: float,
) -> tuple[list[SampleSpec], list[int], Split, list[str]]:
    """Divide samples into train, valid and test.

    Args:
        spec: ``time``: the last samples are the test part and those before it the validation part; ``region:SEED``: in
            every sample, blocks of the globe are train, valid or test for targets, while inputs are seen everywhere;
            else as `split_rows`. Where the file has several trajectories, these are what is divided.
        source: the file.
        specs: its samples.
        table: one row per sample, with ``id``, ``group`` and the columns of the split.
        seed: of everything drawn.
        val_fraction, test_fraction: of samples, trajectories or blocks.
        gap: regions: degrees around validation and test blocks in which no target is learned.

    Returns:
        The samples (each three times for regions, with the points of its part), the row of ``table`` of each, the
        split of them, and sentences about it.

    Raises:
        InputError: an unknown kind, or a part that would be empty.
    """
    kind, _, argument = spec.partition(":")
    if kind == "region":
        return _by_region(spec, argument, source, specs, val_fraction, test_fraction, gap)
    if kind not in ("time", "random", "kfold", "column", "file") or (kind in ("time", "random") and argument):
        raise InputError(f"split: got {spec!r}, which is no known kind. {nearest_hint(spec, KINDS)}")
    groups = table["group"].to_numpy()
    several = len(np.unique(groups)) > 1
    units = table.drop_duplicates("group", ignore_index=True) if several else table
    what = "trajectory" if several else "sample"
    options = {"seed": seed, "val_fraction": val_fraction, "test_fraction": test_fraction, "what": what}
    split = split_rows("random" if kind == "time" else spec, units, **options)  # type: ignore[arg-type]
    notes = []
    if kind == "time":  # as many in each part, in order
        bounds = np.cumsum([0, *(len(split[part]) for part in PARTS)]).tolist()
        split = {part: list(range(*bounds[k : k + 2])) for k, part in enumerate(PARTS)}
    if several:
        names = units["group"].to_numpy()
        split = {part: np.flatnonzero(np.isin(groups, names[rows])).tolist() for part, rows in split.items()}
        notes.append("Whole trajectories are in one part.")
    elif kind in ("random", "kfold") and any(len(each.times) > 1 or each.target != each.times[0] for each in specs):
        notes.append(
            "Samples of one series were drawn: the parts share moments, so the test part is easier than a later time. "
            "--data.split time avoids it."
        )
    return list(specs), list(range(len(specs))), split, notes


def block_parts(points: SpherePoints, seed: int, val_fraction: float, test_fraction: float, gap: float) -> np.ndarray:
    """``[N]``: 0, 1 or 2 for points of train, valid and test blocks, -1 for those in the gap."""
    centres = healpix(BLOCK_NSIDE)
    _, block = cKDTree(centres.xyz.numpy()).query(points.xyz.numpy())
    order = np.random.default_rng(seed).permutation(centres.num_points)
    num_test, num_valid = (max(1, round(len(order) * share)) for share in (test_fraction, val_fraction))
    of_block = np.zeros(len(order), dtype=np.int64)
    of_block[order[:num_test]] = 2
    of_block[order[num_test : num_test + num_valid]] = 1
    part = of_block[block]
    if gap > 0 and (part > 0).any():
        chord = 2 * np.sin(np.radians(min(gap, 180.0)) / 2)
        distance, _ = cKDTree(points.xyz.numpy()[part > 0]).query(points.xyz.numpy())
        part[(part == 0) & (distance <= chord)] = -1
    return part


def _by_region(
    spec: str,
    argument: str,
    source: FieldFile,
    specs: Sequence[SampleSpec],
    val_fraction: float,
    test_fraction: float,
    gap: float,
) -> tuple[list[SampleSpec], list[int], Split, list[str]]:
    if argument and not argument.isdecimal():
        raise InputError(f"split: got {spec!r}, expected region:SEED, e.g. region:0.")
    part = block_parts(source.grid.points, int(argument or 0), val_fraction, test_fraction, gap)
    made: list[SampleSpec] = []
    rows: list[int] = []
    split: Split = {}
    for k, name in enumerate(PARTS):
        used = part == k
        if not used.any():
            raise InputError(f"split {spec!r}: no point of {source.file} is in the {name} part. Use a smaller gap.")
        split[name] = list(range(len(made), len(made) + len(specs)))
        made += [replace(each, id=f"{each.id}/{name}", used=used & each.used) for each in specs]
        rows += range(len(specs))
    shares = ", ".join(f"{name} {(part == k).mean():.0%}" for k, name in enumerate(PARTS))
    notes = [
        f"Blocks of the globe, about 15 degrees across, are the parts ({shares} of the points); inputs are seen "
        "everywhere, targets in the blocks of a part alone."
    ]
    if gap > 0:
        left = float((part < 0).mean())
        notes.append(
            f"Within {gap:g} degrees of validation and test blocks ({left:.0%} of the points) nothing is learned."
        )
    return made, rows, split, notes
