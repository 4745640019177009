"""From a record of a user's file to the graph that a model reads, the same way in training and in prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from geoattn.domains.molecules.chemistry import FORCE_FIELDS, OPTIONS, Arrays, chemistry
from geoattn.domains.molecules.descriptors import normalize_descriptors
from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.geometry import check_geometry, edges, periodic_edges
from geoattn.domains.molecules.parallel import chemistry_many
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.errors import InputError, nearest_hint

FORMAT = 1
"""Version of the keys of ``preprocess`` and of what they mean."""

DEFAULTS: dict[str, Any] = {
    "format": FORMAT,
    "graph": "2d",
    "atom_mode": "V2",
    "hydrogens": False,
    "stereo": "keep",
    "salts": "keep",
    "charges": "keep",
    "conformer_seed": 0,
    "force_field": "mmff",
    "cutoff": None,
    "periodic": False,
    "elements": None,
    "descriptors": None,
}
CHOICES = {
    "graph": ("2d", "3d"),
    "stereo": ("keep", "remove"),
    "salts": ("keep", "largest"),
    "charges": ("keep", "neutralize"),
    "force_field": ("mmff", "uff", "none"),
}


def make_preprocess(**changes: Any) -> dict[str, Any]:
    """A complete ``preprocess`` dict (plain JSON values): the defaults with ``changes``.

    ==================  ===========================================================================================
    ``graph``           ``"2d"``: atoms and bonds; ``"3d"``: atoms in space
    ``atom_mode``       chemprop's atom features V1, V2, ORGANIC or RIGR (2-D)
    ``hydrogens``       hydrogens as atoms of the graph; default False for 2-D, True for 3-D
    ``stereo``          ``"keep"`` or ``"remove"``
    ``salts``           ``"keep"`` all parts or the ``"largest"``
    ``charges``         ``"keep"`` or ``"neutralize"``
    ``conformer_seed``  seed of the embedding (3-D from SMILES)
    ``force_field``     ``"mmff"`` (falls back to UFF), ``"uff"`` or ``"none"`` (3-D from SMILES)
    ``cutoff``          edges join atoms at most this far apart, in angstrom; None joins all pairs (3-D)
    ``periodic``        graphs carry ``edge_shift``; structures with a cell are accepted
    ``elements``        atomic numbers the model knows; None accepts all
    ``descriptors``     None, or ``{"names", "center", "factor"}``; without ``center`` they stay raw
    ==================  ===========================================================================================

    Raises:
        InputError: an unknown key or value, with the nearest known one.
    """
    for key, value in changes.items():
        if key not in DEFAULTS:
            raise InputError(f"preprocess: unknown key {key!r}. {nearest_hint(key, list(DEFAULTS))}")
        if key in CHOICES and value not in CHOICES[key]:
            raise InputError(f"{key}: got {value!r}. {nearest_hint(str(value), CHOICES[key])}")
    preprocess = {**DEFAULTS, **changes}
    if changes.get("hydrogens") is None:
        preprocess["hydrogens"] = preprocess["graph"] == "3d"
    return preprocess


def featurize(record: Record, preprocess: dict[str, Any]) -> Data:
    """The graph of one record.

    Returns:
        2-D: ``z [N]``, ``x [N, Fa]``, ``edge_index [2, E]``, ``edge_attr [E, Fb]``. 3-D: ``z [N]``, ``pos [N, 3]``
        (angstrom), ``edge_index [2, E]`` and, if ``periodic``, ``edge_shift [E, 3]`` (angstrom). Both: ``y [1, T]``
        (the units of the file, NaN = gap) and, if asked for, ``descriptors [1, K]``. Edges are sorted by target.

    Raises:
        RecordError: what is wrong with the molecule; file and line are added by the reader.
    """
    return assemble(record, chemistry(record, *_chemistry_options(preprocess)), preprocess)


def featurize_many(
    records: Iterable[Record],
    preprocess: dict[str, Any],
    *,
    processes: int | None = 1,
    cache_dir: str | Path | None = None,
) -> Iterator[tuple[Record, Data | RecordError]]:
    """`featurize` for a stream of records: each with its graph, or with the error of what is wrong with it, in order.

    Args:
        records: may be a generator; a few hundred are held at a time.
        preprocess: as `make_preprocess` returns it.
        processes: for embedding and descriptors; None takes one per available core.
        cache_dir: folder that remembers embeddings and descriptors; None remembers nothing.
    """
    options, descriptors = _chemistry_options(preprocess)
    for record, arrays in chemistry_many(records, options, descriptors, processes=processes, cache_dir=cache_dir):
        try:
            yield record, arrays if isinstance(arrays, RecordError) else assemble(record, arrays, preprocess)
        except RecordError as error:
            yield record, error


def assemble(record: Record, arrays: Arrays, preprocess: dict[str, Any]) -> Data:
    """The tensors of a graph from what `chemistry` computed, with the checks that depend on the model."""
    data = _assemble_2d(arrays) if preprocess["graph"] == "2d" else _assemble_3d(record, arrays, preprocess)
    _check_elements(data["z"].numpy(), preprocess["elements"])
    if preprocess["descriptors"] is not None:
        data["descriptors"] = _descriptors(arrays["descriptors"], preprocess["descriptors"])
    data["y"] = torch.from_numpy(record.y.astype(np.float32))[None]
    return data


def _chemistry_options(preprocess: dict[str, Any]) -> tuple[dict[str, Any], list[str] | None]:
    descriptors = preprocess["descriptors"]
    return {key: preprocess[key] for key in OPTIONS}, None if descriptors is None else descriptors["names"]


def _assemble_2d(arrays: Arrays) -> Data:
    keys = ("z", "x", "edge_index", "edge_attr")
    return Data(**{key: torch.from_numpy(np.ascontiguousarray(arrays[key])) for key in keys})


def _assemble_3d(record: Record, arrays: Arrays, preprocess: dict[str, Any]) -> Data:
    if record.numbers is not None and record.positions is not None:
        numbers, positions = record.numbers, record.positions
        keep = np.ones(len(numbers), dtype=bool) if preprocess["hydrogens"] else numbers != 1
        numbers, positions = numbers[keep], positions[keep]
    else:
        numbers, positions = arrays["z"], arrays["pos"]
        record.force_field = FORCE_FIELDS[int(arrays["force_field"][0])] if "force_field" in arrays else ""
    check_geometry(numbers, positions)
    data = Data(z=torch.from_numpy(numbers), pos=torch.from_numpy(positions.astype(np.float32)))
    if record.is_periodic and not preprocess["periodic"]:
        hint = "Train on periodic structures, or remove Lattice and pbc from the file."
        raise RecordError("pbc", record.pbc, "the model was made for molecules without a cell", hint)
    if record.is_periodic and record.cell is not None:
        edge_index, shift = periodic_edges(positions, record.cell, record.pbc, preprocess["cutoff"])
    else:
        edge_index = edges(positions, preprocess["cutoff"])
        shift = np.zeros((edge_index.shape[1], 3))
    data["edge_index"] = torch.from_numpy(edge_index)
    if preprocess["periodic"]:
        data["edge_shift"] = torch.from_numpy(shift.astype(np.float32))
    return data


def _check_elements(numbers: np.ndarray, known: list[int] | None) -> None:
    unknown = [] if known is None else sorted(set(numbers.tolist()) - set(known))
    if unknown:
        names = ", ".join(symbol(z) for z in unknown)
        have = " ".join(symbol(z) for z in known or [])
        raise RecordError("element", names, f"the model knows only {have}", "Train a model on data with this element.")


def _descriptors(values: np.ndarray, constants: dict[str, Any]) -> torch.Tensor:
    """``[1, K]``; raw (float64) while the constants are not fitted yet."""
    if "center" in constants:
        values = normalize_descriptors(values, constants["center"], constants["factor"])
    return torch.from_numpy(values)[None]
