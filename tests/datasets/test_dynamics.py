"""Readers of moving bodies and their data module: every format, every fault, ragged systems, splits."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from geoattn.datasets.dynamics import DynamicsData
from geoattn.datasets.dynamics_files import Reading, read_systems
from geoattn.datasets.rejections import Rejections
from geoattn.errors import InputError

RNG = np.random.default_rng(0)


def pair_arrays(num=6, n=4, dim=3, prefix="", **more) -> dict[str, np.ndarray]:
    arrays = {name: RNG.normal(size=(num, n, dim)) for name in ("loc0", "vel0", "loc1")}
    arrays["charge"] = RNG.choice([-1, 1], size=(num, n)).astype(np.int8)
    return {prefix + name: array for name, array in {**arrays, **more}.items()}


def save(path, arrays):
    np.savez(path, **arrays)
    return path


def read(path, on_error="raise", **options):
    rejections = Rejections(on_error, "systems")
    return read_systems(path, Reading(**options), rejections), rejections.table()


def long_table(num=4, bodies=("a", "b", "c"), frames=(0, 1, 2, 3), velocities=True) -> pd.DataFrame:
    """One row per system, frame and body; positions are quadratic in the frame's number."""
    rows = []
    for s in range(num):
        x, v, a = RNG.normal(size=(3, len(bodies), 3))
        for frame in frames:
            for k, body in enumerate(bodies):
                pos = x[k] + frame * v[k] + 0.5 * frame**2 * a[k]
                row = {"id": f"run{s}", "frame": frame, "entity": body, **dict(zip("xyz", pos, strict=True))}
                if velocities:
                    row |= dict(zip(("vx", "vy", "vz"), v[k] + frame * a[k], strict=True))
                rows.append({**row, "charge": (-1) ** k, "mass": 1.0 + k})
    return pd.DataFrame(rows)


