"""What a report draws of drugs: which atoms are coloured, and the table of motifs, by hand."""

import re

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="needs geoattn[synergy]")

from geoattn.domains.synergy.pictures import draw_atoms, draw_motifs, motif_table
from geoattn.domains.synergy.records import Drug
from geoattn.errors import ShapeError

TOLUENE = Drug("toluene", "Cc1ccccc1")  # atom 0 is the methyl carbon; motifs: the ring, then c-C with atoms 0 and 1
NAPHTHOL = Drug("naphthol", "Oc1ccc2ccccc2c1")  # two rings and c-O
DARKEST = "#0071B1"


def coloured(svg):
    """Atom -> colour, of those that have one."""
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    return {
        int(atom): color for atom, color in re.findall(r"<ellipse[^>]*class='atom-(\d+)'\s*style='fill:(#\w+)", svg)
    }


def test_the_atom_with_the_largest_weight_is_darkest():
    colors = coloured(draw_atoms(TOLUENE, np.array([0.5, 0.25, 0.0, 0.25, 0.0, 0.0, 0.01])))
    assert set(colors) == {0, 1, 3}  # paler ones are left out
    assert colors[0] == DARKEST and colors[1] == colors[3] != DARKEST


def test_weights_of_atoms_are_relative():
    weights = np.array([0.5, 0.25, 0.0, 0.25, 0.0, 0.0, 0.0])
    assert draw_atoms(TOLUENE, weights) == draw_atoms(TOLUENE, 2 * weights)
    assert coloured(draw_atoms(TOLUENE, np.zeros(7))) == {}


def test_an_atom_of_two_motifs_has_the_larger_weight():
    colors = coloured(draw_motifs(TOLUENE, np.array([0.2, 0.8])))
    assert set(colors) == set(range(7))
    assert colors[0] == colors[1] == DARKEST and len({colors[atom] for atom in range(2, 7)}) == 1
    assert colors[2] != DARKEST
    assert set(coloured(draw_motifs(TOLUENE, np.array([0.0, 1.0])))) == {0, 1}
    assert set(coloured(draw_motifs(TOLUENE, np.array([1.0, 0.0])))) == {1, 2, 3, 4, 5, 6}


def test_bonds_have_the_colour_of_their_motif():
    def bonds(weights):
        svg = draw_motifs(TOLUENE, np.array(weights))
        return {int(b) for b in re.findall(rf"class='bond-(\d+)[^>]*style='[^']*{DARKEST}", svg)}

    assert bonds([0.0, 1.0]) == {0} and bonds([1.0, 0.0]) == {1, 2, 3, 4, 5, 6}


def test_size_of_a_picture():
    svg = draw_atoms(TOLUENE, np.ones(7), width=120, height=90)
    assert "width='120px' height='90px'" in svg


def test_motifs_ranked_by_hand():
    """The ring of toluene carries 3/4 where 1/2 were even; those of naphthol together 1/2 where 2/3 were even."""
    table = motif_table([TOLUENE, NAPHTHOL], [np.array([0.75, 0.25]), np.array([0.3, 0.2, 0.5])]).set_index("motif")
    assert table.loc["c1ccccc1", "drugs"] == 2 and table.loc["cC", "drugs"] == table.loc["cO", "drugs"] == 1
    assert table["share"].to_dict() == pytest.approx({"c1ccccc1": (0.75 + 0.5) / 2, "cC": 0.25, "cO": 0.5})
    even = {"c1ccccc1": (0.75 / 0.5 + 0.5 / (2 / 3)) / 2, "cC": 0.25 / 0.5, "cO": 0.5 / (1 / 3)}
    assert table["times_even"].to_dict() == pytest.approx(even)
    assert table.index.tolist() == ["cO", "c1ccccc1", "cC"]


def test_no_drug():
    table = motif_table([], [])
    assert list(table) == ["motif", "drugs", "share", "times_even"] and table.empty


@pytest.mark.parametrize("weights", [[], [1.0], [0.2, 0.3, 0.5]])
def test_another_number_of_weights(weights):
    with pytest.raises(ShapeError, match="2, one per motif"):
        draw_motifs(TOLUENE, np.array(weights))
    with pytest.raises(ShapeError, match="2, one per motif"):
        motif_table([TOLUENE], [np.array(weights)])
    with pytest.raises(ShapeError, match="expected 7 and 7"):
        draw_atoms(TOLUENE, np.array(weights))
