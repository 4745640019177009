"""From a potential and structures to numbers: predictions, metrics beside the baseline, symmetry, copies."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from geoattn.domains.molecules.elements import symbol
from geoattn.domains.molecules.force_metrics import Labels
from geoattn.domains.molecules.potential import Potential
from geoattn.domains.molecules.structures import PackedStructures, StructureBatch
from geoattn.tasks._model import Symmetry
from geoattn.testing import equivariance_error

ATOMS_AT_ONCE = 1024
BASELINE = "reference_energies_zero_force"
SYMMETRY = "The energy stays the same and forces turn with the structure under rotations and translations"
SYMMETRY_SAMPLES = 4
AXES = "xyz"
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def predict_structures(
    model: nn.Module,
    packed: PackedStructures,
    rows: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    stress: bool = False,
) -> Labels:
    """Energies and forces (and stress) of some structures, in their order.

    Args:
        model: a `Potential`; moved to ``device`` and set to evaluation.
        packed: the structures.
        rows: which; all if None.
        device: where to compute.
        stress: whether to compute it.
    """
    model = model.eval().to(device)
    chosen = np.arange(len(packed)) if rows is None else np.asarray(rows, dtype=np.int64)
    parts: dict[str, list[Tensor]] = {"energy": [], "forces": [], "stress": []}
    for some in _batches(chosen, packed.num_atoms):
        for name, value in model(packed[some].to(device), stress=stress).items():
            parts[name].append(value.detach().cpu().double())
    empty = {"energy": (0,), "forces": (0, 3), "stress": (0, 3, 3)}
    energy, forces, stresses = (
        torch.cat(parts[name]).numpy() if parts[name] else np.empty(shape) for name, shape in empty.items()
    )
    return Labels(energy, forces, stresses if stress else None, packed.num_atoms[chosen])


def true_labels(packed: PackedStructures, rows: Sequence[int]) -> Labels:
    """What the file says about some structures."""
    chosen = np.asarray(rows, dtype=np.int64)
    assert packed.energy is not None and packed.forces is not None
    stress = None if packed.stress is None else packed.stress[chosen]
    return Labels(packed.energy[chosen], packed.forces[packed.atom_rows(chosen)], stress, packed.num_atoms[chosen])


def _batches(rows: np.ndarray, num_atoms: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in groups of about ``ATOMS_AT_ONCE`` atoms."""
    if len(rows):
        group = np.cumsum(num_atoms[rows]) // ATOMS_AT_ONCE
        yield from np.split(rows, np.flatnonzero(np.diff(group)) + 1)


def energy_columns(table: pd.DataFrame, predicted: Labels) -> pd.DataFrame:
    """``table`` with ``energy_pred`` and the six ``stress_pred_*`` in Voigt's order, one row per structure."""
    result = table.assign(energy_pred=predicted.energy)
    if predicted.stress is not None:
        for name, (a, b) in {
            "xx": (0, 0),
            "yy": (1, 1),
            "zz": (2, 2),
            "yz": (1, 2),
            "xz": (0, 2),
            "xy": (0, 1),
        }.items():
            result[f"stress_pred_{name}"] = predicted.stress[:, a, b]
    return result


def force_table(
    ids: Sequence[str], packed: PackedStructures, rows: Sequence[int], predicted: Labels, true: Labels | None = None
) -> pd.DataFrame:
    """One row per atom: id of the structure, atom (from 1), element, the forces and the predicted ones."""
    chosen = np.asarray(rows, dtype=np.int64)
    counts = packed.num_atoms[chosen]
    table = pd.DataFrame(
        {
            "id": np.repeat(np.asarray(ids, dtype=object), counts),
            "atom": np.concatenate([np.arange(1, count + 1) for count in counts] or [np.empty(0, dtype=np.int64)]),
            "element": [symbol(int(z)) for z in packed.z[packed.atom_rows(chosen)]],
        }
    )
    for k, axis in enumerate(AXES):
        if true is not None:
            table[f"force_{axis}"] = true.forces[:, k]
        table[f"force_{axis}_pred"] = predicted.forces[:, k]
    return table


def structure_keys(packed: PackedStructures) -> list[str]:
    """A short hash per structure by which a copy is found in another file.

    Of the elements and of the distances along the edges, to a thousandth of an angstrom; so copies that were moved,
    rotated or renumbered are found, and mirror images count as copies.
    """
    keys = []
    for row in range(len(packed)):
        batch = packed[[row]]
        source, target = batch.nbr.source.numpy(), batch.nbr.target.numpy()
        pos = batch.pos.double()
        vector = pos[source] - pos[target]
        if batch.cell is not None and batch.cell_shift is not None:
            vector = vector + batch.cell_shift.double() @ batch.cell[0].double()
        z = batch.z.numpy()
        pair = np.minimum(z[source], z[target]) * 1000 + np.maximum(z[source], z[target])
        rounded = np.round(1000 * vector.norm(dim=1).numpy()).astype(np.int64)
        order = np.lexsort((rounded, pair))
        content = np.concatenate([np.sort(z), pair[order], rounded[order]])
        keys.append(hashlib.sha256(content.tobytes()).hexdigest()[:12])
    return keys


def measure_symmetry(model: nn.Module, packed: PackedStructures, rows: Sequence[int]) -> Symmetry:
    """How far energy and forces are from following rotations, translations and permutations.

    The energy is measured without the reference energies, whose size would hide the error.
    """
    batch = packed[list(rows[:SYMMETRY_SAMPLES])]
    errors = {}
    for dtype in (torch.float32, torch.float64):
        network = copy.deepcopy(model).cpu().to(dtype).eval()
        for part in network.modules():
            if isinstance(part, Potential):
                part.references.zero_()
        predict = _function_of(network, batch, dtype)
        inputs, specs = {"pos": batch.pos.to(dtype)}, {"pos": "position"}
        if batch.cell is not None:
            inputs["cell"], specs["cell"] = batch.cell.to(dtype), "vector"
        report = equivariance_error(
            predict,
            inputs,
            in_specs=specs,
            out_specs={"energy": "invariant", "forces": "vector"},
            group="SE(3)",
        )
        errors[str(dtype).removeprefix("torch.")] = float(report)
    return Symmetry(errors, SYMMETRY)


def _function_of(network: nn.Module, batch: StructureBatch, dtype: torch.dtype) -> Callable[..., dict[str, Tensor]]:
    """The network as a function of positions and lattice vectors."""
    shift = None if batch.cell_shift is None else batch.cell_shift.to(dtype)

    def predict(pos: Tensor, cell: Tensor | None = None) -> dict[str, Tensor]:
        return network(dataclasses.replace(batch, pos=pos, cell=cell, cell_shift=shift, volume=None))

    return predict