class TestPairs:
    def test_one_set(self, tmp_path):
        arrays = pair_arrays(
            mass=RNG.uniform(size=(6, 4)), edges=RNG.integers(0, 2, (6, 4, 4)), vel1=np.ones((6, 4, 3))
        )
        found, _ = read(save(tmp_path / "a.npz", arrays), horizon=2.5)
        systems = found.systems
        assert systems.ids == [str(s) for s in range(6)] and systems.sizes.tolist() == [4] * 6
        for name, values in (("loc0", systems.pos), ("vel0", systems.vel), ("loc1", systems.target_pos)):
            np.testing.assert_array_equal(values, arrays[name].reshape(-1, 3))
        np.testing.assert_array_equal(systems.charge, arrays["charge"].ravel())
        np.testing.assert_array_equal(systems.scalars[:, 0], arrays["mass"].ravel())
        off_diagonal = [arrays["edges"][s, i, j] for s in range(6) for i in range(4) for j in range(4) if i != j]
        np.testing.assert_array_equal(systems.edge_attr[:, 0], off_diagonal)
        assert systems.horizon == 2.5 and list(found.table) == ["id", "bodies"]

    def test_parts(self, tmp_path):
        arrays = pair_arrays(3, prefix="train_") | pair_arrays(2, prefix="valid_") | pair_arrays(1, prefix="test_")
        found, _ = read(save(tmp_path / "a.npz", arrays))
        assert found.table["split"].tolist() == ["train"] * 3 + ["valid"] * 2 + ["test"]
        assert found.systems.ids == ["train_0", "train_1", "train_2", "valid_0", "valid_1", "test_0"]
        np.testing.assert_array_equal(found.systems.pos[-4:], arrays["test_loc0"][0])

    def test_padding_makes_systems_of_different_sizes(self, tmp_path):
        arrays = pair_arrays(edges=RNG.integers(0, 2, (6, 4, 4)))
        arrays["loc0"][2, 3] = np.nan
        arrays["loc0"][4, 1:] = np.nan
        arrays["loc1"][2, 3] = np.nan
        systems = read(save(tmp_path / "a.npz", arrays))[0].systems
        assert systems.sizes.tolist() == [4, 4, 3, 4, 1, 4]
        np.testing.assert_array_equal(systems.take([2]).pos, arrays["loc0"][2, :3])
        third = arrays["edges"][2, :3, :3]
        np.testing.assert_array_equal(systems.take([2]).edge_attr[:, 0], third[~np.eye(3, dtype=bool)])

    def test_a_missing_number(self, tmp_path):
        arrays = pair_arrays()
        arrays["vel0"][1, 2, 0] = np.inf
        arrays["charge"] = arrays["charge"].astype(float)
        arrays["charge"][3, 1] = np.nan
        arrays["loc0"][5] = np.nan
        path = save(tmp_path / "a.npz", arrays)
        with pytest.raises(
            InputError, match=r"a\.npz: system 1: vel0\[1, 2, 0\] = 'inf': not a finite number"
        ) as caught:
            read(path)
        assert "--on-error skip to go on without such systems" in str(caught.value) and "line" not in str(caught.value)
        found, rejected = read(path, on_error="skip")
        assert found.systems.ids == ["0", "2", "4"]
        assert rejected["line"].tolist() == [1, 3, 5], "as in the ids"
        assert rejected["column"].tolist() == ["vel0[1, 2, 0]", "charge[3, 1]", "loc0[5]"]
        assert rejected["reason"].tolist() == ["not a finite number"] * 2 + ["the system has no body"]

    def test_targets_are_not_needed_for_predictions(self, tmp_path):
        arrays = pair_arrays()
        without = {name: array for name, array in arrays.items() if name != "loc1"}
        path = save(tmp_path / "a.npz", without)
        with pytest.raises(InputError, match="there is no 'loc1', the later positions, only loc0, vel0, charge"):
            read(path)
        assert read(path, need_targets=False)[0].systems.target_pos is None
        arrays["loc1"][0, 1] = np.inf
        known = read(save(tmp_path / "b.npz", arrays), need_targets=False)[0].systems.target_pos
        assert np.flatnonzero(np.isnan(known).any(axis=1)).tolist() == [1], "those that are known are kept"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"loc0": np.zeros((6, 4))}, r"loc0: got shape \(6, 4\), expected \[systems, bodies, coordinates\]"),
            ({"vel0": np.zeros((6, 3, 3))}, r"vel0: got shape \(6, 3, 3\), expected \(6, 4, 3\)"),
            ({"charge": np.zeros((6, 5))}, r"charge: got shape \(6, 5\), expected \(6, 4\)"),
            ({"edges": np.zeros((6, 4, 3))}, r"edges: got shape \(6, 4, 3\), expected \(6, 4, 4\)"),
            ({"chrge": np.zeros((6, 4))}, r"unknown key 'chrge'. Did you mean 'charge'\?"),
            ({"charge": np.array([["a"] * 4] * 6)}, "charge: got dtype <U1, expected numbers"),
            ({"vel0": None}, "got loc0, loc1, charge, expected loc0 and vel0, or loc instead"),
            ({"train_loc0": np.zeros((6, 4, 3))}, "some keys begin with train_"),
        ],
    )
    def test_wrong_arrays(self, tmp_path, change, message):
        arrays = {name: array for name, array in (pair_arrays() | change).items() if array is not None}
        with pytest.raises(InputError, match=message):
            read(save(tmp_path / "a.npz", arrays))

    def test_parts_that_differ(self, tmp_path):
        arrays = pair_arrays(prefix="train_") | pair_arrays(prefix="test_")
        del arrays["test_charge"]
        with pytest.raises(InputError, match="charge is in one and not in another"):
            read(save(tmp_path / "a.npz", arrays))

    def test_a_trailing_axis_of_charges(self, tmp_path):
        arrays = pair_arrays()
        arrays["charge"] = arrays["charge"][..., None]
        assert read(save(tmp_path / "a.npz", arrays))[0].systems.charge.shape == (24,)


