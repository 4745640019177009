import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geoattn.datasets.pointcloud_chunks import read_chunks
from geoattn.datasets.pointclouds import PointCloudData
from geoattn.domains.pointclouds.demo import CLASS_NAMES, SEGMENT_NAMES, demo_clouds, write_demo
from geoattn.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data/pointclouds"
FILES = ("modelnet10_voxels.npz", "psb_shapes.npz")


@pytest.fixture(scope="module")
def clouds():
    return demo_clouds(70, 32, seed=1)


@pytest.fixture(scope="module")
def folder(clouds, tmp_path_factory):
    """Ten clouds of each of seven classes, in folders of classes beside a table."""
    path = tmp_path_factory.mktemp("demo")
    write_demo(path, clouds)
    return path


def data_of(file, **options):
    data = PointCloudData(str(file), **{"progress": False, **options})
    data.setup()
    return data


def arrays_of(clouds, **changes):
    arrays = {
        "points": np.concatenate([cloud.points for cloud in clouds]),
        "ptr": np.cumsum([0, *(len(cloud) for cloud in clouds)]),
        "normals": np.concatenate([cloud.normals for cloud in clouds]),
        "segment": np.concatenate([cloud.segment for cloud in clouds]),
        "label": np.array([cloud.label for cloud in clouds]),
        "id": np.array([cloud.id for cloud in clouds]),
        "class_names": np.array(CLASS_NAMES),
        "segment_names": np.array(SEGMENT_NAMES),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def same_clouds(data, clouds, atol=1e-5):
    assert [cloud.id.split("/")[-1].split(".")[0] for cloud in data.clouds] == [cloud.id for cloud in clouds]
    for found, cloud in zip(data.clouds, clouds, strict=True):
        np.testing.assert_allclose(found.points, cloud.points, atol=atol)
        np.testing.assert_allclose(found.normals, cloud.normals, atol=atol)
        assert data.class_names[found.label] == CLASS_NAMES[cloud.label]


# --- what is read -----------------------------------------------------------------------------------------------------


def test_folders_of_classes(folder, clouds):
    data = data_of(folder)
    same_clouds(data, sorted(clouds, key=lambda cloud: cloud.id))
    assert data.class_names == list(CLASS_NAMES) and len(data.rejected) == 0
    assert data.notes == ["1 file of the folder was not read as point clouds: clouds.csv."]
    assert data.table.columns.tolist() == ["id", "file", "line", "label", "points"]
    assert data.table["id"][0] == "airplane/airplane_0000.xyz" and data.table["points"].tolist() == [32] * 70
    json.dumps(data.preprocess)
    assert data.preprocess["normals"] and data.preprocess["segments_of_class"] == {}


def test_a_table_of_files(folder, clouds):
    data = data_of(folder / "clouds.csv")
    same_clouds(data, clouds)
    assert data.split_spec == "given" and data.table["line"].tolist() == list(range(2, 72))
    assert {data.table["split"][row] for row in data.split["test"]} == {"test"} and len(data.split["test"]) == 14
    pd.read_csv(folder / "clouds.csv").rename(columns={"file": "Where", "label": "Kind"}).to_parquet(
        folder / "clouds.parquet"
    )
    other = data_of(folder / "clouds.parquet", file_column="where", label_column="Kind")
    assert other.table["label"].tolist() == data.table["label"].tolist()


def test_one_file_of_many_clouds(tmp_path, clouds):
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, fold=np.arange(70) % 5))
    data = data_of(tmp_path / "a.npz", task="segmentation", split="column:fold=2")
    same_clouds(data, clouds, atol=1e-7)
    assert data.split["test"] == list(range(2, 70, 5))
    assert data.preprocess["segment_names"] == list(SEGMENT_NAMES)
    assert data.preprocess["segments_of_class"]["mug"] == ["mug body", "mug handle"]
    assert {cloud.points.dtype for cloud in data.clouds} == {np.dtype(np.float32)}
    np.savez(tmp_path / "b.npz", **arrays_of(clouds, label=np.array([CLASS_NAMES[c.label] for c in clouds])))
    same_clouds(data_of(tmp_path / "b.npz"), clouds)


