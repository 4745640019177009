"""What a report shows of pairs: attention over residues and atoms as SVG text, and the bars of single epitopes."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from geoattn._optional import require
from geoattn.domains.molecules.pictures import STRONG, draw_weights
from geoattn.domains.tcr import smiles_tokens
from geoattn.domains.tcr.epitope_graph import peptide
from geoattn.domains.tcr.records import Epitope, Receptor
from geoattn.errors import ShapeError

CELL, ROW = 17, 40


def draw_receptor(receptor: Receptor, weights: np.ndarray, caption: str = "") -> str:
    """The CDR3 in cells coloured by attention, as an ``<svg>`` element.

    The darkest cell of a picture has the largest weight in the CDR3. For a full chain, what the V segment, the CDR3
    and the J segment get is written beside it.

    Args:
        receptor: whose chain was read.
        weights: ``[L]`` not negative, one per residue of the CDR3 or of the full chain.
        caption: written above.

    Raises:
        ShapeError: as many weights as neither has residues.
    """
    length, start, stop = len(receptor.cdr3), receptor.start, receptor.start + len(receptor.cdr3)
    if len(weights) == length:
        return draw_residues(receptor.cdr3, weights, caption)
    if len(weights) != len(receptor.full):
        raise ShapeError("weights", f"{len(weights)}", f"{length} (CDR3) or {len(receptor.full)} (full chain)")
    total = weights.sum() or 1.0
    parts = {"V": weights[:start], "CDR3": weights[start:stop], "J": weights[stop:]}
    shares = ", ".join(f"{name} {100 * part.sum() / total:.0f} %" for name, part in parts.items())
    return draw_residues(receptor.cdr3, weights[start:stop], f"{caption}  {shares}".strip())


def draw_residues(sequence: str, weights: np.ndarray, caption: str = "") -> str:
    """Letters in cells coloured by ``weights [L]``, relative to the largest, as an ``<svg>`` element."""
    if len(weights) != len(sequence):
        raise ShapeError("weights", f"{len(weights)}", f"{len(sequence)}, one per residue of {sequence}")
    cells = []
    for i, (letter, part) in enumerate(zip(sequence, _relative(weights), strict=True)):
        x, ink = i * CELL, "#ffffff" if part > 0.6 else "#1f2933"
        cells.append(
            f"<rect x='{x + 0.5}' y='18' width='{CELL - 1}' height='20' fill='{_hex(part)}' stroke='#c5ccd3'/>"
            f"<text x='{x + CELL / 2}' y='33' font-size='13' text-anchor='middle' fill='{ink}'>{escape(letter)}</text>"
        )
    width = max(len(sequence) * CELL, 7 * len(caption))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}px' height='{ROW}px' viewBox='0 0 {width} {ROW}' "
        f"font-family='sans-serif'><text x='0' y='12' font-size='11' fill='#5b6770'>{escape(caption)}</text>"
        f"{''.join(cells)}</svg>"
    )


def draw_epitope(epitope: Epitope, weights: np.ndarray, width: int = 460, height: int = 260) -> str:
    """The structural formula of a peptide, its atoms coloured by attention, as an ``<svg>`` element.

    Args:
        epitope: the peptide.
        weights: as `atom_weights` takes them.
        width, height: in pixels.
    """
    return draw_weights(peptide(epitope), atom_weights(epitope, weights), width=width, height=height)


def atom_weights(epitope: Epitope, weights: np.ndarray) -> np.ndarray:
    """``[N]`` attention of each atom of `peptide`, from that of what the model read.

    Args:
        epitope: the peptide.
        weights: one per atom (graph), per token of the canonical SMILES, or per residue (amino acids). A token that
            is no atom counts for the atom before it; the weight of a residue is shared by its atoms.

    Raises:
        ShapeError: another number of weights.
    """
    mol, weights = peptide(epitope), np.asarray(weights, dtype=np.float64)
    if len(weights) == mol.GetNumAtoms():
        return weights
    found = np.zeros(mol.GetNumAtoms())
    if len(weights) == len(epitope.sequence):
        residue = np.array([atom.GetPDBResidueInfo().GetResidueNumber() - 1 for atom in mol.GetAtoms()])
        return weights[residue] / np.bincount(residue)[residue]
    tokens = smiles_tokens.split(require("rdkit.Chem", "tcr").MolToSmiles(mol))
    if len(weights) != len(tokens):
        known = f"{len(found)} (atoms), {len(tokens)} (SMILES tokens) or {len(epitope.sequence)} (residues)"
        raise ShapeError("weights", f"{len(weights)}", known)
    order = list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])  # which atom each atom of the SMILES is
    number = np.cumsum([token[0].isalpha() or token[0] == "[" for token in tokens]) - 1
    np.add.at(found, np.array(order)[number], weights)
    return found


def epitope_bars(table: pd.DataFrame, most: int = 25) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names with counts, ROC AUCs and intervals of the epitopes with the most pairs, for `geoattn.report.figures.bars`.

    Args:
        table: of `geoattn.domains.tcr.metrics.per_epitope`; epitopes of one class only are left out.
        most: how many.

    Returns:
        ``[n]`` names such as ``"GILGFVFTL (45 + 61, new)"``: positive + negative pairs, and whether the epitope was
        not in training; ``[n]`` and ``[n, 2]``, the best first.
    """
    known = table[table["roc_auc"].notna()]
    size = known["n_pos"] + known["n_neg"]
    chosen = known.loc[size.sort_values(ascending=False, kind="stable").index[:most]]
    chosen = chosen.sort_values("roc_auc", ascending=False, kind="stable")
    names = [f"{row.epitope} ({row.n_pos} + {row.n_neg}{'' if row.seen else ', new'})" for row in chosen.itertuples()]
    return names, chosen["roc_auc"].to_numpy(float), chosen[["roc_auc_low", "roc_auc_high"]].to_numpy(float)


def _relative(weights: np.ndarray) -> np.ndarray:
    """Between 0 and 1, the largest 1."""
    return np.asarray(weights, dtype=np.float64) / (np.max(weights, initial=0.0) or 1.0)


def _hex(part: float) -> str:
    return "#" + "".join(f"{round(255 * (1 + (end - 1) * part)):02x}" for end in STRONG)