class TestRuns:
    """Whole runs, of which two frames are chosen."""

    def test_frames(self, tmp_path):
        loc, vel = RNG.normal(size=(2, 3, 5, 2, 3))
        found, _ = read(save(tmp_path / "a.npz", {"loc": loc, "vel": vel}), frame_in=1, frame_out=4, frame_time=0.1)
        systems = found.systems
        np.testing.assert_array_equal(systems.pos, loc[:, 1].reshape(-1, 3))
        np.testing.assert_array_equal(systems.vel, vel[:, 1].reshape(-1, 3))
        np.testing.assert_array_equal(systems.target_pos, loc[:, 4].reshape(-1, 3))
        np.testing.assert_array_equal(systems.target_vel, vel[:, 4].reshape(-1, 3))
        assert systems.horizon == pytest.approx(0.3) and found.frames == (1, 4) and not found.notes

    def test_velocities_from_positions(self, tmp_path):
        loc = RNG.normal(size=(3, 5, 2, 3))
        found, _ = read(save(tmp_path / "a.npz", {"loc": loc}), frame_time=0.5)
        np.testing.assert_allclose(found.systems.vel, (loc[:, 1] - loc[:, 0]).reshape(-1, 3) / 0.5)
        assert found.frames == (1, 4) and found.systems.horizon == pytest.approx(1.5)
        assert found.notes == [
            "The file has no velocities; they are the differences of the positions in frames 1 and 0."
        ]
        assert found.systems.target_vel is None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"frame_in": 7}, "--frame-in: there is no frame 7; the frames are 0, 1, 2, 3, 4"),
            ({"frame_in": 0}, "--frame-in 0 is the first frame and the file has no velocities"),
            ({"frame_in": 3, "frame_out": 2}, "--frame-out 2 must come after --frame-in 3"),
        ],
    )
    def test_wrong_frames(self, tmp_path, options, message):
        with pytest.raises(InputError, match=message):
            read(save(tmp_path / "a.npz", {"loc": np.zeros((3, 5, 2, 3))}), **options)