@pytest.mark.parametrize("above", [True, False])
def test_folders_of_parts(tmp_path, clouds, above):
    for k, cloud in enumerate(clouds):
        part = "test" if k % 10 == 0 else "train"
        place = tmp_path / (f"{part}/{CLASS_NAMES[cloud.label]}" if above else f"{CLASS_NAMES[cloud.label]}/{part}")
        place.mkdir(parents=True, exist_ok=True)
        np.savetxt(place / f"{k}.xyz", cloud.points)
    data = data_of(tmp_path)
    assert data.split_spec == "given" and len(data.split["test"]) == 7 and len(data.split["valid"]) == 6
    assert all("test" in Path(cloud.id).parts for cloud in data.part("test"))
    assert data.class_names == list(CLASS_NAMES)


def test_files_in_no_folder(tmp_path, clouds):
    for cloud in clouds[:9]:
        np.save(tmp_path / f"{cloud.id}.npy", np.column_stack([cloud.points, cloud.normals, cloud.segment]))
    assert len(data_of(tmp_path, task="segmentation").clouds) == 9
    with pytest.raises(InputError, match="no sub-folders, and sub-folders name the classes. Put .* table") as caught:
        data_of(tmp_path)
    assert "--on-error" not in str(caught.value)
    for part, k in (("train", 0), ("val", 1), ("test", 2)):
        (tmp_path / "named" / part).mkdir(parents=True)
        np.save(tmp_path / "named" / part / "a.npy", clouds[k].points)
    with pytest.raises(InputError, match=r"sub-folders \(test, train, val\) are parts of a split, .* columns file and"):
        data_of(tmp_path / "named")


def test_files_beside_the_folders_of_classes(tmp_path, clouds):
    write_demo(tmp_path, clouds[:28])
    preprocess = data_of(tmp_path).preprocess
    np.savetxt(tmp_path / "loose.xyz", clouds[0].points)
    for name in ("notes.txt", "names.txt", *(f"{k}.md" for k in range(6))):
        (tmp_path / name).write_text("mug\nlamp\n" if name == "names.txt" else "1 of them is bad\n")
    note = "9 files of the folder were not read as point clouds: 0.md, 1.md, 2.md, 3.md, 4.md and 4 more."
    (chunk,) = read_chunks(tmp_path, preprocess)
    assert [cloud.id for cloud in chunk.clouds].count("loose.xyz") == 1 and len(chunk.clouds) == 29
    assert chunk.notes == [note]
    with pytest.raises(InputError, match=r"loose.xyz.*the class of the cloud is not known"):
        data_of(tmp_path)
    data = data_of(tmp_path, on_error="skip")
    assert len(data.clouds) == 28 and data.rejected["value"].tolist() == ["loose.xyz"] and note in data.notes


def test_the_numbers_of_classes_of_points_may_have_gaps(tmp_path, clouds):
    gaps = [np.where(cloud.segment == 14, -1, 3 * cloud.segment) for cloud in clouds]
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, segment=np.concatenate(gaps), segment_names=None))
    data = data_of(tmp_path / "a.npz", task="segmentation")
    assert data.segment_names == [str(3 * k) for k in range(17) if k != 14]
    for cloud, before in zip(data.clouds, clouds, strict=True):
        wanted = [-1 if k == 14 else k - (k > 14) for k in before.segment]
        np.testing.assert_array_equal(cloud.segment, wanted)


def test_many_files_are_read_in_processes(folder, clouds, monkeypatch):
    monkeypatch.setattr("geoattn.datasets.pointcloud_sets.LARGE", 0)
    same_clouds(data_of(folder / "clouds.csv", processes=2), clouds)


# --- notes and errors -------------------------------------------------------------------------------------------------


def test_notes_about_units_formats_and_columns(tmp_path, clouds):
    for k, cloud in enumerate(clouds[:12]):
        (tmp_path / CLASS_NAMES[cloud.label]).mkdir(exist_ok=True)
        rows = np.column_stack([cloud.points * (1000 if k == 4 else 1), np.full(32, 0.5)])
        if k % 3:
            np.savetxt(tmp_path / CLASS_NAMES[cloud.label] / f"{k}.xyz", rows)
        else:
            np.save(tmp_path / CLASS_NAMES[cloud.label] / f"{k}.npy", rows)
    (tmp_path / "mug" / "readme.md").write_text("hello")
    notes = " ".join(data_of(tmp_path).notes)
    for said in (
        "1 file of the folder was not read as point clouds: mug/readme.md.",
        ".xyz (8), .npy (4)",
        "In 12 of 12 clouds, column 4",
        "Sizes differ by a factor",
        "4.xyz",
        "millimetres",
    ):
        assert said in notes


