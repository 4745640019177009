"""What a report shows of drugs: attention over atoms and over motifs on structural formulae, and the motifs ranked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from geoattn.domains.molecules.pictures import draw_weights
from geoattn.domains.synergy.featurize import molecule_of
from geoattn.domains.synergy.motifs import MotifGraph, Scheme, motif_graph
from geoattn.domains.synergy.records import Drug
from geoattn.errors import ShapeError


def draw_atoms(drug: Drug, weights: np.ndarray, width: int = 300, height: int = 220) -> str:
    """The structural formula, its atoms coloured by attention, as an ``<svg>`` element.

    Args:
        drug: the molecule.
        weights: ``[N]`` not negative, in the order of `molecule_of`; the darkest atom has the largest.
        width, height: in pixels.
    """
    return draw_weights(molecule_of(drug), weights, width=width, height=height)


def draw_motifs(drug: Drug, weights: np.ndarray, scheme: Scheme = "rings", width: int = 300, height: int = 220) -> str:
    """The structural formula, its motifs coloured by attention, as an ``<svg>`` element.

    Args:
        drug: the molecule.
        weights: ``[M]`` not negative, in the order of `motif_graph`. An atom of several motifs has the colour of that
            with the largest.
        scheme: how the molecule is taken apart.
        width, height: in pixels.

    Raises:
        ShapeError: another number of weights.
    """
    mol = molecule_of(drug)
    graph = motif_graph(mol, scheme)
    _check(graph, weights)
    atoms = np.zeros(mol.GetNumAtoms())
    np.maximum.at(atoms, graph.atom, np.asarray(weights, dtype=np.float64)[graph.motif])
    members = [set(graph.atom[graph.motif == m].tolist()) for m in range(len(graph.keys))]
    bonds = np.zeros(mol.GetNumBonds())
    for bond in mol.GetBonds():
        ends = {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
        bonds[bond.GetIdx()] = max((weights[m] for m, atoms_of in enumerate(members) if ends <= atoms_of), default=0.0)
    return draw_weights(mol, atoms, bonds, width=width, height=height)


def motif_table(drugs: Sequence[Drug], weights: Sequence[np.ndarray], scheme: Scheme = "rings") -> pd.DataFrame:
    """The motifs of some drugs, by how much attention they carry.

    Args:
        drugs: distinct ones.
        weights: ``[M]`` per drug, as `draw_motifs` takes them; each sums to 1.
        scheme: how molecules are taken apart.

    Returns:
        ``motif`` (SMILES, lower case is aromatic), ``drugs`` that have it, ``share`` of the attention in one of these,
        and ``times_even``: 2 where the motifs of a drug carry twice as much as if all were looked at alike. Sorted by
        the last.
    """
    rows = []
    for drug, of_drug in zip(drugs, weights, strict=True):
        graph = motif_graph(molecule_of(drug), scheme)
        _check(graph, of_drug)
        table = pd.DataFrame({"motif": graph.keys, "share": np.asarray(of_drug, dtype=np.float64), "count": 1})
        table = table.groupby("motif", sort=False).sum()
        even = table["count"] / len(graph.keys)
        rows.append(table.assign(times_even=table["share"] / even, drugs=1).reset_index())
    if not rows:
        return pd.DataFrame(columns=["motif", "drugs", "share", "times_even"])
    found = pd.concat(rows).groupby("motif", sort=False)
    table = found.agg(drugs=("drugs", "sum"), share=("share", "mean"), times_even=("times_even", "mean"))
    return table.sort_values("times_even", ascending=False, kind="stable").reset_index()


def _check(graph: MotifGraph, weights: np.ndarray) -> None:
    if len(weights) != len(graph.keys):
        raise ShapeError("weights", f"{len(weights)}", f"{len(graph.keys)}, one per motif")