class TestTables:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".csv.gz"])
    def test_formats(self, tmp_path, suffix):
        table = long_table()
        path = tmp_path / f"a{suffix}"
        if suffix == ".parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
        found, _ = read(path, frame_in=1, frame_out=3)
        systems, now = found.systems, table[table["frame"] == 1]
        assert systems.ids == ["run0", "run1", "run2", "run3"] and systems.entities == ["a", "b", "c"] * 4
        np.testing.assert_allclose(systems.pos, now[["x", "y", "z"]])
        np.testing.assert_allclose(systems.vel, now[["vx", "vy", "vz"]])
        np.testing.assert_allclose(systems.target_pos, table.loc[table["frame"] == 3, ["x", "y", "z"]])
        np.testing.assert_allclose(systems.target_vel, table.loc[table["frame"] == 3, ["vx", "vy", "vz"]])
        np.testing.assert_array_equal(systems.charge, now["charge"])
        assert systems.scalar_names == ["mass"] and systems.scalars[:3, 0].tolist() == [1, 2, 3]
        assert found.frames == (1, 3) and systems.horizon == 2

    def test_the_order_of_the_rows_does_not_matter(self, tmp_path):
        """Systems and bodies come in the order in which their names appear; their rows may be anywhere."""
        table = long_table()
        table.to_csv(tmp_path / "a.csv", index=False)
        now = table["frame"] == 0
        mixed = pd.concat([table[now], table[~now].sample(frac=1, random_state=0)])
        mixed.to_csv(tmp_path / "b.csv", index=False)
        first, second = (read(tmp_path / name)[0].systems for name in ("a.csv", "b.csv"))
        assert first.ids == second.ids and first.entities == second.entities
        np.testing.assert_allclose(first.pos, second.pos)
        np.testing.assert_allclose(first.target_pos, second.target_pos)

    def test_velocities_from_positions(self, tmp_path):
        table = long_table(velocities=False, frames=(10, 20, 40))
        table.to_csv(tmp_path / "a.csv", index=False)
        found, _ = read(tmp_path / "a.csv", frame_time=0.5)
        at = lambda frame: table.loc[table["frame"] == frame, ["x", "y", "z"]].to_numpy()
        np.testing.assert_allclose(found.systems.vel, (at(20) - at(10)) / 5)
        np.testing.assert_allclose(found.systems.target_pos, at(40))
        assert found.systems.horizon == 10 and "no velocities" in found.notes[0]

    def test_columns_by_option_and_systems_of_different_sizes(self, tmp_path):
        table = long_table(num=2).rename(
            columns={"id": "scene", "frame": "second", "entity": "who", "x": "east", "y": "north", "charge": "q"}
        )
        table = table[(table["scene"] != "run1") | (table["who"] != "b")].drop(columns=["z", "vz", "mass"])
        table["radius"] = 2.0
        table.to_csv(tmp_path / "a.csv", index=False)
        found, _ = read(
            tmp_path / "a.csv",
            id="scene",
            frame="second",
            entity="who",
            position=["east", "north"],
            velocity=["vx", "vy"],
            charge="q",
            scalars=["radius"],
        )
        systems = found.systems
        assert systems.sizes.tolist() == [3, 2] and systems.dim == 2 and systems.scalar_names == ["radius"]
        assert systems.entities == ["a", "b", "c", "a", "c"]

    def test_predictions_need_no_later_frame(self, tmp_path):
        table = long_table(frames=(0, 1))
        table.to_csv(tmp_path / "a.csv", index=False)
        systems = read(tmp_path / "a.csv", need_targets=False, frame_in=1, horizon=3.0)[0].systems
        assert systems.target_pos is None and systems.horizon == 3.0

    @pytest.mark.parametrize("suffix", [".csv", ".npz"])
    def test_predictions_read_later_positions_where_they_are_known(self, tmp_path, suffix):
        """Of tables and of runs alike; frame 3 comes 0.3 after frame 0, which no float says exactly."""
        table = long_table()
        later = table.index[table["frame"] == 3]
        if suffix == ".csv":
            table.loc[later[0], "x"] = np.nan
            twice = table.loc[[later[2]]]
            pd.concat([table.drop(later[1]), twice]).to_csv(tmp_path / "a.csv", index=False)
        else:
            shape = (4, 4, 3, 3)
            loc, vel = (
                table[names].to_numpy(copy=True).reshape(shape) for names in (["x", "y", "z"], ["vx", "vy", "vz"])
            )
            loc[0, 3] = np.nan
            save(tmp_path / "a.npz", {"loc": loc, "vel": vel})
        options = {"need_targets": False, "frame_time": 0.1, "horizon": 3 * 0.1}
        found, rejected = read(tmp_path / f"a{suffix}", **options)
        systems = found.systems
        assert found.frames == (0, 3) and len(systems) == 4 and rejected.empty
        expected = table.loc[later, ["x", "y", "z"]].to_numpy(copy=True)
        expected[0] = np.nan if suffix == ".npz" else [np.nan, *expected[0, 1:]]
        expected[1:3] = np.nan
        np.testing.assert_allclose(systems.target_pos, expected)
        assert read(tmp_path / f"a{suffix}", **{**options, "horizon": 0.15})[0].systems.target_pos is None

    def test_a_frame_found_from_a_time(self, tmp_path):
        """A model's time over the time between frames is a frame but for a rounding."""
        long_table().to_csv(tmp_path / "a.csv", index=False)
        assert 3 * 0.1 / 0.1 != 3
        assert read(tmp_path / "a.csv", frame_out=3 * 0.1 / 0.1)[0].frames == (0, 3)

    def faulty(self, tmp_path, change):
        table = long_table().astype(object)
        change(table)
        table.to_csv(tmp_path / "a.csv", index=False)
        return tmp_path / "a.csv"

    def set_cell(self, row, column, value):
        return lambda table: table.__setitem__(column, table[column].where(table.index != row, value))

    @pytest.mark.parametrize(
        ("row", "column", "value", "message"),
        [
            (0, "x", "abc", r"a\.csv:2: x = 'abc': not a finite number"),
            (12, "vy", "", r"a\.csv:14: vy = '': not a finite number"),
            (13, "charge", "nan", r"a\.csv:15: charge = 'nan': not a finite number"),
            (10, "z", "inf", r"a\.csv:12: z = 'inf': not a finite number"),
            (5, "frame", "late", r"a\.csv:7: frame = 'late': not a number"),
            (1, "entity", "a", r"a\.csv:3: entity = 'a': comes twice in one frame of a system"),
            (11, "entity", "d", r"a\.csv:4: entity = 'c': is missing in frame 3"),
        ],
    )
    def test_faults_name_their_place(self, tmp_path, row, column, value, message):
        path = self.faulty(tmp_path, self.set_cell(row, column, value))
        with pytest.raises(InputError, match=message):
            read(path)
        found, rejected = read(path, on_error="skip")
        assert len(found.systems) == 3 and len(rejected) == 1
        assert f"run{row // 12}" not in found.systems.ids

    def test_numbers_in_frames_that_are_not_used_do_not_matter(self, tmp_path):
        path = self.faulty(tmp_path, self.set_cell(4, "x", "abc"))
        assert len(read(path)[0].systems) == 4

    def test_a_system_without_the_frame(self, tmp_path):
        table = long_table()
        table[(table["id"] != "run2") | (table["frame"] != 0)].to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=r"a\.csv:26: id = 'run2': has no row with frame = 0"):
            read(tmp_path / "a.csv")
        assert read(tmp_path / "a.csv", on_error="skip")[0].systems.ids == ["run0", "run1", "run3"]

    @pytest.mark.parametrize(
        ("drop", "options", "message"),
        [
            (["id"], {}, "no column that names the system was found among .* Name it with --data.id-column"),
            (["frame"], {}, "no column that numbers the moments .* --data.frame-column"),
            (["entity"], {}, "no column that names the body .* --data.entity-column"),
            (["x", "y", "z"], {}, "no column that holds a coordinate .* --data.position-columns"),
            ([], {"id": "idd"}, "there is no column 'idd'. Did you mean 'id'"),
            ([], {"scalars": ["weight"]}, "there is no column 'weight'"),
            ([], {"velocity": ["vx", "vy"]}, r"--data.velocity-columns: got 2 \(vx, vy\), expected 3"),
            ([], {"kept": ["part"]}, "there is no column 'part'"),
        ],
    )
    def test_missing_columns(self, tmp_path, drop, options, message):
        long_table().drop(columns=drop).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "a.csv", **options)

    def test_one_frame_without_velocities(self, tmp_path):
        long_table(frames=(0,), velocities=False).to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(InputError, match="got one frame and no velocities"):
            read(tmp_path / "a.csv", need_targets=False)

    def test_blank_lines_are_passed_over(self, tmp_path):
        lines = long_table().to_csv(index=False).splitlines()
        lines.insert(3, "," * lines[0].count(","))
        (tmp_path / "a.csv").write_text("\n".join(lines[:5]) + "\n\n" + "\n".join(lines[5:]) + "\n")
        assert len(read(tmp_path / "a.csv")[0].systems) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "unknown file format '.txt'. Known: .npz, .csv, .tsv, .parquet"),
        ("a.csv", b"", "the file is empty"),
        ("a.npz", b"not a zip", "not an .npz file of plain arrays"),
        ("a.parquet", b"not parquet", "not a table"),
        ("a.csv", b"id,x\n\xff\xfe,1\n", "not a table"),
        ("a.csv", b"id,x\n1,2,3,4\n1,2,3,4,5\n", "not a table"),
        ("a.csv.gz", b"id,x", "not a table"),
        ("a.csv", b"id,frame,entity,x\n", "there is no row in the file"),
        ("a.csv", b"id,frame,entity,x,x\n1,1,1,1,1\n", "the header names column 'x' more than once"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_pickles_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", loc0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="not an .npz file of plain arrays"):
        read(tmp_path / "a.npz")


def test_no_such_file(tmp_path):
    save(tmp_path / "particles.npz", pair_arrays())
    with pytest.raises(InputError, match=r"no such file. Did you mean 'particles.npz'\?"):
        read(tmp_path / "particle.npz")


def test_gzip_is_really_unpacked(tmp_path):
    text = long_table().to_csv(index=False).encode()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text))
    assert len(read(tmp_path / "a.csv.gz")[0].systems) == 4