def test_bad_files_are_skipped_and_listed(tmp_path, clouds):
    write_demo(tmp_path, clouds)
    bad = {"chair/chair_0003.xyz": "", "mug/mug_0005.xyz": "1 2 3\n1 nan 2\n", "lamp/new.ply": "nothing\n"}
    for name, content in bad.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="chair_0003.xyz: file: .*empty.*--on-error skip"):
        data_of(tmp_path)
    data = data_of(tmp_path, on_error="skip", min_points=10)
    assert len(data.clouds) == 68 and len(data.rejected) == 3
    rejected = data.rejected.set_index("file")
    assert rejected.loc[str(tmp_path / "mug/mug_0005.xyz"), "line"] == 2
    assert "empty" in rejected.loc[str(tmp_path / "chair/chair_0003.xyz"), "reason"]
    (tmp_path / "clouds.csv").write_text(
        "file,label\nchair/chair_0010.xyz,chair\nchair/none.xyz,chair\n,chair\nmug/x,\n"
    )
    with pytest.raises(InputError, match="clouds.csv:4: file = '': the row names no file"):
        data_of(tmp_path / "clouds.csv")
    (tmp_path / "b.csv").write_text("file,label\nchair/chair_0010.xyz,chair\nchair/none.xyz,chair\n")
    with pytest.raises(InputError, match=r"b.csv:3: file = 'none.xyz': no such file"):
        data_of(tmp_path / "b.csv")
    with pytest.raises(InputError, match="1 usable cloud: too few"):
        data_of(tmp_path / "clouds.csv", on_error="skip")


@pytest.mark.parametrize("task", ["classification", "segmentation", "normals"])
def test_what_a_task_needs(tmp_path, clouds, task):
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, label=None, segment=None, normals=None))
    with pytest.raises(InputError, match="a.npz: .*not known|a.npz: .*no normals"):
        data_of(tmp_path / "a.npz", task=task)
    with pytest.raises(InputError, match="no usable cloud; 70 were rejected"):
        data_of(tmp_path / "a.npz", task=task, on_error="skip")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ptr": np.array([0, 5])}, "ptr: got shape (2,) of int64 from 0 to 5"),
        ({"ptr": np.array([0.0, 2240.0])}, "ptr: got"),
        ({"ptr": np.array(5)}, "ptr: got shape () of int64, expected whole numbers"),
        ({"points": np.float32(1)}, "points: got shape ()"),
        ({"class_names": np.array("mug")}, "class_names: got shape ()"),
        ({"points": np.zeros((2240, 2))}, "points: got shape (2240, 2)"),
        ({"normals": np.zeros((10, 3))}, "normals: got shape (10, 3)"),
        (
            {"label": np.arange(70)},
            "label: got shape (70,) of int64 from 0 to 69, expected whole numbers 0 to 6 (places",
        ),
        ({"label": np.full(70, np.nan), "class_names": None}, "label: got shape (70,) of float64 from nan to nan, exp"),
        ({"label": np.arange(70) / 2, "class_names": None}, "label: got shape (70,) of float64 from 0.0 to 34.5, exp"),
        ({"label": np.arange(70) - 2, "class_names": None}, "expected whole numbers, -1 where the class is not known"),
        ({"label": np.array(["sofa"] * 70)}, "'sofa' is not among class_names"),
        ({"weight": np.zeros(3)}, "weight: got shape (3,)"),
        ({"segment_names": np.array(["a"])}, "numbers below 1"),
    ],
)
def test_arrays_that_do_not_fit_together(tmp_path, clouds, changes, said):
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, **changes))
    with pytest.raises(InputError) as caught:
        data_of(tmp_path / "a.npz")
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", [float, str])
@pytest.mark.parametrize("named", [True, False])
def test_classes_of_arrays_that_are_not_known(tmp_path, clouds, kind, named):
    label = np.array([-1 if k in (3, 8) else cloud.label for k, cloud in enumerate(clouds)])
    label = np.array(["", *CLASS_NAMES])[label + 1] if kind is str else label.astype(float)
    whole = (arrays_of(clouds)["points"] * 100).astype(np.int32)
    changes = {"label": label, "points": whole, "class_names": np.array(CLASS_NAMES) if named else None}
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, **changes))
    data = data_of(tmp_path / "a.npz", on_error="skip")
    names = CLASS_NAMES if named else sorted(set(CLASS_NAMES)) if kind is str else [str(k) for k in range(7)]
    assert data.class_names == list(names) and data.clouds[0].points.dtype == np.float32
    assert data.rejected["value"].tolist() == [clouds[3].id, clouds[8].id]
    right = [
        CLASS_NAMES[c.label] if named or kind is str else str(c.label)
        for c in clouds
        if c.id not in (clouds[3].id, clouds[8].id)
    ]
    assert data.table["label"].tolist() == right


