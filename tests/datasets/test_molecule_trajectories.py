"""Structures with energies and forces: reading, what is refused, constants of the training part, batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ase", reason="needs geoattn[molecules]")
pytest.importorskip("vesin", reason="needs geoattn[molecules]")

from geoattn.datasets.molecule_frames import Keys, read_structure_chunks, read_structures
from geoattn.datasets.molecule_trajectories import EpochBatches, TrajectoryData
from geoattn.datasets.rejections import Rejections
from geoattn.domains.molecules.structures import PackedStructures, Structure
from geoattn.errors import InputError

ATOM = "Properties=species:S:1:pos:R:3"
WITH_FORCES = f"{ATOM}:forces:R:3"


def water(info: str = "energy=-3", properties: str = WITH_FORCES, shift: float = 0.0, force: str = "0.5") -> str:
    """A frame; the forces are ``force`` on one atom and its negative on another, along x."""
    rows = [["O", 0, 0, 0, force, 0, 0], ["H", 0.96 + shift, 0, 0, f"-{force}", 0, 0], ["H", -0.24, 0.93, 0, 0, 0, 0]]
    width = 7 if "orces" in properties else 4
    lines = [" ".join(map(str, row[:width])) for row in rows]
    return "\n".join(["3", f"{properties} {info}", *lines]) + "\n"


def hydrogen(energy: float, properties: str = WITH_FORCES) -> str:
    return f"2\n{properties} energy={energy}\nH 0 0 0 0.1 0 0\nH 0.8 0 0 -0.1 0 0\n"


def write(path: Path, *frames: str) -> str:
    path.write_text("".join(frames))
    return str(path)


def data(file: str, **options) -> TrajectoryData:
    module = TrajectoryData(file, progress=False, **options)
    module.setup()
    return module


@pytest.fixture
def file(tmp_path) -> str:
    """Nine frames of two formulas, the energy a sum over elements and a bit."""
    frames = [water(f"energy={-10 + 0.01 * k} part={'train' if k < 4 else 'test'}", shift=0.01 * k) for k in range(6)]
    return write(
        tmp_path / "a.xyz", *frames, *(hydrogen(-2 + 0.01 * k).replace("energy", "part=train energy") for k in range(3))
    )


def test_what_is_read(file):
    module = data(file, split="column:part", val_fraction=0.2)
    assert len(module.packed) == 9
    assert module.table[["id", "line", "formula", "num_atoms"]].iloc[6].tolist() == ["31", 31, "H2", 2]
    assert sorted(module.split["test"]) == [4, 5]
    batch = module.packed[[0, 6]]
    assert batch.z.tolist() == [8, 1, 1, 1, 1] and batch.structure.tolist() == [0, 0, 0, 1, 1]
    assert batch.energy.dtype == torch.float64 and batch.energy.tolist() == [-10.0, -2.0]
    torch.testing.assert_close(batch.forces[:, 0], torch.tensor([0.5, -0.5, 0.0, 0.1, -0.1]))
    torch.testing.assert_close(batch.pos[4] - batch.pos[3], torch.tensor([0.8, 0.0, 0.0]))
    assert module.elements == [1, 8] and module.preprocess["elements"] == [1, 8]


def test_constants_come_from_the_training_part(file):
    """Least squares on four waters and three hydrogens; the square root of the mean square of their forces."""
    module = data(file, split="column:part", val_fraction=0.2)
    train = module.split["train"]
    energy = module.packed.energy[train]
    counts = np.array([[2, 1] if module.packed.num_atoms[row] == 3 else [2, 0] for row in train])
    expected = np.linalg.lstsq(counts, energy, rcond=None)[0]
    assert [module.references_of[z] for z in (1, 8)] == pytest.approx(expected.tolist())
    forces = module.packed.forces[module.packed.atom_rows(np.array(train))]
    assert module.scale == pytest.approx(np.sqrt((forces**2).mean()))
    assert module.notes == []


def test_references_from_single_atoms(tmp_path):
    """Their frames are no training data, and need no forces other than zero."""
    atoms = [f"1\n{WITH_FORCES} energy={e}\n{name} 0 0 0 0 0 0\n" for name, e in (("H", -0.4), ("O", -3.5))]
    file = write(tmp_path / "a.xyz", *atoms, *(water(f"energy={-9 - k}", shift=0.01 * k) for k in range(6)))
    module = data(file, references="isolated")
    assert module.references_of == {1: -0.4, 8: -3.5} and len(module.packed) == 6
    assert data(file, references={"H": -1.0, "O": -2.0}).references_of == {1: -1.0, 8: -2.0}
    energy = module.packed.energy[module.split["train"]]
    assert module.mean_energy == pytest.approx((energy - (2 * -0.4 - 3.5)).mean() / 3)
    baseline = module.preprocess["baseline_references"]
    assert 2 * baseline["1"] + baseline["8"] == pytest.approx(module.packed.energy[module.split["train"]].mean())
    with pytest.raises(InputError, match="O has none; expected its energy"):
        data(file, references={"H": -1.0})
    with pytest.raises(InputError, match="Did you mean 'He'|Known|got 'Hx'"):
        data(file, references={"Hx": -1.0})
    with pytest.raises(InputError, match="expected a frame with a single O atom"):
        data(write(tmp_path / "b.xyz", atoms[0], *(water(shift=0.01 * k) for k in range(4))), references="isolated")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (water(properties=ATOM), r"the frame has no 'forces'"),
        (water("REF_energy=-3"), r"no 'energy'. It has 'REF_energy': choose with --data.energy-key"),
        (
            water(properties=f"{ATOM}:REF_forces:R:3"),
            r"no 'forces'. It has 'REF_forces': choose with --data.forces-key",
        ),
        (water(force="nan"), r"the force on atom 1 is not finite"),
        (water("energy=nan"), r"an energy that is not finite"),
        (water("energy=low"), r"not a number"),
        (water(properties=f"{ATOM}:forces:R:1:forces_y:R:1:forces_z:R:1"), r"expected three numbers for each of the 3"),
        (water('energy=-3 pbc="T T T"'), r"repeats along a, and the frame has no lattice vector"),
        (water('energy=-3 Lattice="5 0 0 0 5 0 5 5 0"'), r"the lattice vectors span no volume"),
        (water('energy=-3 Lattice="0.97 0 0 0 5 0 0 0 5"'), r"coincide across the cell boundary"),
        (water(shift=-0.96), r"atoms 1 and 2 \(H\) lie within"),
    ],
)
def test_bad_frames(tmp_path, frame, message):
    """Raised with file and line; or listed, and the others used."""
    good = [water(f"energy={-3 - k}", shift=0.01 * k) for k in range(5)]
    file = write(tmp_path / "a.xyz", good[0], frame, *good[1:])
    with pytest.raises(InputError, match=rf"a.xyz:6: .*{message}"):
        data(file)
    module = data(file, on_error="skip")
    assert len(module.packed) == 5 and module.rejected["line"].tolist() == [6]
    with pytest.raises(InputError, match=r"no usable structure; 1 frames were rejected, the first because"):
        data(write(tmp_path / "b.xyz", frame), on_error="skip")


def test_other_keys(tmp_path):
    frames = [water(f"REF_energy={-3 - k}", f"{ATOM}:REF_forces:R:3", 0.01 * k) for k in range(5)]
    module = data(write(tmp_path / "a.xyz", *frames), energy_key="REF_energy", forces_key="REF_forces")
    assert module.packed.energy.tolist() == [-3, -4, -5, -6, -7]
    assert np.abs(module.packed.forces).max() == 0.5


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("stress", "1 0.4 0.5 0.4 2 0.6 0.5 0.6 3"),  # ASE takes nine numbers and keeps six
        ("REF_stress", "1 0.4 0.5 0.4 2 0.6 0.5 0.6 3"),
        ("REF_stress", "1 2 3 0.6 0.5 0.4"),
    ],
)
def test_stress(tmp_path, key, text):
    """Nine numbers, or six in Voigt's order; gaps are NaN."""
    cell = 'Lattice="5 0 0 0 6 0 0 0 7"'
    frames = [water(f'energy=-3 {cell} {key}="{text}"', shift=0.01 * k) for k in range(4)] + [
        water(f"energy=-3 {cell}")
    ]
    module = data(write(tmp_path / "a.xyz", *frames), stress_key=key)
    expected = [[1, 0.4, 0.5], [0.4, 2, 0.6], [0.5, 0.6, 3]]
    np.testing.assert_allclose(module.packed.stress[0], expected)
    assert np.isnan(module.packed.stress[4]).all()
    assert module.packed[[0]].volume.item() == pytest.approx(210)
    with pytest.raises(InputError, match="data.stress_key: no frame of .* has 'virial'"):
        data(module.file, stress_key="virial")