class TestDataModule:
    @pytest.fixture
    def parts(self, tmp_path):
        arrays = pair_arrays(5, prefix="train_") | pair_arrays(3, prefix="valid_") | pair_arrays(2, prefix="test_")
        return save(tmp_path / "a.npz", arrays)

    def test_the_files_own_parts_are_the_split(self, parts):
        data = DynamicsData(str(parts))
        data.setup()
        assert (
            data.split == {"train": [0, 1, 2, 3, 4], "valid": [5, 6, 7], "test": [8, 9]} and data.split_spec == "given"
        )

    def test_they_may_be_drawn_anew(self, parts):
        splits = []
        for seed in (0, 0, 1):
            data = DynamicsData(str(parts), split="random", split_seed=seed, val_fraction=0.2, test_fraction=0.3)
            data.setup()
            splits.append(data.split)
        assert splits[0] == splits[1] != splits[2]
        assert [len(rows) for rows in splits[0].values()] == [5, 2, 3]

    def test_a_column_of_a_table(self, tmp_path):
        table = long_table(num=4)
        table["part"] = table["id"].map({"run0": "train", "run1": "test", "run2": "valid", "run3": "train"})
        table.to_csv(tmp_path / "a.csv", index=False)
        data = DynamicsData(str(tmp_path / "a.csv"), split="column:part")
        data.setup()
        assert data.split == {"train": [0, 3], "valid": [2], "test": [1]}

    def test_an_epoch(self, parts):
        data = DynamicsData(str(parts), batch_size=2, seed=1)
        data.setup()
        loader = data.train_dataloader()
        orders = []
        for epoch in (0, 1, 0):
            loader.sampler.set_epoch(epoch)
            batches = list(loader)
            assert [batch.num_systems for batch in batches] == [2, 2, 1]
            orders.append(torch.cat([batch.target_pos for batch in batches]))
        whole = data.tensors[[0, 1, 2, 3, 4]].target_pos
        assert torch.equal(orders[0].sort(0).values, whole.sort(0).values), "every system once"
        assert torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[1])
        (test,) = data.test_dataloader()
        assert torch.equal(test.pos, data.tensors[[8, 9]].pos)

    def test_preprocess_is_fitted_to_the_training_part(self, tmp_path):
        """Units and the linear baseline do not look at the rest."""
        train = pair_arrays(4, prefix="train_")
        rest = {k: 1e6 * v for k, v in (pair_arrays(2, prefix="valid_") | pair_arrays(2, prefix="test_")).items()}
        data = DynamicsData(str(save(tmp_path / "a.npz", train | rest)))
        data.setup()
        assert data.units.length == 1.0
        flat = {k: v.astype(float).ravel() for k, v in train.items()}
        t = flat["train_vel0"] @ (flat["train_loc1"] - flat["train_loc0"]) / (flat["train_vel0"] @ flat["train_vel0"])
        assert data.preprocess["linear_time"] == pytest.approx(t)
        assert data.preprocess["quantities"] == {"dim": 3, "charge": True, "scalars": [], "edges": 0}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"frame_in": 1.0}, "--frame-in: the file holds the moments loc0 and loc1, and no frames"),
            ({"frame_out": 1.0}, "--frame-out: the file holds the moments loc0 and loc1, and no frames"),
            ({"velocities": True}, "the velocities at the later moment are not known"),
            ({"batch_size": 0}, "data.batch_size: got 0"),
            ({"horizon": 0.0}, "data.horizon: got 0.0, expected a number above 0"),
            ({"split": "randm"}, "Did you mean 'random'"),
            ({"split": "column:part"}, "there is no column 'part'"),
        ],
    )
    def test_wrong_options(self, parts, options, message):
        with pytest.raises(InputError, match=message):
            DynamicsData(str(parts), **options).setup()

    def test_given_needs_parts(self, tmp_path):
        with pytest.raises(InputError, match="'given' needs a file with parts"):
            DynamicsData(str(save(tmp_path / "a.npz", pair_arrays())), split="given").setup()

    def test_nothing_usable(self, tmp_path):
        arrays = pair_arrays(3)
        arrays["loc0"][:] = np.nan
        with pytest.raises(InputError, match="no usable system; 3 were rejected"):
            DynamicsData(str(save(tmp_path / "a.npz", arrays)), on_error="skip").setup()
