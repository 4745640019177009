"""From files to batches, the data module as a whole; and reading in chunks for a trained model."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import AllChem, Descriptors

from geoattn.datasets.molecules import MoleculesData, read_chunks
from geoattn.domains.molecules.targets import TargetTransform, composition
from geoattn.errors import InputError

SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "C1CCCCC1", "OCCO", "CC#N", "c1ccncc1", "CCCl", "CNC", "CCC", "CO"]


def write_csv(path, smiles=SMILES, **columns):
    columns = columns or {"y": np.arange(len(smiles)) / 2}
    pd.DataFrame({"smiles": smiles, **columns}).to_csv(path, index=False)
    return str(path)


def write_xyz(path, num=12, cell=None, key="E"):
    """Water molecules that are stretched more and more; the energy is -3 times H minus 10 times O plus the stretch."""
    lattice = "" if cell is None else f'Lattice="{cell} 0 0 0 {cell} 0 0 0 {cell}" '
    frames = []
    for i in range(num):
        r = 0.9 + 0.01 * i
        frames.append(
            f"3\n{lattice}Properties=species:S:1:pos:R:3 {key}={-16 + 0.01 * i} fold={i % 4}\n"
            f"O 0 0 0\nH {r} 0 0\nH 0 {r} 0\n"
        )
    path.write_text("".join(frames))
    return str(path)


def load(file, **options):
    data = MoleculesData(file, progress=False, processes=1, val_fraction=0.2, test_fraction=0.2, **options)
    data.setup()
    return data


def test_table_of_smiles(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"), batch_size=4)
    assert data.preprocess["targets"] == ["y"] and data.num_targets == 1
    assert data.table["smiles"].tolist() == SMILES and data.table["line"].tolist() == list(range(2, 14))
    assert {part: len(rows) for part, rows in data.split.items()} == {"train": 8, "valid": 2, "test": 2}
    assert [s.row.item() for s in data.samples] == list(range(12))
    batch = next(iter(data.test_dataloader()))
    assert batch.x.shape[1] == 72 and batch.edge_attr.shape[1] == 14 and batch.num_graphs == 2
    assert batch.y.flatten().tolist() == data.table["y"][data.split["test"]].tolist()


def test_normalisation_comes_from_the_training_rows(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"))
    train = data.table["y"][data.split["train"]].to_numpy()
    assert data.target_transform.mean == pytest.approx([train.mean()])
    assert data.target_transform.std == pytest.approx([train.std()])
    targets = torch.cat([data.samples[row].target for row in data.split["train"]])
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_preprocess_is_json_and_featurises_the_same(tmp_path):
    """What the model folder keeps gives the same graphs back, descriptors included."""
    parts = ["train"] * 10 + ["valid", "test"]
    file = write_csv(tmp_path / "a.csv", y=np.arange(12) / 2, part=parts)
    data = load(file, targets=["y"], split="column:part", descriptors=True)
    preprocess = json.loads(json.dumps(data.preprocess))
    chunk = next(read_chunks(file, preprocess, need_targets=True))
    for trained, predicted in zip(data.samples, chunk.samples, strict=True):
        for key in ("x", "edge_index", "edge_attr", "descriptors", "y", "row"):
            assert torch.equal(trained[key], predicted[key]), key
    pd.testing.assert_frame_equal(chunk.table, data.table[chunk.table.columns])


def test_descriptors_are_normalised_on_training_rows(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"), descriptors=True)
    values = torch.cat([s.descriptors for s in data.samples])
    assert values.dtype == torch.float32 and values.shape == (12, len(data.preprocess["descriptors"]["names"]))
    constants = data.preprocess["descriptors"]
    weight = constants["names"].index("MolWt")
    masses = [Descriptors.MolWt(Chem.MolFromSmiles(SMILES[row])) for row in data.split["train"]]
    assert constants["center"][weight] == pytest.approx(np.median(masses))
    assert values.abs().max() <= 5 and torch.isfinite(values).all()
    median = values[data.split["train"]].median(dim=0).values
    assert median.abs().mean() < 0.3


def test_gaps_and_rows_without_any_target(tmp_path):
    y = [1.0, None, 3.0, *([0.0] * 9)]
    z = [None, None, 2.0, *([1.0] * 9)]
    file = write_csv(tmp_path / "a.csv", y=y, z=z)
    with pytest.raises(InputError, match=r"a.csv:3: y, z = '': no target has a value"):
        load(file, targets=["y", "z"])
    data = load(file, targets=["y", "z"], on_error="skip")
    assert data.rejected[["line", "column", "reason"]].values.tolist() == [[3, "y, z", "no target has a value"]]
    assert torch.isnan(data.samples[0].y).tolist() == [[False, True]]
    assert torch.isnan(data.samples[0].target).tolist() == [[False, True]]
    assert len(data.samples) == 11


@pytest.mark.parametrize(
    ("smiles", "column", "reason"),
    [
        ("C1CC", "smiles", "RDKit cannot read it: .*[Uu]nclosed|RDKit cannot read it"),
        ("", "smiles", "empty"),
        ("  ", "smiles", "empty"),
        ("CN(C)(C)(C)C", "smiles", "valence"),
        ("c1cccc1C", "smiles", "kekulize"),
    ],
)
@pytest.mark.parametrize("graph", ["2d", "3d"])
def test_unreadable_smiles(tmp_path, smiles, column, reason, graph):
    file = write_csv(tmp_path / "a.csv", smiles=[*SMILES[:5], smiles])
    with pytest.raises(InputError, match=f"a.csv:7: {column} = .*({reason}).*--on-error skip"):
        load(file, graph=graph)
    data = load(file, graph=graph, on_error="skip")
    assert len(data.samples) == len(data.table) == 5
    assert data.rejected[["file", "line", "column", "value"]].values.tolist() == [[file, 7, column, smiles.strip()]]


def test_text_in_a_target(tmp_path):
    file = write_csv(tmp_path / "a.csv", y=[*map(str, range(11)), "<0.1"])
    with pytest.raises(InputError, match=r"a.csv:13: y = '<0.1': not a number"):
        load(file, targets=["y"])
    assert load(file, targets=["y"], on_error="skip").rejected["value"].tolist() == ["<0.1"]


def test_mistyped_target(tmp_path):
    with pytest.raises(InputError, match="no column 'solubilty'. Did you mean 'solubility'"):
        load(write_csv(tmp_path / "a.csv", solubility=range(12)), targets=["solubilty"])
    with pytest.raises(InputError, match="no entry has 'Energy'. Did you mean 'energy'"):
        load(write_xyz(tmp_path / "a.xyz", key="energy"), targets=["Energy"], graph="3d")


def test_reserved_target(tmp_path):
    with pytest.raises(InputError, match="cannot be named 'line'"):
        load(write_csv(tmp_path / "a.csv", line=range(12)), targets=["line"])


def test_mixed_units(tmp_path):
    file = write_csv(tmp_path / "a.csv", y=range(12), unit=["eV"] * 11 + ["kcal/mol"])
    with pytest.raises(InputError, match="mixes units"):
        load(file, targets=["y"])
    assert load(write_csv(tmp_path / "b.csv"), units="eV").preprocess["units"] == "eV"


def test_one_row(tmp_path):
    with pytest.raises(InputError, match="1 usable molecule"):
        load(write_csv(tmp_path / "a.csv", smiles=["CCO"]))


def test_nothing_usable(tmp_path):
    with pytest.raises(InputError, match="no usable molecule; 3 rows were rejected"):
        load(write_csv(tmp_path / "a.csv", smiles=["C1", "C(", "X"]), on_error="skip")


def test_classes(tmp_path):
    data = load(write_csv(tmp_path / "a.csv", active=[0, 1] * 6), task="classification")
    assert torch.cat([s.target for s in data.samples]).flatten().tolist() == [0, 1] * 6
    with pytest.raises(InputError, match="a class must be 0 or 1"):
        load(write_csv(tmp_path / "b.csv"), task="classification")


def test_energies_in_space(tmp_path):
    data = load(write_xyz(tmp_path / "a.xyz"), targets=["E"], task="energy", graph="3d", split="column:fold=0")
    assert data.split["test"] == [0, 4, 8]
    assert data.preprocess["elements"] == [1, 8] and not data.preprocess["periodic"]
    assert data.samples[0].edge_index.shape == (2, 6), "all pairs without a cutoff"
    transform = TargetTransform.from_dict(data.preprocess["target_transform"])
    batch = next(iter(data.test_dataloader()))
    energies = transform.denormalize(batch.target, composition(batch.z, batch.batch))
    np.testing.assert_allclose(energies[:, 0], [-16.0, -15.96, -15.92], atol=1e-6)


def test_cutoff(tmp_path):
    near = load(write_xyz(tmp_path / "a.xyz"), targets=["E"], graph="3d", cutoff=1.2)
    assert near.samples[0].edge_index.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]


def test_periodic_structures(tmp_path):
    file = write_xyz(tmp_path / "a.xyz", cell=4.0)
    with pytest.raises(InputError, match=r"a.xyz:1: pbc .* needs a cutoff"):
        load(file, targets=["E"], graph="3d")
    data = load(file, targets=["E"], graph="3d", cutoff=4.5)
    sample = data.samples[0]
    source, target = sample.edge_index
    lengths = (sample.pos[source] + sample.edge_shift - sample.pos[target]).norm(dim=1)
    assert lengths.max() <= 4.5 and (source == target).sum() == 3 * 6, "each atom sees itself in six neighbour cells"
    molecules = write_xyz(tmp_path / "b.xyz")
    assert next(read_chunks(molecules, data.preprocess)).samples[0].edge_shift.abs().max() == 0


def test_periodic_structures_in_a_model_for_molecules(tmp_path):
    data = load(write_xyz(tmp_path / "a.xyz"), targets=["E"], graph="3d")
    with pytest.raises(InputError, match=r"c.xyz:1: pbc .* made for molecules without a cell"):
        list(read_chunks(write_xyz(tmp_path / "c.xyz", cell=9.0), data.preprocess))


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("H nan 0 0", "pos", "atom 3 has a coordinate that is not finite"),
        ("H inf 0 0", "pos", "atom 3 has a coordinate that is not finite"),
        ("H 0.9 0 0", "pos", r"atoms 2 and 3 \(H\) lie within"),
        ("H 0.92 0 0", "pos", r"atoms 2 and 3 \(H\) lie within"),
        ("X 0 0.9 0", "species", "atom 3 is of no element"),
    ],
)
def test_bad_structures(tmp_path, line, column, reason):
    file = write_xyz(tmp_path / "a.xyz")
    text = (tmp_path / "a.xyz").read_text().split("\n")
    text[4] = line
    (tmp_path / "a.xyz").write_text("\n".join(text))
    with pytest.raises(InputError, match=f"a.xyz:1: {column} = .*{reason}"):
        load(file, targets=["E"], graph="3d")
    data = load(file, targets=["E"], graph="3d", on_error="skip")
    assert data.rejected[["line", "column"]].values.tolist() == [[1, column]] and len(data.samples) == 11


def test_sdf_uses_its_coordinates(tmp_path):
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for i, smiles in enumerate(SMILES):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            AllChem.EmbedMolecule(mol, randomSeed=i)
            mol.SetProp("y", str(i))
            writer.write(mol)
    space = load(str(tmp_path / "a.sdf"), graph="3d")
    assert space.samples[0].z.tolist() == [
        atom.GetAtomicNum() for atom in Chem.AddHs(Chem.MolFromSmiles("CCO")).GetAtoms()
    ]
    with Chem.SDMolSupplier(str(tmp_path / "a.sdf"), removeHs=False) as supplier:
        np.testing.assert_allclose(space.samples[3].pos, supplier[3].GetConformer().GetPositions(), atol=1e-5)
    assert space.notes == [], "nothing was embedded"
    flat = load(str(tmp_path / "a.sdf"), graph="2d")
    assert flat.samples[0].z.tolist() == [6, 6, 8] and flat.table["smiles"][0] == "CCO"


def test_coordinates_without_smiles_have_no_bonds(tmp_path):
    with pytest.raises(InputError, match=r"a.xyz:1: smiles = '': a structure without SMILES has no bonds. Use .* 3d"):
        load(write_xyz(tmp_path / "a.xyz"), targets=["E"], graph="2d")


def test_smiles_beside_coordinates(tmp_path):
    """2-D graphs, baselines and pictures use them; in 3-D one that cannot be read is none."""
    file = write_xyz(tmp_path / "a.xyz")
    text = (
        (tmp_path / "a.xyz")
        .read_text()
        .replace(" E=", ' smiles="[H]O[H]" E=', 11)
        .replace("pos:R:3 E", "pos:R:3 smiles=O( E")
    )
    (tmp_path / "a.xyz").write_text(text)
    data = load(file, targets=["E"], graph="3d")
    assert data.table["smiles"].tolist() == ["O"] * 11 + [""] and data.samples[0].pos.shape == (3, 3)
    flat = load(file, targets=["E"], graph="2d", on_error="skip")
    assert len(flat.samples) == 11 and flat.rejected["value"].tolist() == ["O("]


def test_three_dimensions_from_smiles(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"), graph="3d", cutoff=5.0)
    again = load(write_csv(tmp_path / "a.csv"), graph="3d", cutoff=5.0, cache_dir="none")
    assert data.samples[0].z.shape == (9,), "hydrogens are atoms of the graph"
    assert all(torch.equal(a.pos, b.pos) for a, b in zip(data.samples, again.samples, strict=True))
    other = load(write_csv(tmp_path / "a.csv"), graph="3d", cutoff=5.0, conformer_seed=1)
    assert not torch.equal(data.samples[0].pos, other.samples[0].pos)
    bare = load(write_csv(tmp_path / "a.csv"), graph="3d", cutoff=5.0, hydrogens=False)
    assert bare.samples[0].z.tolist() == [6, 6, 8]


def test_training_order_repeats(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"), batch_size=3)
    loader = data.train_dataloader()

    def epoch(number):
        loader.sampler.set_epoch(number)
        return [batch.row.tolist() for batch in loader]

    assert epoch(5) == epoch(5) != epoch(6)
    assert sorted(row for rows in epoch(0) for row in rows) == data.split["train"]


def test_workers_give_the_same_batches(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"), batch_size=4)
    alone = [batch.x for batch in data.predict_dataloader()]
    data.num_workers = 1
    assert all(torch.equal(a, b.x) for a, b in zip(alone, data.predict_dataloader(), strict=True))


def test_a_molecule_does_not_depend_on_its_batch(tmp_path):
    """Descriptor and target constants come from training rows, never from the rows that stand beside a molecule."""
    data = load(write_csv(tmp_path / "a.csv"), descriptors=True)
    alone = next(read_chunks(write_csv(tmp_path / "one.csv", smiles=["CCN"]), data.preprocess)).samples[0]
    assert torch.equal(alone.descriptors, data.samples[3].descriptors) and torch.equal(alone.x, data.samples[3].x)


def test_unknown_element_in_prediction(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"))
    file = write_csv(tmp_path / "new.csv", smiles=["CC", "CBr", "C[Si](C)(C)I"])
    with pytest.raises(InputError, match=r"new.csv:3: element = 'Br': the model knows only C N O Cl"):
        list(read_chunks(file, data.preprocess))
    (chunk,) = read_chunks(file, data.preprocess, on_error="skip")
    assert chunk.rejected[["line", "value"]].values.tolist() == [[3, "Br"], [4, "Si, I"]]
    assert chunk.table["smiles"].tolist() == ["CC"]


def test_chunks(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"))
    smiles = ["C", "bad", "CC", "CCC", "", "CCCC", "C1", "C2"]
    file = write_csv(tmp_path / "new.csv", smiles=smiles)
    chunks = list(read_chunks(file, data.preprocess, chunk_size=3, on_error="skip"))
    assert [c.table["line"].tolist() for c in chunks] == [[2, 4], [5, 7], []]
    assert [c.rejected["line"].tolist() for c in chunks] == [[3], [6], [8, 9]]
    assert [s.row.item() for s in chunks[1].samples] == [0, 1]
    resumed = list(read_chunks(file, data.preprocess, chunk_size=3, on_error="skip", skip=1))
    assert [c.number for c in resumed] == [1, 2]
    for before, after in zip(chunks[1:], resumed, strict=True):
        pd.testing.assert_frame_equal(before.table, after.table)
        pd.testing.assert_frame_equal(before.rejected, after.rejected)


def test_ragged_last_row_is_not_lost(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"))
    (tmp_path / "new.csv").write_text("smiles\nC\nCC\nCCC,oops\n")
    chunks = list(read_chunks(tmp_path / "new.csv", data.preprocess, chunk_size=2, on_error="skip"))
    assert sum(len(c.samples) for c in chunks) == 2
    assert pd.concat([c.rejected for c in chunks])["line"].tolist() == [4]


def test_testing_needs_targets(tmp_path):
    data = load(write_csv(tmp_path / "a.csv"))
    with pytest.raises(InputError, match="no column 'y'"):
        list(read_chunks(write_csv(tmp_path / "new.csv", other=range(12)), data.preprocess, need_targets=True))
    assert len(next(read_chunks(tmp_path / "new.csv", data.preprocess)).samples) == 12, "prediction does not"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".sdf", ".xyz"])
def test_chunks_take_constant_memory(tmp_path, suffix):
    """300 molecules more than another file has leave no trace; a graph that is kept takes more than 2 kB."""
    data = load(write_csv(tmp_path / "train.csv"))
    space = load(write_xyz(tmp_path / "train.xyz"), targets=["E"], graph="3d")
    preprocess = space.preprocess if suffix == ".xyz" else data.preprocess

    def peak(num):
        file = _large_file(tmp_path / f"{num}{suffix}", num)
        tracemalloc.start()
        rows = sum(len(chunk.samples) for chunk in read_chunks(file, preprocess, chunk_size=20))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows == num
        return top

    peak(20)  # what is imported and kept once
    assert peak(400) - peak(100) < 300 * 500


def _large_file(path, num):
    if path.suffix == ".xyz":
        return write_xyz(path, num)
    smiles = [SMILES[i % len(SMILES)] for i in range(num)]
    if path.suffix == ".csv":
        return write_csv(path, smiles)
    if path.suffix == ".parquet":
        pd.DataFrame({"smiles": smiles}).to_parquet(path)
        return path
    with Chem.SDWriter(str(path)) as writer:
        for text in smiles:
            writer.write(Chem.MolFromSmiles(text))
    return path


def test_elements_outside_the_training_part_are_unknown(tmp_path):
    smiles = ["CO", "CCO", "CCCO", "CCCCO", "CCCCCO", "CS"]
    file = write_csv(tmp_path / "a.csv", smiles=smiles, y=range(6), part=["train"] * 4 + ["valid", "test"])
    data = load(file, split="column:part")
    assert data.preprocess["elements"] == [6, 8]
    assert data.elements == [6, 8, 16]