def test_a_bad_cloud_among_arrays_is_named(tmp_path, clouds):
    points = arrays_of(clouds)["points"].copy()
    points[40] = np.nan
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, points=points))
    with pytest.raises(InputError, match="cloud barbell_0001, point 8"):
        data_of(tmp_path / "a.npz")


def test_ids_differ(folder, tmp_path, clouds):
    names = np.array([cloud.id for cloud in clouds])
    names[30] = names[7]
    np.savez(tmp_path / "a.npz", **arrays_of(clouds, id=names))
    with pytest.raises(InputError, match=rf"a.npz: id: '{names[7]}' stands in rows 7 and 30. Ids must differ"):
        data_of(tmp_path / "a.npz")
    table = pd.read_csv(folder / "clouds.csv").assign(id=names)
    table.to_csv(folder / "twice.csv", index=False)
    with pytest.raises(InputError, match=rf"twice.csv:32: '{names[7]}' is also the id of line 9. Ids must"):
        data_of(folder / "twice.csv")
    (folder / "twice.csv").unlink()


def test_folders_that_cannot_be_understood(tmp_path, clouds):
    with pytest.raises(InputError, match="no point cloud"):
        data_of(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        data_of(tmp_path / "none")
    for place in ("train/mug", "mug", "a/b/c"):
        (tmp_path / place).mkdir(parents=True)
    np.savetxt(tmp_path / "train/mug/a.xyz", clouds[0].points)
    np.savetxt(tmp_path / "mug/a.xyz", clouds[0].points)
    with pytest.raises(
        InputError, match="1 of 2 files stand in folders of parts.*if 'train' is a class, list the files in a table"
    ):
        data_of(tmp_path)
    np.savetxt(tmp_path / "a/b/c/a.xyz", clouds[0].points)
    with pytest.raises(InputError, match="3 folders deep"):
        data_of(tmp_path)


def test_options_that_cannot_be():
    for options, said in (
        ({"task": "segmention"}, "'segmentation'"),
        ({"batch_size": 0}, "--data.batch-size: got 0"),
        ({"on_error": "go"}, "--on-error"),
    ):
        with pytest.raises(InputError, match=said):
            data_of("none", **options)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["random", "kfold:5:2"])
def test_drawn_splits_have_all_classes_in_every_part(folder, split):
    data = data_of(folder, split=split, val_fraction=0.1, test_fraction=0.2)
    rows = [row for part in data.split.values() for row in part]
    assert sorted(rows) == list(range(70)) and len(data.split["test"]) == 14
    counts = data.table["label"][data.split["test"]].value_counts()
    assert len(counts) == 7 and set(counts) == {2}
    assert data.table["label"][data.split["valid"]].nunique() >= 5
    assert data.split == data_of(folder, split=split, val_fraction=0.1, test_fraction=0.2).split
    other = data_of(folder, split=split, val_fraction=0.1, test_fraction=0.2, split_seed=1)
    assert data.split != other.split


@pytest.mark.parametrize("split", ["random", "column:fold=a"])
def test_classes_of_one_cloud_are_learned(folder, tmp_path, split):
    table = pd.read_csv(folder / "clouds.csv").drop(columns="split").assign(fold=["a"] * 7 + ["b"] * 63)
    table["file"] = [str(folder / name) for name in table["file"]]
    rare = [f"rare {k}" for k in range(10)]
    table.loc[20:29, "label"] = rare
    table.to_csv(tmp_path / "a.csv", index=False)
    noted = set()
    for seed in range(4):
        data = data_of(tmp_path / "a.csv", split=split, split_seed=seed, val_fraction=0.2, test_fraction=0.3)
        assert {*rare} <= {*data.table["label"][data.split["train"]]}
        assert sorted(row for part in data.split.values() for row in part) == list(range(70))
        sizes = {"random": [35, 14, 21], "column:fold=a": [50, 13, 7]}[split]
        assert [len(part) for part in data.split.values()] == sizes
        noted.update(data.notes)
    assert noted and all(note.startswith("Classes with too few clouds") and "rare" in note for note in noted)


