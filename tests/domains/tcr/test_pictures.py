import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from geoattn.domains.tcr.epitope_graph import peptide, peptide_smiles
from geoattn.domains.tcr.metrics import per_epitope
from geoattn.domains.tcr.pictures import atom_weights, draw_epitope, draw_receptor, draw_residues, epitope_bars
from geoattn.domains.tcr.records import Epitope, Receptor
from geoattn.domains.tcr.smiles_tokens import split
from geoattn.errors import ShapeError
from geoattn.report import figures
from geoattn.report.svg import figure_svg, inline_svg

CHAIN = Receptor("CASSF", full="GAVCASSFGG", start=3)


def elements(svg, tag):
    return [element for element in ET.fromstring(svg).iter() if element.tag.endswith(tag)]


def test_letters_are_coloured_by_weight():
    svg = draw_residues("CASS", np.array([0.0, 0.1, 0.2, 0.4]), "a < b")
    assert [text.text for text in elements(svg, "text")] == ["a < b", "C", "A", "S", "S"]
    fills = [rect.get("fill") for rect in elements(svg, "rect")]
    assert fills[0] == "#ffffff" and fills[3] == "#0072b2"
    brightness = [int(fill[1:3], 16) for fill in fills]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 4
    assert "CASS"[0] in inline_svg(svg, "x", "attention")


def test_no_attention_at_all_is_white():
    assert {rect.get("fill") for rect in elements(draw_residues("CAS", np.zeros(3)), "rect")} == {"#ffffff"}
    assert elements(draw_residues("", np.zeros(0)), "rect") == []


def test_a_full_chain_shows_its_cdr3_and_the_shares():
    weights = np.array([0.1, 0.1, 0.1, 0, 0.5, 0, 0, 0, 0.1, 0.1])
    svg = draw_receptor(CHAIN, weights, "receptor 1")
    caption, *letters = [text.text for text in elements(svg, "text")]
    assert caption == "receptor 1  V 30 %, CDR3 50 %, J 20 %" and "".join(letters) == "CASSF"
    assert [rect.get("fill") for rect in elements(svg, "rect")][1] == "#0072b2"
    assert draw_receptor(CHAIN, weights[3:8], "x") == draw_residues("CASSF", weights[3:8], "x")


def test_tokens_of_smiles_count_for_their_atoms():
    epitope = Epitope("GILGFVFTL")
    mol, tokens = peptide(epitope), split(peptide_smiles(epitope))
    elements_of = [atom.GetSymbol() for atom in mol.GetAtoms()]
    for element in "CNO":
        hit = [token.strip("[]@H").upper() == element for token in tokens]
        found = atom_weights(epitope, np.array(hit, dtype=float))
        assert found.tolist() == [float(symbol == element) for symbol in elements_of]
    weights = np.random.default_rng(0).random(len(tokens))
    assert atom_weights(epitope, weights).sum() == pytest.approx(weights.sum())


def test_weights_of_residues_are_shared_by_their_atoms():
    found = atom_weights(Epitope("GA"), np.array([0.25, 0.75]))
    residue = [atom.GetPDBResidueInfo().GetResidueName() for atom in peptide(Epitope("GA")).GetAtoms()]
    assert found[[name == "GLY" for name in residue]] == pytest.approx([0.25 / 4] * 4)
    assert found.sum() == pytest.approx(1)


def test_a_formula_with_attention():
    epitope = Epitope("GILGFVFTL")
    number = Chem.MolFromSequence(epitope.sequence).GetNumAtoms()
    weights = np.zeros(number)
    weights[3] = 1.0
    plain, one = (draw_epitope(epitope, w, width=300) for w in (np.zeros(number), weights))
    assert one.startswith("<svg") and "width='300px'" in one
    assert len(elements(plain, "ellipse")) == 0 and len(elements(one, "ellipse")) == 1
    assert re.search("#007[12]B[12]", one.upper()), "the same blue"


def test_wrong_numbers_of_weights():
    with pytest.raises(ShapeError, match=r"expected 5 \(CDR3\) or 10 \(full chain\)"):
        draw_receptor(CHAIN, np.ones(7))
    with pytest.raises(ShapeError, match=r"got 3, expected \d+ \(atoms\), \d+ \(SMILES tokens\) or 2 \(residues\)"):
        atom_weights(Epitope("GA"), np.ones(3))
    with pytest.raises(ShapeError, match="one per residue of CAS"):
        draw_residues("CAS", np.ones(2))


def test_bars_of_single_epitopes():
    label, score = [1, 0, 1, 0, 1, 0, 0, 1], [0.9, 0.1, 0.1, 0.9, 0.5, 0.5, 0.1, 0.2]
    table = per_epitope(label, score, list("AABBCCCD"), [1, 0], list("AC"), num_bootstrap=20)
    names, values, intervals = epitope_bars(table)
    assert names == ["A (1 + 1)", "C (1 + 2)", "B (1 + 1, new)"]
    assert values.tolist() == [1.0, 0.75, 0.0] and intervals.shape == (3, 2)
    assert epitope_bars(table, most=1)[0] == ["C (1 + 2)"]
    svg = figure_svg(figures.bars(names, values, intervals, label="ROC AUC", highlight=None, reference=0.5))
    assert "B (1 + 1, new)" in svg
    assert epitope_bars(pd.DataFrame(columns=table.columns))[0] == []
