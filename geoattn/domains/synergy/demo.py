r"""A screen that geoattn makes itself: data for the demo, where the answer is known and no download is needed.

Each drug has one of two kinds of motif, four chemical groups of each kind, on a scaffold that says nothing. Two drugs
of different kind are synergistic, two of the same kind antagonistic, the more so the more a cell line expresses a
programme of eight genes. Half of the drugs on every scaffold are of each kind, so that a drug's own average
says nothing: whoever does not read molecules has an expected ROC AUC of 1/2 at most for pairs with a drug that training
has not.

A surface is Bliss independence of two Hill curves plus the interaction, in wells of fractional inhibition:

.. math:: f_{ab} = f_a + f_b - f_a f_b + 4\, s\, u_c\, f_a (1 - f_a) f_b (1 - f_b) + \epsilon

with s = 1 for synergy and -1 for antagonism, and u_c in (0, 1) the programme of the cell line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from geoattn.domains.synergy.responses import Response

SCAFFOLDS = (
    "c1ccc(cc1){}", "C1CCC(CC1){}", "c1cnc(nc1){}", "CC(C)CC{}", "c1ccc2c(c1)cccc2{}", "O=C1CCCN1C{}",
)  # fmt: skip
MOTIFS = (
    ("S(=O)(=O)N", "S(=O)(=O)NC", "S(=O)(=O)C", "S(=O)(=O)N(C)C"),
    ("C(=O)O", "CC(=O)O", "C(=O)NO", "C(=O)OC"),
)
"""Two kinds: sulfonyl groups, and carboxylic acids with their esters."""
TISSUES = ("lung", "skin", "colon", "ovary")
PROGRAMME = 8
DOSES = (0.1, 0.5, 2.5)
NOISE = 0.01


@dataclass(frozen=True)
class Screen:
    """What `demo_screen` makes.

    Attributes:
        drugs: name -> SMILES.
        kind: name -> 0 or 1, the kind of its motif.
        genes: symbols; the programme are the first eight.
        cells: name -> TPM ``[G]``.
        tissue: name -> tissue.
        programme: name -> u in (0, 1).
        responses: wells of fractional inhibition, single agents and pairs.
    """

    drugs: dict[str, str]
    kind: dict[str, int]
    genes: list[str]
    cells: dict[str, np.ndarray]
    tissue: dict[str, str]
    programme: dict[str, float]
    responses: list[Response]


def demo_screen(num_cells: int = 12, num_genes: int = 60, seed: int = 0) -> Screen:
    """48 drugs in ``num_cells`` cell lines: a quarter of the pairs in each, drawn, with all single agents.

    Args:
        num_cells: cell lines, in four tissues.
        num_genes: in the table of expression, of which eight matter.
        seed: the same seed gives the same screen.
    """
    rng = np.random.default_rng(seed)
    drugs: dict[str, str] = {}
    kind: dict[str, int] = {}
    for scaffold in SCAFFOLDS:
        for which, motifs in enumerate(MOTIFS):
            for motif in motifs:
                name = f"D{len(drugs):02d}"
                drugs[name], kind[name] = scaffold.format(motif), which
    genes = [f"PRG{i}" for i in range(PROGRAMME)] + [f"GEN{i}" for i in range(num_genes - PROGRAMME)]
    cells, tissue, programme = {}, {}, {}
    for number in range(num_cells):
        name = f"LINE-{number:02d}"
        level = rng.normal(3.0, 1.5, size=num_genes).clip(0)
        wanted = rng.uniform(0.1, 0.9)
        level[:PROGRAMME] = (6 * wanted + rng.normal(0, 0.3, size=PROGRAMME)).clip(0)
        cells[name], tissue[name], programme[name] = 2**level - 1, TISSUES[number % len(TISSUES)], float(wanted)
    strength = {name: rng.uniform(-0.6, 0.6) for name in drugs}
    responses: list[Response] = []
    for cell, u in programme.items():
        shift = rng.normal(0, 0.3)
        alone = {d: [_hill(dose, strength[d] + shift) for dose in DOSES] for d in drugs}
        for drug, curve in alone.items():
            responses += [
                Response(drug, "", cell, dose, 0.0, f + rng.normal(0, NOISE))
                for dose, f in zip(DOSES, curve, strict=True)
            ]
        pairs = list(combinations(drugs, 2))
        for i in sorted(rng.choice(len(pairs), len(pairs) // 4, replace=False)):
            a, b = pairs[i] if rng.random() < 0.5 else pairs[i][::-1]
            sign = 1 if kind[a] != kind[b] else -1
            responses += [
                Response(a, b, cell, dose_a, dose_b, _together(f_a, f_b, sign * u) + rng.normal(0, NOISE))
                for dose_a, f_a in zip(DOSES, alone[a], strict=True)
                for dose_b, f_b in zip(DOSES, alone[b], strict=True)
            ]
    return Screen(drugs, kind, genes, cells, tissue, programme, responses)


def write_demo(folder: str | Path, screen: Screen) -> None:
    """``responses.csv`` (with one row per well), ``drugs.csv`` and ``expression.csv`` (TPM) in ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wells = [(r.drug_a, r.drug_b, r.cell, f"{r.dose_a:g}", f"{r.dose_b:g}", f"{r.value:.4f}") for r in screen.responses]
    _write(folder / "responses.csv", ["drug_a", "drug_b", "cell_line", "dose_a", "dose_b", "inhibition"], wells)
    _write(folder / "drugs.csv", ["name", "smiles"], list(screen.drugs.items()))
    rows = [[name, screen.tissue[name], *(f"{x:.2f}" for x in tpm)] for name, tpm in screen.cells.items()]
    _write(folder / "expression.csv", ["cell_line", "tissue", *screen.genes], rows)


def _hill(dose: float, log_potency: float) -> float:
    """Fractional inhibition; the half effect is at 10**-log_potency."""
    return 0.9 / (1 + math.exp(-1.5 * (math.log(dose) + log_potency * math.log(10))))


def _together(f_a: float, f_b: float, interaction: float) -> float:
    return f_a + f_b - f_a * f_b + 4 * interaction * f_a * (1 - f_a) * f_b * (1 - f_b)


def _write(path: Path, header: list[str], rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