def test_groups_stay_together(folder, tmp_path):
    table = pd.read_csv(folder / "clouds.csv").drop(columns="split")
    table["file"] = [str(folder / name) for name in table["file"]]
    for name, group in (("equal", np.arange(70) % 14), ("three", np.arange(70) % 3), ("two", np.arange(70) % 2)):
        table[name] = [f"object {k}" for k in group]
    table["gap"] = ["a", "b", "c", ""] + ["d"] * 66
    table.to_csv(tmp_path / "a.csv", index=False)

    def parts_of(column, **options):
        data = data_of(tmp_path / "a.csv", split=f"group:{column}", **options)
        assert sorted(row for part in data.split.values() for row in part) == list(range(70))
        found = [{*data.table[column].iloc[rows]} for rows in data.split.values()]
        assert sum(map(len, found)) == len(set.union(*found)) and data.split_spec == f"group:{column}"
        return [len(part) for part in data.split.values()], found

    sizes, found = parts_of("equal", val_fraction=0.15, test_fraction=0.2)
    assert np.abs(np.array(sizes) - [46, 10, 14]).max() <= 5
    assert found != parts_of("equal", val_fraction=0.15, test_fraction=0.2, split_seed=1)[1]
    assert sorted(parts_of("three")[0]) == [23, 23, 24]
    for column, said in (
        ("two", "2 values, too few groups"),
        ("gap", "empty for cloud 'chair"),
        ("tow", "no column 'tow'"),
    ):
        with pytest.raises(InputError, match=said):
            parts_of(column)


def test_folds_share_nothing_and_cover_all(folder):
    tests = [data_of(folder, split=f"kfold:4:{k}").split["test"] for k in range(4)]
    assert sorted(row for test in tests for row in test) == list(range(70))


