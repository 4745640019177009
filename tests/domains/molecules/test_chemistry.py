"""Parsing, standardisation, conformers, descriptors; and all of it in parallel and cached."""

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from geoattn.domains.molecules import cache as cache_module
from geoattn.domains.molecules import parallel
from geoattn.domains.molecules.cache import ChemistryCache
from geoattn.domains.molecules.chemistry import canonical_smiles, chemistry, parse_molecule, standardize
from geoattn.domains.molecules.conformers import embed
from geoattn.domains.molecules.descriptors import (
    LIMIT,
    descriptor_names,
    fit_normalization,
    normalize_descriptors,
    raw_descriptors,
)
from geoattn.domains.molecules.featurize import DEFAULTS, featurize, featurize_many, make_preprocess
from geoattn.domains.molecules.records import Record, RecordError
from geoattn.domains.molecules.scaffold import murcko_scaffold, scaffold_groups
from geoattn.errors import InputError

SMILES = ["CCO", "c1ccccc1O", "CC(=O)N", "C1CC1", "CCO", "bad", "OCC(O)CO", "CC#N"]


def smiles_of(mol):
    return Chem.MolToSmiles(mol)


def records():
    return [Record(file="a.csv", line=i + 2, smiles=smiles) for i, smiles in enumerate(SMILES)]


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("C1CC", "cannot read it"),
        ("not a molecule", "cannot read it"),
        ("CN(C)(C)(C)C", "valence for atom # 1 N, 5"),
        ("c1cccc1C", "Can't kekulize"),
    ],
)
def test_reasons(smiles, reason, capfd):
    with pytest.raises(RecordError) as caught:
        parse_molecule(Record(smiles=smiles))
    assert reason in caught.value.reason
    assert capfd.readouterr().err == "", "RDKit writes nothing on the user's terminal"


def test_unreadable_mol_block():
    with pytest.raises(RecordError, match="mol block = 'aspirin'"):
        parse_molecule(Record(molblock="aspirin\n\n\nnonsense\n"))


def test_nothing_is_standardised_unless_asked():
    mol = parse_molecule(Record(smiles="C[C@H](N)C(=O)[O-].[Na+]"))
    assert smiles_of(standardize(mol)) == "C[C@H](N)C(=O)[O-].[Na+]"
    assert smiles_of(standardize(mol, salts="largest")) == "C[C@H](N)C(=O)[O-]"
    assert smiles_of(standardize(mol, salts="largest", charges="neutralize")) == "C[C@H](N)C(=O)O"
    assert smiles_of(standardize(mol, stereo="remove")) == "CC(N)C(=O)[O-].[Na+]"


def test_canonical_smiles():
    assert canonical_smiles(Record(smiles="OCC")) == canonical_smiles(Record(smiles="[H]OCC")) == "CCO"
    assert canonical_smiles(Record(smiles="C[C@H](N)O"), stereo=False) == "CC(N)O"
    assert canonical_smiles(Record(numbers=np.array([1]))) == ""


