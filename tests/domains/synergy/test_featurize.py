"""Features of drugs: the same for every spelling and in every batch, fitted to training drugs alone, never an error."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from geoattn.domains.records import RecordError
from geoattn.domains.synergy import featurize
from geoattn.domains.synergy.batch import fingerprints
from geoattn.domains.synergy.featurize import DrugBatch, DrugFeaturizer, make_preprocess, molecule_of, sizes
from geoattn.domains.synergy.records import Drug
from geoattn.errors import InputError

pytest.importorskip("rdkit")

SMILES = {
    "temozolomide": "Cn1nnc2c(C(N)=O)ncn2c1=O",
    "fluorouracil": "O=c1[nH]cc(F)c(=O)[nH]1",
    "vorinostat": "O=C(CCCCCCC(=O)Nc1ccccc1)NO",
    "bortezomib": "CC(C)C[C@H](NC(=O)[C@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "phenol": "Oc1ccccc1",
    "toluene": "Cc1ccccc1",
}
DRUGS = [Drug(name, smiles) for name, smiles in SMILES.items()]
CISPLATIN = Drug("cisplatin", "[NH3][Pt]([NH3])(Cl)Cl", metal=True)
WATER = Drug("water", "O")
PREPROCESS = make_preprocess(DRUGS)


def part(batch: DrugBatch, i: int) -> dict[str, torch.Tensor]:
    """What a batch says of its i-th drug."""
    atoms, motifs = (slice(*ptr[i : i + 2].tolist()) for ptr in (batch.atom_ptr, batch.motif_ptr))
    own = {}
    for name, first in (("edge_index", atoms), ("motif_edge_index", motifs), ("member", motifs)):
        index = getattr(batch, name)
        inside = (index[1] >= first.start) & (index[1] < first.stop)
        start = torch.tensor([[atoms.start], [motifs.start]]) if name == "member" else first.start
        own[name] = index[:, inside] - start
        if name == "edge_index":
            own["edge_attr"] = batch.edge_attr[inside]
    own |= {"x": batch.x[atoms], "pos": batch.pos[atoms], "motif": batch.motif[motifs]}
    return own | {name: getattr(batch, name)[i] for name in ("has_pos", "fingerprint", "identity")}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_batch_is_its_drugs_one_after_the_other():
    together = DrugFeaturizer(PREPROCESS)([*DRUGS, CISPLATIN, WATER, DRUGS[0]])
    assert together.num_drugs == 9
    for i, drug in enumerate([*DRUGS, CISPLATIN, WATER, DRUGS[0]]):
        assert_same(part(together, i), part(DrugFeaturizer(PREPROCESS)([drug]), 0))


def test_two_spellings_of_a_molecule_are_one():
    from rdkit import Chem

    for drug in DRUGS:
        mol = Chem.MolFromSmiles(drug.smiles)
        other = replace(drug, smiles=Chem.MolToSmiles(mol, doRandom=True, rootedAtAtom=mol.GetNumAtoms() - 1))
        assert other.smiles != drug.smiles
        one, two = (part(DrugFeaturizer(PREPROCESS)([d]), 0) for d in (drug, other))
        del one["identity"], two["identity"]  # the name of a drug without InChIKey is its SMILES
        assert_same(one, two)


def test_edges_are_bonds_and_near_pairs():
    batch = DrugFeaturizer(PREPROCESS)(DRUGS)
    source, target = batch.edge_index
    assert (target.diff() >= 0).all() and (source != target).all()
    assert len(set(zip(source.tolist(), target.tolist(), strict=True))) == len(source)
    distance = (batch.pos[source] - batch.pos[target]).norm(dim=1)
    bond = batch.edge_attr[:, -1] == 1
    assert distance.max() < 5 and (distance[~bond] > 2).all()
    assert distance[bond].min() > 1.1 and distance[bond].max() < 1.9
    assert not batch.edge_attr[~bond].any() and (batch.edge_attr[bond][:, :-1].sum(1) > 0).all()
    assert int(bond.sum()) == 2 * sum(molecule_of(drug).GetNumBonds() for drug in DRUGS)
    near = torch.cdist(batch.pos, batch.pos) < 5
    same = torch.arange(len(DRUGS)).repeat_interleave(batch.atom_ptr.diff())
    assert len(source) == int((near & (same[:, None] == same)).sum()) - len(batch.pos)
    bonds = DrugFeaturizer({**PREPROCESS, "cutoff": 0.5})(DRUGS)  # stay, however short the cutoff
    assert torch.equal(bonds.edge_index, batch.edge_index[:, bond])
    assert torch.equal(bonds.edge_attr, batch.edge_attr[bond])


def test_positions_are_real_geometry():
    batch = DrugFeaturizer(PREPROCESS)(DRUGS)
    assert batch.has_pos.all()
    for i, drug in enumerate(DRUGS):
        pos = part(batch, i)["pos"]
        assert len(pos) == molecule_of(drug).GetNumHeavyAtoms()
        assert pos.mean(0).abs().max() < 1e-5 and torch.pdist(pos).min() > 1.1
    benzene = part(batch, 4)["pos"]
    assert torch.linalg.svdvals(benzene)[2] < 0.05  # flat


@pytest.mark.parametrize(
    ("drug", "why"),
    [
        (CISPLATIN, "a metal complex"),
        (Drug("long", "C" * 121), "too large"),
        (Drug("impossible", "C1CC2CC1C=C2C#CC1=CC2CC1C#C2"), "distance geometry fails"),
    ],
)
def test_without_positions_bonds_are_left(drug, why, monkeypatch):
    if why == "distance geometry fails":
        monkeypatch.setattr(featurize, "embed", lambda mol, seed: (_ for _ in ()).throw(RecordError("a", "b", "c")))
    batch = DrugFeaturizer(PREPROCESS)([drug, DRUGS[0]] if why != "distance geometry fails" else [drug])
    own = part(batch, 0)
    assert not own["has_pos"] and not own["pos"].any()
    assert (own["edge_attr"][:, -1] == 1).all()
    assert own["edge_index"].shape[1] == 2 * molecule_of(drug).GetNumBonds()
    assert own["x"].sum() > 0 and len(own["motif"]) > 0


def test_embedding_is_left_out_where_nobody_wants_positions(monkeypatch):
    monkeypatch.setattr(featurize, "embed", None)
    batch = DrugFeaturizer(make_preprocess(DRUGS, positions=False))(DRUGS)
    assert not batch.has_pos.any() and (batch.edge_attr[:, -1] == 1).all()


def test_preprocess_is_fitted_to_its_drugs_alone():
    assert PREPROCESS == json.loads(json.dumps(PREPROCESS)) == make_preprocess(DRUGS[::-1])
    assert make_preprocess([*DRUGS, *DRUGS]) == PREPROCESS
    assert PREPROCESS["motifs"]["keys"] == ["c1ccccc1", "c=O"]
    tautomers = [Drug("one", "Oc1ccccn1", key="K"), Drug("other", "O=c1cccc[nH]1", key="K")]
    assert make_preprocess(tautomers, min_count=1) == make_preprocess(tautomers[::-1], min_count=1)
    assert make_preprocess(tautomers)["drugs"] == ["K"]
    assert len(make_preprocess(DRUGS, min_count=1)["motifs"]["keys"]) > 5
    featurizer = DrugFeaturizer(PREPROCESS)
    featurizer([CISPLATIN, WATER])  # seen, and nothing learned from them
    assert featurizer.preprocess == make_preprocess(DRUGS)
    bits = len(PREPROCESS["bits"])
    assert sizes(PREPROCESS) == {
        "num_motifs": 3,
        "num_drugs": 7,
        "num_bits": bits,
        "atom_channels": 72,
        "bond_channels": 15,
    }


def test_unknown_drugs_and_motifs_have_code_0():
    batch = DrugFeaturizer(PREPROCESS)([*DRUGS, CISPLATIN])
    assert sorted(batch.identity[:-1].tolist()) == [1, 2, 3, 4, 5, 6]
    assert batch.identity[-1] == 0 and not part(batch, 6)["motif"].any()
    assert part(batch, 4)["motif"].tolist() == [1, 0]
    assert [PREPROCESS["drugs"][i - 1] for i in batch.identity[:-1]] == [drug.identity for drug in DRUGS]
    salt = Drug("other name", "Cc1ccccc1", key="", metal=False)
    assert DrugFeaturizer(PREPROCESS)([salt]).identity.item() == batch.identity[5]


def test_fingerprints_are_logarithms_of_the_counts_that_vary_in_training():
    counts = fingerprints([*DRUGS, CISPLATIN])
    batch = DrugFeaturizer(PREPROCESS)([*DRUGS, CISPLATIN])
    varies = counts[:-1].std(0) > 0
    assert PREPROCESS["bits"] == varies.nonzero().flatten().tolist()
    torch.testing.assert_close(batch.fingerprint.exp() - 1, counts[:, varies])
    assert (counts[-1] > 0).any() and not batch.fingerprint[-1].any()  # no drug of training has what cisplatin has
    pair = fingerprints(DRUGS[4:])
    constant = (pair[0] == pair[1]) & (pair[0] > 0)
    assert constant.any() and not constant[make_preprocess(DRUGS[4:])["bits"]].any()


def test_no_drug_and_one_atom():
    empty = DrugFeaturizer(PREPROCESS)([])
    assert empty.num_drugs == 0 and empty.x.shape == (0, 72) and empty.atom_ptr.tolist() == [0]
    assert empty.edge_attr.shape == (0, 15) and empty.fingerprint.shape[0] == 0
    water = DrugFeaturizer(PREPROCESS)([WATER])
    assert water.has_pos.all() and water.edge_index.shape == (2, 0) and water.member.tolist() == [[0], [0]]


def test_a_batch_moves_and_casts():
    batch = DrugFeaturizer(PREPROCESS)(DRUGS)
    double = batch.to(dtype=torch.float64)
    assert double.pos.dtype == double.x.dtype == torch.float64
    assert double.edge_index.dtype == torch.int64 and double.has_pos.dtype == torch.bool
    meta = batch.to("meta")
    assert all(getattr(meta, field.name).device.type == "meta" for field in fields(batch))


def test_drugs_are_embedded_once_and_forgotten_arrays_are_made_again(monkeypatch):
    featurizer = DrugFeaturizer(PREPROCESS)
    first = featurizer(DRUGS)
    monkeypatch.setattr(featurize, "embed", None)
    monkeypatch.setattr(featurize, "KEPT", 2)
    for _ in range(2):
        again = featurizer(DRUGS)
        assert len(featurizer._known) == 2
        assert all(torch.equal(getattr(first, f.name), getattr(again, f.name)) for f in fields(first))


@pytest.mark.slow
def test_processes_find_the_same_positions():
    many, one = DrugFeaturizer(PREPROCESS, processes=2), DrugFeaturizer(PREPROCESS)
    many.prepare(DRUGS)
    assert len(many._positions) == 6
    np.testing.assert_array_equal(many(DRUGS).pos.numpy(), one(DRUGS).pos.numpy())


def test_what_is_refused():
    with pytest.raises(InputError, match="expected .* of format 1"):
        DrugFeaturizer({"format": 2})
    with pytest.raises(InputError, match="cutoff: got 0"):
        make_preprocess(DRUGS, cutoff=0)
    with pytest.raises(RecordError, match="'C1CC': RDKit cannot read it"):
        DrugFeaturizer(PREPROCESS)([Drug("bad", "C1CC")])