def test_net_forces_are_noted(tmp_path):
    frames = [water(shift=0.01 * k).replace("-0.5 0", "-0.3 0") for k in range(5)]
    module = data(write(tmp_path / "a.xyz", *frames))
    assert "do not sum to zero (root mean square 0.2 eV/angstrom)" in module.notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0.0}, "data.cutoff: got 0.0"),
        ({"batch_size": 0}, "data.batch_size: got 0"),
        ({"split": "column:pat"}, "no frame has the info key 'pat'. Did you mean 'part'"),
        ({"split": "scaffold"}, "needs SMILES"),
        ({"split": "column:formula=H2O"}, "O occurs in the test part and not in the training part"),
    ],
)
def test_wrong_options(file, options, message):
    with pytest.raises(InputError, match=message):
        data(file, **options)


def test_wrong_files(tmp_path):
    for name, message in (("a.csv", "expected extended XYZ"), ("no.xyz", "no such file")):
        (tmp_path / "a.csv").write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match=message):
            data(str(tmp_path / name))


def test_batches_of_an_epoch():
    """Every row once, in an order that seed and epoch decide; without a seed in order."""
    rows = [3, 1, 4, 5, 9, 2, 6]
    batches = EpochBatches(rows, 3, seed=1)
    assert len(batches) == 3
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append([row for batch in batches for row in batch])
        assert sorted(orders[-1]) == sorted(rows)
    assert orders[0] == orders[2] != orders[1]
    assert list(EpochBatches(rows, 3)) == [[3, 1, 4], [5, 9, 2], [6]]


