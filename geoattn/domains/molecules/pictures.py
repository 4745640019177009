"""Molecules as SVG text for reports: drawings of SMILES by RDKit, structures in space as projected balls and sticks."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch_geometric.data import Data

from geoattn._optional import require
from geoattn.domains.molecules.elements import symbol
from geoattn.errors import ShapeError

COLORS = {
    1: "#e8e8e8", 5: "#ffb5b5", 6: "#707070", 7: "#3050f8", 8: "#e03020", 9: "#70d040", 14: "#d0b080", 15: "#ff8000",
    16: "#d8b818", 17: "#30c030", 35: "#a62929", 53: "#940094",
}  # fmt: skip
OTHER_COLOR = "#c080c0"
STRONG = (0.0, 0.447, 0.698)
"""The colour of the largest weight (Okabe and Ito's blue); no weight is white."""
BOND_FACTOR = 1.25
"""Two atoms are joined by a stick if they are nearer than this times the sum of their covalent radii."""


def draw_sample(sample: Data, smiles: str = "", width: int = 220, height: int = 160) -> str:
    """The drawing of a molecule: of its SMILES if it has one, else of its positions.

    Raises:
        ValueError: for a sample with neither.
    """
    if smiles:
        return draw_smiles(smiles, width, height)
    if "pos" in sample:
        return draw_structure(sample["z"].numpy(), sample["pos"].numpy(), width, height)
    raise ValueError("a sample without SMILES and without positions cannot be drawn")


def draw_smiles(smiles: str, width: int = 220, height: int = 160) -> str:
    """The structural formula as an ``<svg>`` element without background."""
    chem = require("rdkit.Chem", "molecules")
    drawer = require("rdkit.Chem.Draw.rdMolDraw2D", "molecules").MolDraw2DSVG(width, height)
    drawer.drawOptions().clearBackground = False
    with require("rdkit.rdBase", "molecules").BlockLogs():
        drawer.DrawMolecule(chem.MolFromSmiles(smiles))
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    return text[text.index("<svg") :]


def draw_weights(
    mol: Any, atoms: np.ndarray, bonds: np.ndarray | None = None, width: int = 220, height: int = 160
) -> str:
    """The structural formula with atoms and bonds coloured by weights, as an ``<svg>`` element without background.

    Args:
        mol: an RDKit molecule.
        atoms: ``[N]`` not negative; the darkest has the largest of all weights.
        bonds: ``[B]`` likewise; not coloured if left out.
        width, height: in pixels.

    Raises:
        ShapeError: another number of weights.
    """
    bonds = np.zeros(mol.GetNumBonds()) if bonds is None else bonds
    if (len(atoms), len(bonds)) != (mol.GetNumAtoms(), mol.GetNumBonds()):
        expected = f"{mol.GetNumAtoms()} and {mol.GetNumBonds()}"
        raise ShapeError("atoms, bonds", f"{len(atoms)} and {len(bonds)} weights", expected)
    most = max(np.max(atoms, initial=0.0), np.max(bonds, initial=0.0)) or 1.0
    atom_colors, bond_colors = (
        {
            i: tuple(1 + (end - 1) * float(part) for end in STRONG)
            for i, part in enumerate(weights / most)
            if part > 0.05
        }
        for weights in (np.asarray(atoms, dtype=np.float64), np.asarray(bonds, dtype=np.float64))
    )  # paler ones would only hide the formula
    drawing = require("rdkit.Chem.Draw.rdMolDraw2D", "molecules")
    drawer = drawing.MolDraw2DSVG(width, height)
    drawer.drawOptions().clearBackground = False
    require("rdkit.Chem.rdDepictor", "molecules").Compute2DCoords(mol)
    drawing.PrepareAndDrawMolecule(
        drawer, mol, highlightAtoms=list(atom_colors), highlightAtomColors=atom_colors,
        highlightBonds=list(bond_colors), highlightBondColors=bond_colors,
        highlightAtomRadii={i: 0.45 if not bond_colors else 0.35 for i in atom_colors},
    )  # fmt: skip
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    return text[text.index("<svg") :]


def draw_structure(numbers: np.ndarray, positions: np.ndarray, width: int = 220, height: int = 160) -> str:
    """Balls and sticks, seen along the axis in which the structure is thinnest, as an ``<svg>`` element.

    Args:
        numbers: ``[N]`` atomic numbers.
        positions: ``[N, 3]`` in angstrom; bonds across the boundary of a cell are not drawn.
    """
    table = require("rdkit.Chem", "molecules").GetPeriodicTable()
    radii = np.array([table.GetRcovalent(int(z)) for z in numbers])
    view = _principal_axes(positions)
    span = np.ptp(view[:, :2], axis=0).max(initial=0.0)
    scale = 0.8 * min(width, height) / max(span + 1.0, 3.0)
    x, y = view[:, 0] * scale + width / 2, view[:, 1] * scale + height / 2
    shapes = [(min(view[i, 2], view[j, 2]), _stick(x[[i, j]], y[[i, j]])) for i, j in _bonds(positions, radii)]
    shapes += [(view[i, 2], _ball(x[i], y[i], radii[i] * scale * 0.45, int(z))) for i, z in enumerate(numbers)]
    body = "".join(text for _, text in sorted(shapes, key=lambda shape: shape[0]))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}px' height='{height}px' "
        f"viewBox='0 0 {width} {height}'>{body}</svg>"
    )


def _principal_axes(positions: np.ndarray) -> np.ndarray:
    """Positions along their principal axes, the widest first, with the middle of their box at the origin."""
    axes = np.linalg.svd(positions - positions.mean(axis=0), full_matrices=True)[2]
    view = positions @ axes.T
    return view - (view.max(axis=0) + view.min(axis=0)) / 2


def _bonds(positions: np.ndarray, radii: np.ndarray) -> list[tuple[int, int]]:
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    near = distance < BOND_FACTOR * (radii[:, None] + radii[None])
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)]


def _stick(x: np.ndarray, y: np.ndarray) -> str:
    return f"<path d='M{x[0]:.1f} {y[0]:.1f}L{x[1]:.1f} {y[1]:.1f}' stroke='#909090' stroke-width='3'/>"


def _ball(x: float, y: float, radius: float, z: int) -> str:
    color = COLORS.get(z, OTHER_COLOR)
    return (
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{max(radius, 2.0):.1f}' fill='{color}' stroke='#404040'>"
        f"<title>{symbol(z)}</title></circle>"
    )
