"""Molecules that geoattn makes itself, with targets that RDKit computes: data for the demo, without a download."""

from __future__ import annotations

import random

import pandas as pd

from geoattn._optional import require

CORES = (
    "c1cc({})ccc1{}", "c1c({})cccc1{}", "c1ccc({})c({})c1", "c1cc({})ncc1{}", "c1c({})ncnc1{}", "c1cc({})oc1{}",
    "c1cc({})sc1{}", "c1c({})[nH]cc1{}", "C1CC({})CCC1{}", "C1CC({})CC1{}", "C1CN({})CCN1{}", "C1CC({})OCC1{}",
    "C1CCN({})C(C1){}", "c1cc2cc({})ccc2cc1{}", "c1cc2c(cc1{})OCO2", "c1nc2ccc({})cc2n1{}", "c1cc2c(cc1{})CCC2{}",
)  # fmt: skip
"""Rings with places (``{}``) for groups; a place may stay hydrogen."""
LINKERS = (
    "C{}", "CC{}", "O{}", "OC{}", "N{}", "NC{}", "C(=O)N{}", "C(=O)O{}", "NC(=O){}", "OC(=O){}", "S{}", "S(=O)(=O)N{}",
    "C=C{}", "C#C{}", "C(C){}", "N(C){}", "C(O){}",
)  # fmt: skip
GROUPS = (
    "C", "CC", "C(C)C", "C(C)(C)C", "O", "OC", "OCC", "N", "NC", "N(C)C", "F", "Cl", "Br", "C#N", "C(F)(F)F",
    "C(=O)O", "C(=O)OC", "C(=O)N", "[N+](=O)[O-]", "S(=O)(=O)C", "C(=O)C", "CO", "CCO", "SC",
)  # fmt: skip


def make_demo_table(n: int = 800, seed: int = 0) -> pd.DataFrame:
    """``n`` different molecules with two targets: rings, linkers and groups put together at random.

    Args:
        n: number of molecules; up to about 20,000 take some seconds per thousand.
        seed: the same seed gives the same molecules.

    Returns:
        Columns ``id``, ``smiles`` (canonical), ``logp`` (Crippen's octanol-water log P: sums of atom contributions,
        Wildman & Crippen 1999) and ``tpsa`` (Ertl's topological polar surface area, square angstrom). Both are
        computed from the structure by RDKit: exact, and no measurement.
    """
    chem = require("rdkit.Chem", "molecules")
    crippen = require("rdkit.Chem.Crippen", "molecules")
    polar = require("rdkit.Chem.rdMolDescriptors", "molecules")
    draw = random.Random(seed)
    rows: dict[str, tuple[float, float]] = {}
    with require("rdkit.rdBase", "molecules").BlockLogs():
        while len(rows) < n:
            mol = chem.MolFromSmiles(_assemble(draw))
            if mol is not None:
                rows[chem.MolToSmiles(mol)] = (crippen.MolLogP(mol), polar.CalcTPSA(mol))
    table = pd.DataFrame([(smiles, *values) for smiles, values in rows.items()], columns=["smiles", "logp", "tpsa"])
    table.insert(0, "id", [f"demo-{number:05d}" for number in range(len(table))])
    return table.round({"logp": 4, "tpsa": 2})


def _assemble(draw: random.Random) -> str:
    """A core with a group, nothing, or a linker to a second core in each of its places."""
    core = draw.choice(CORES)
    places = [_substituent(draw, depth=0) for _ in range(core.count("{}"))]
    return core.format(*places).replace("()", "")


def _substituent(draw: random.Random, depth: int) -> str:
    chance = draw.random()
    if chance < 0.2:
        return ""
    if chance < 0.6 or depth == 2:
        return draw.choice(GROUPS)
    linker = draw.choice(LINKERS)
    if chance < 0.75 and depth == 0:
        ring = draw.choice(CORES).replace("1", "3").replace("2", "4")  # ring numbers of its own
        return linker.format(ring.format(*(_substituent(draw, 2) for _ in range(ring.count("{}"))))).replace("()", "")
    return linker.format(_substituent(draw, depth + 1)).replace("()", "")