def test_packed_structures_are_the_structures():
    """Edges, shifts and cells of any batch, in any order, with open and periodic structures side by side."""
    rng = np.random.default_rng(0)
    cell = np.diag([3.0, 3.5, 4.0])
    structures = []
    for n, pbc in ((3, False), (1, False), (4, True), (2, True)):
        box = cell if pbc else np.zeros((3, 3))
        structures.append(Structure.with_neighbors(rng.choice([1, 8], n), rng.random((n, 3)) * 3, box, (pbc,) * 3, 2.5))
    rows = [2, 0, 3, 1, 2]
    batch = PackedStructures(structures).batch(rows, torch.float64)
    first = 0
    for number, row in enumerate(rows):
        structure = structures[row]
        mine = batch.structure[batch.nbr.target] == number
        assert torch.equal(batch.nbr.source[mine] - first, torch.from_numpy(structure.edge_index[0]))
        assert torch.equal(batch.nbr.target[mine] - first, torch.from_numpy(structure.edge_index[1]))
        assert torch.equal(batch.cell_shift[mine], torch.from_numpy(structure.cell_shift))
        assert torch.equal(batch.cell[number], torch.from_numpy(structure.cell))
        pos = batch.pos[batch.structure == number].numpy()
        np.testing.assert_allclose(pos - pos[0], structure.pos - structure.pos[0], atol=1e-15)
        first += len(structure.z)
    expected = torch.searchsorted(batch.nbr.target, torch.arange(first + 1))
    assert torch.equal(batch.nbr.row_ptr, expected)
    assert torch.isnan(batch.volume).tolist() == [False, True, False, True, False]


def test_chunks(tmp_path):
    """Frames that cannot be used count in their chunk; chunks that are done are passed over."""
    frames = [water(shift=0.01 * k) for k in range(7)]
    frames[3] = water('energy=-3 pbc="T T T"')
    file = write(tmp_path / "a.xyz", *frames)
    rejections = Rejections("skip")
    found = {}
    for number, chunk in read_structure_chunks(file, 3.0, rejections, 3, [1, 8], skip=1):
        found[number] = ([frame.line for frame in chunk], len(rejections))
    assert found == {1: ([21, 26], 1), 2: ([31], 0)}
    with pytest.raises(InputError, match="species = 'O': the model was trained on H alone"):
        list(read_structure_chunks(file, 3.0, Rejections(), 3, [1]))


def test_labels_are_not_needed(tmp_path):
    file = write(tmp_path / "a.xyz", water("id=w", ATOM))
    frame = next(iter(read_structures(file, 3.0, Rejections())))
    assert frame.id == "w" and np.isnan(frame.energy)
    with pytest.raises(InputError, match="has no 'energy'"):
        next(iter(read_structures(file, 3.0, Rejections(), Keys())))