def test_splits_by_a_file_and_bad_ones(folder, tmp_path):
    ids = [f"mug/mug_{k:04d}.xyz" for k in (5, 12)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    data = data_of(folder, split=f"file:{tmp_path / 'ids.txt'}")
    assert data.table["id"][data.split["test"]].tolist() == ids
    assert data.table["label"][data.split["valid"]].nunique() >= 6
    for split, said in (
        ("given", "need"),
        ("scaffold", "molecules"),
        ("randm", "random"),
        ("column:fold", "no column 'fold'"),
        ("kfold:5:7", "I 0..K-1"),
    ):
        with pytest.raises(InputError, match=said):
            data_of(folder, split=split)


def test_classes_that_cannot_be_learned_are_noted(folder, tmp_path, clouds):
    table = pd.read_csv(folder / "clouds.csv").assign(split=lambda t: np.where(t["label"] == "mug", "test", "train"))
    table["file"] = [str(folder / name) for name in table["file"]]
    table.to_csv(tmp_path / "a.csv", index=False)
    data = data_of(tmp_path / "a.csv")
    assert data.notes == ["The training part has no mug, which other parts have."]
    data.check_labels()
    table[table["label"].isin(["mug", "chair"])].to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(InputError, match="1 class, expected at least 2"):
        data_of(tmp_path / "b.csv").check_labels()


# --- batches ----------------------------------------------------------------------------------------------------------


class Numbers:
    """A featurizer that draws one number for each cloud."""

    def __call__(self, cloud, rng):
        return cloud.id, float(rng.random())

    def collate(self, samples):
        return dict(samples)


def epoch_of(data, epoch, **options):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [item for batch in loader for item in batch.items()]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_from_seed_and_epoch(folder, num_workers):
    data = data_of(folder, batch_size=8, num_workers=num_workers, seed=3)
    with pytest.raises(RuntimeError, match="use"):
        data.train_dataloader()
    data.use(Numbers())
    alone = data_of(folder, batch_size=8, seed=3)
    alone.use(Numbers())
    first = epoch_of(data, 0)
    assert first == epoch_of(alone, 0) and sorted(dict(first)) == sorted(cloud.id for cloud in data.part("train"))
    later = epoch_of(data, 5)
    assert [name for name, _ in first] != [name for name, _ in later]
    assert not {number for _, number in first} & {number for _, number in later}
    valid = [item for batch in data.val_dataloader() for item in batch.items()]
    assert [name for name, _ in valid] == [cloud.id for cloud in data.part("valid")]
    assert valid == [item for batch in data.val_dataloader() for item in batch.items()]
    assert sum(map(len, data.predict_dataloader())) == 70 and sum(map(len, data.test_dataloader())) == 7


def test_training_may_have_a_featurizer_of_its_own(folder):
    data = data_of(folder)
    train, evaluate = Numbers(), Numbers()
    data.use(train, evaluate)
    assert data.train_dataloader().dataset.featurizer is train
    assert data.val_dataloader().dataset.featurizer is evaluate


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_chunks_for_prediction(folder, tmp_path, clouds):
    data = data_of(folder, task="segmentation")
    chunks = list(read_chunks(folder / "clouds.csv", data.preprocess, chunk_size=30))
    assert [len(chunk.clouds) for chunk in chunks] == [30, 30, 10]
    assert [cloud.id for chunk in chunks for cloud in chunk.clouds] == [cloud.id for cloud in clouds]
    assert all(cloud.label is None and cloud.segment is None for chunk in chunks for cloud in chunk.clouds)
    assert chunks[1].table["label"].tolist() == [CLASS_NAMES[cloud.label] for cloud in clouds[30:60]]
    after = list(read_chunks(folder / "clouds.csv", data.preprocess, chunk_size=30, skip=2))
    assert [chunk.number for chunk in after] == [2]
    (one,) = read_chunks(folder / "mug/mug_0005.xyz", data.preprocess)
    np.testing.assert_allclose(one.clouds[0].points, clouds[5].points, atol=1e-5)


def test_chunks_with_labels_have_the_numbers_of_the_model(folder, tmp_path, clouds):
    preprocess = data_of(folder, task="segmentation").preprocess | {"class_names": [*CLASS_NAMES[::-1]]}
    few = [cloud for cloud in clouds if CLASS_NAMES[cloud.label] in ("mug", "table")]
    np.savez(tmp_path / "a.npz", **arrays_of(few, segment_names=None))
    (chunk,) = read_chunks(tmp_path / "a.npz", preprocess, need_labels=True)
    for cloud, before in zip(chunk.clouds, few, strict=True):
        assert preprocess["class_names"][cloud.label] == CLASS_NAMES[before.label]
        names = [preprocess["segment_names"][k] for k in cloud.segment]
        assert names == [str(k) for k in before.segment]
    preprocess["segment_names"] = preprocess["segment_names"][:1]
    (chunk,) = read_chunks(tmp_path / "a.npz", preprocess, need_labels=True, on_error="skip")
    assert len(chunk.rejected) == len(few) - len(chunk.clouds) > 0 and "class of points" in chunk.rejected["reason"][0]
    preprocess |= {"task": "classification", "class_names": ["cup"]}
    with pytest.raises(InputError, match="does not know the class"):
        list(read_chunks(tmp_path / "a.npz", preprocess, need_labels=True))


def test_chunks_list_bad_files(tmp_path, folder, clouds):
    preprocess = data_of(folder).preprocess
    write_demo(tmp_path, clouds[:14])
    (tmp_path / "mug/mug_0005.xyz").write_text("")
    chunks = list(read_chunks(tmp_path, preprocess, chunk_size=10, on_error="skip"))
    assert [len(chunk.rejected) for chunk in chunks] == [0, 1] and [len(chunk.clouds) for chunk in chunks] == [10, 3]


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the arrays of the real sets")
@pytest.mark.slow
def test_the_converted_sets_are_read(tmp_path):
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "benchmarks/pointclouds_to_npz.py"
    subprocess.run([sys.executable, str(script), str(SHARED), str(tmp_path)], check=True, capture_output=True)
    data = data_of(tmp_path / "modelnet10.npz")
    assert len(data.clouds) == 3984 + 453 and len(data.class_names) == 10 and len(data.split["test"]) == 453
    data = data_of(tmp_path / "princeton.npz", split="column:fold=0")
    assert len(data.clouds) == 266 and data.preprocess["normals"] and not data.notes