def test_hydrogens_of_a_flat_graph():
    bare, full = (featurize(Record(smiles="CO"), make_preprocess(hydrogens=h)) for h in (None, True))
    assert bare.z.tolist() == [6, 8] and full.z.tolist() == [6, 8, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grahp": "2d"}, "unknown key 'grahp'. Did you mean 'graph'"),
        ({"graph": "4d"}, "graph: got '4d'"),
        ({"salts": "largst"}, "salts: got 'largst'. Did you mean 'largest'"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(InputError, match=message):
        make_preprocess(**changes)


def test_defaults():
    assert make_preprocess() == DEFAULTS
    assert make_preprocess(graph="3d")["hydrogens"] and not make_preprocess(graph="3d", hydrogens=False)["hydrogens"]


# --- conformers -------------------------------------------------------------------------------------------------------


def hydrogenated(smiles):
    return Chem.AddHs(Chem.MolFromSmiles(smiles))


def test_conformers_repeat():
    first, used = embed(hydrogenated("CCCO"), seed=3)
    assert used == "mmff" and np.array_equal(first, embed(hydrogenated("CCCO"), seed=3)[0])
    assert not np.allclose(first, embed(hydrogenated("CCCO"), seed=4)[0])
    assert not np.allclose(first, embed(hydrogenated("CCCO"), seed=3, force_field="none")[0])
    assert np.linalg.norm(first[0] - first[1]) == pytest.approx(1.52, abs=0.03), "the C-C bond, in angstrom"


def test_seeds_zero_and_one_differ():
    assert not np.allclose(embed(hydrogenated("CCCO"), seed=0)[0], embed(hydrogenated("CCCO"), seed=1)[0])


@pytest.mark.parametrize(
    ("smiles", "wanted", "used"), [("B", "mmff", "uff"), ("CC", "uff", "uff"), ("CC", "none", "none")]
)
def test_force_fields_stand_in_for_each_other(smiles, wanted, used):
    assert embed(hydrogenated(smiles), force_field=wanted)[1] == used


def test_parts_of_a_salt_keep_apart():
    positions, _ = embed(hydrogenated("CC(=O)[O-].[NH4+]"))
    parts = Chem.GetMolFrags(hydrogenated("CC(=O)[O-].[NH4+]"))
    assert min(np.linalg.norm(positions[i] - positions[j]) for i in parts[0] for j in parts[1]) > 1.0


def test_impossible_geometry_is_rejected():
    """Two bridgeheads that cannot both have their given handedness."""
    with pytest.raises(RecordError, match="no 3-D conformer found. Use graph=2d"):
        embed(hydrogenated("C[C@@]12C[C@@](C)(C1)C2"))


def test_second_attempt_starts_from_random_coordinates(monkeypatch):
    from rdkit.Chem import rdDistGeom

    attempts = []
    real = rdDistGeom.EmbedMolecule

    def fails_once(mol, parameters):
        attempts.append(parameters.useRandomCoords)
        return -1 if len(attempts) == 1 else real(mol, parameters)

    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", fails_once)
    assert embed(hydrogenated("CC"))[0].shape == (8, 3)
    assert attempts == [False, True]


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_descriptors():
    names = descriptor_names()
    assert names == sorted(names) and len(names) > 200 and "Ipc" not in names
    values = dict(zip(names, raw_descriptors(Chem.MolFromSmiles("CCO"), names), strict=True))
    assert values["MolWt"] == pytest.approx(46.069) and values["NumHDonors"] == 1 and values["TPSA"] == 20.23


def test_descriptors_of_explicit_hydrogens_are_those_of_the_molecule():
    names = ["HeavyAtomCount", "MolLogP", "NumHDonors"]
    plain, full = (
        chemistry(Record(smiles="CCO"), {**DEFAULTS, "hydrogens": h}, names)["descriptors"] for h in (False, True)
    )
    np.testing.assert_array_equal(plain, full)


def test_descriptor_that_fails_is_missing(monkeypatch):
    from geoattn.domains.molecules import descriptors

    def fails(mol):
        raise ValueError("no")

    monkeypatch.setattr(descriptors, "_functions", lambda: {"bad": fails, "huge": lambda mol: float("inf")})
    assert np.isnan(raw_descriptors(None, ["bad", "huge"])).all()


def test_descriptor_normalisation():
    """Normal, with an outlier; a rare group; a constant; a descriptor with a gap; one that never is there."""
    rng = np.random.default_rng(0)
    values = np.zeros((1000, 5))
    values[:, 0] = rng.normal(50, 4, 1000)
    values[0, 0] = 1e9
    values[:5, 1] = 1
    values[:, 2] = 7
    values[:, 3] = values[:, 0]
    values[3, 3] = np.nan
    values[:, 4] = np.nan
    center, factor = fit_normalization(values)
    assert center[0] == pytest.approx(50, abs=0.5) and 1 / factor[0] == pytest.approx(4, rel=0.1)
    assert 1 / factor[1] == pytest.approx(values[:, 1].std()) and factor[2] == factor[4] == 0
    normalized = normalize_descriptors(values, center, factor)
    assert normalized.dtype == np.float32 and np.isfinite(normalized).all() and np.abs(normalized).max() <= LIMIT
    assert normalized[0, 0] == LIMIT and normalized[3, 3] == 0 and not normalized[:, [2, 4]].any()
    assert not normalize_descriptors(np.full(5, 9.0), center, factor)[[2, 4]].any(), "constants stay silent later too"


# --- many records -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", ["2d", "3d"])
@pytest.mark.parametrize("processes", [1, 2])
def test_many_are_like_one(graph, processes):
    preprocess = make_preprocess(graph=graph, descriptors={"names": ["MolWt", "TPSA"]})
    results = list(featurize_many(records(), preprocess, processes=processes))
    assert [record.line for record, _ in results] == list(range(2, 10)), "in the order of the file"
    for record, data in results:
        if record.smiles == "bad":
            assert isinstance(data, RecordError) and data.value == "bad" and data.column == "smiles"
            continue
        alone = featurize(Record(smiles=record.smiles), preprocess)
        assert set(alone.keys()) == set(data.keys())
        assert all((alone[key] == data[key]).all() for key in alone.keys())  # noqa: SIM118


def test_records_are_taken_as_they_are_needed(monkeypatch):
    monkeypatch.setattr(parallel, "CHUNK", 3)
    taken = []

    def stream():
        for record in records():
            taken.append(record)
            yield record

    next(iter(featurize_many(stream(), make_preprocess())))
    assert len(taken) == 3


def run(folder, monkeypatch=None, **changes):
    """(results, how many molecules were computed and not remembered)."""
    preprocess = make_preprocess(graph="3d", **changes)
    computed = []
    real = parallel._run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "_run", lambda jobs, *rest: computed.extend(jobs) or real(jobs, *rest))
        results = [data for _, data in featurize_many(records(), preprocess, cache_dir=folder)]
    return results, len(computed)


def test_cache(tmp_path):
    first, computed = run(tmp_path)
    assert computed == len(set(SMILES)), "the second ethanol is not embedded again"
    second, computed = run(tmp_path)
    assert computed == 0
    for a, b in zip(first, second, strict=True):
        if isinstance(a, RecordError):
            assert (a.column, a.value, a.reason) == (b.column, b.value, b.reason), "failures are remembered too"
        else:
            assert (a.pos == b.pos).all() and (a.z == b.z).all()
    assert not list(tmp_path.rglob(".part-*"))


@pytest.mark.parametrize(
    "changes",
    [{"conformer_seed": 1}, {"force_field": "uff"}, {"hydrogens": False}, {"salts": "largest"}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_options_are_other_entries(tmp_path, changes):
    run(tmp_path)
    assert run(tmp_path, **changes)[1] == len(set(SMILES))


def test_other_versions_are_other_entries(tmp_path, monkeypatch):
    import rdkit

    run(tmp_path)
    monkeypatch.setattr(rdkit, "__version__", "1999.1")
    assert run(tmp_path)[1] == len(set(SMILES))
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "FORMAT", 99)
    assert run(tmp_path)[1] == len(set(SMILES))


def test_coordinates_do_not_stand_in_for_an_embedding(tmp_path):
    """Descriptors of a structure from a file are kept apart from the conformer of the same SMILES."""
    preprocess = make_preprocess(graph="3d", descriptors={"names": ["MolWt"]})
    structure = Record(smiles="[H][H]", numbers=np.array([1, 1]), positions=np.array([[0, 0, 0], [0, 0, 0.8]]))
    for record in (structure, Record(smiles="[H][H]")):
        ((_, data),) = featurize_many([record], preprocess, cache_dir=tmp_path)
        assert data.pos.shape == (2, 3)


def test_damaged_cache_is_computed_again(tmp_path):
    run(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    results, computed = run(tmp_path)
    assert computed == len(set(SMILES)) and run(tmp_path)[1] == 0
    assert sum(isinstance(data, RecordError) for data in results) == 1


def test_cache_that_cannot_be_written_warns_once(tmp_path):
    (tmp_path / "molecules").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not cached") as caught:
        results, _ = run(tmp_path)
    assert len(caught) == 1 and len(results) == len(SMILES)


def test_two_caches_share_a_folder(tmp_path):
    one, other = (ChemistryCache(tmp_path, {"a": 1}) for _ in range(2))
    one.store({"x": {"z": np.arange(3)}})
    other.store({"x": {"z": np.arange(3)}, "y": {"z": np.arange(4)}})
    loaded = ChemistryCache(tmp_path, {"a": 1}).load(["x", "y", "unknown"])
    assert {key: arrays["z"].tolist() for key, arrays in loaded.items()} == {"x": [0, 1, 2], "y": [0, 1, 2, 3]}


# --- scaffolds --------------------------------------------------------------------------------------------------------


def test_scaffolds():
    assert murcko_scaffold("CC(C)c1ccc(CC2CC2)cc1") == "c1ccc(CC2CC2)cc1"
    assert murcko_scaffold("C[C@H]1CCO1") == murcko_scaffold("C[C@@H]1CCO1") == "C1COC1"
    assert scaffold_groups(["CCO", "c1ccccc1", "CC", "Cc1ccccc1"]) == [[0, 2], [1, 3]]
    with pytest.raises(RecordError):
        murcko_scaffold("C1CC")
