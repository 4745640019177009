import json

import numpy as np
import pytest
from PIL import Image

from geoattn.datasets.multiview import MultiviewData
from geoattn.datasets.multiview_arrays import read_npz, write_npz
from geoattn.datasets.multiview_colmap import read_colmap, write_colmap
from geoattn.datasets.multiview_files import read_scenes
from geoattn.datasets.multiview_nerf import read_nerf, write_nerf
from geoattn.datasets.multiview_raw import finish, on_white
from geoattn.domains.multiview.records import camera_distance
from geoattn.domains.multiview.scenes import make_scenes
from geoattn.errors import InputError


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(12, 5, 16, supersample=1)


def data_of(file, **options):
    data = MultiviewData(str(file), **{"progress": False, **options})
    data.setup()
    return data


def same(found, scene):
    assert (found.images == scene.images).all()
    np.testing.assert_allclose(found.extrinsics, scene.extrinsics, atol=1e-9, rtol=0)
    np.testing.assert_allclose(found.intrinsics, scene.intrinsics, atol=1e-9, rtol=0)
    assert [view.split("/")[-1].split(".")[0] for view in found.views] == scene.views


def broken(scene, **changes):
    return type(scene)(**(vars(scene) | changes))


# --- what is read -----------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_scene(tmp_path, scenes):
    scene = scenes[0]
    write_nerf(tmp_path / "nerf", scene)
    write_colmap(tmp_path / "colmap", scene)
    write_npz(tmp_path / "a.npz", scenes)
    same(finish(read_nerf(tmp_path / "nerf"), None), scene)
    same(finish(read_colmap(tmp_path / "colmap"), None), scene)
    for raw, one in zip(read_npz(tmp_path / "a.npz"), scenes, strict=True):
        same(finish(raw, None), one)
        assert raw.id == one.id


def test_blender_files_of_parts(tmp_path, scenes):
    """camera_angle_x, no suffix, parts in three files, transparent images: as the NeRF scenes come."""
    scene, parts = scenes[0], {"train": [0, 1, 2], "val": [3], "test": [4]}
    for part, rows in parts.items():
        frames = []
        (tmp_path / part).mkdir()
        for row in rows:
            image = np.dstack([scene.images[row], np.full((16, 16), 255, np.uint8)])
            image[:, :3, 3] = 0
            Image.fromarray(image).save(tmp_path / part / f"r_{row}.png")
            matrix = np.linalg.inv(scene.extrinsics[row]) @ np.diag([1, -1, -1, 1])
            frames.append({"file_path": f"./{part}/r_{row}", "transform_matrix": matrix.tolist()})
        angle = 2 * np.arctan(8 / scene.intrinsics[0, 0, 0])
        (tmp_path / f"transforms_{part}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    data = data_of(tmp_path)
    assert data.by_view and data.split_spec == "given" and data.split == {"train": [0, 1, 2], "valid": [3], "test": [4]}
    found = data.scenes[0]
    order = [int(view[-1]) for view in found.views]
    assert (found.images[:, :, :3] == 255).all() and (found.images[:, :, 3:] == scene.images[order][:, :, 3:]).all()
    np.testing.assert_allclose(found.intrinsics, scene.intrinsics, atol=1e-9)
    poses = found.extrinsics.copy()
    poses[:, :3, 3] *= found.scale
    np.testing.assert_allclose(poses, scene.extrinsics[order], atol=1e-9)
    for part in ("valid", "test"):
        (trial,) = data.part(part)
        assert trial.target == data.split[part][0] and set(trial.inputs) <= {0, 1, 2} and len(trial.inputs) == 2
    assert all(trial.target not in trial.inputs for trial in data.part("train"))


def test_images_are_cut_and_averaged_and_cameras_follow(tmp_path, scenes):
    scene = scenes[0]
    wide = np.concatenate([np.zeros((5, 16, 4, 3), np.uint8), scene.images, np.zeros((5, 16, 4, 3), np.uint8)], axis=2)
    cameras = scene.intrinsics.copy()
    cameras[:, 0, 2] += 4
    write_npz(tmp_path / "a.npz", [broken(scene, images=wide, intrinsics=cameras)])
    found = read_scenes(tmp_path / "a.npz", 8).scenes[0]
    np.testing.assert_allclose(found.images, scene.images.reshape(5, 8, 2, 8, 2, 3).mean(axis=(2, 4)), atol=0.51)
    np.testing.assert_allclose(found.intrinsics[:, :2], scene.intrinsics[:, :2] / 2, atol=1e-12)
    uneven = read_scenes(tmp_path / "a.npz", 5).scenes[0]  # pixels of 3.2 old ones
    assert abs(uneven.images.mean() - scene.images.mean()) < 0.5


def test_transparent_parts_become_white():
    assert on_white(np.array([[200, 100, 0, 0], [200, 100, 0, 255], [200, 100, 0, 51]], np.uint8)).tolist() == [
        [255, 255, 255], [200, 100, 0], [244, 224, 204]
    ]  # fmt: skip


def test_folders_of_scenes_with_parts_or_a_table(tmp_path, scenes):
    for k, scene in enumerate(scenes[:6]):
        write_nerf(tmp_path / "parts" / ("test" if k < 2 else "train") / scene.id, scene)
        (write_colmap if k % 2 else write_nerf)(tmp_path / "table" / scene.id, scene)
    data = data_of(tmp_path / "parts")
    assert data.split_spec == "given" and {data.table["id"][row] for row in data.split["test"]} == {
        "test/scene_0000", "test/scene_0001"
    }  # fmt: skip
    lines = ["id,room"] + [f"{scene.id},{'kitchen' if k < 2 else 'hall'}" for k, scene in enumerate(scenes[:6])]
    (tmp_path / "table/scenes.csv").write_text("\n".join(lines))
    data = data_of(tmp_path / "table", split="column:room=kitchen")
    assert data.split["test"] == [0, 1] and not data.by_view


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory, scenes):
    path = tmp_path_factory.mktemp("scenes") / "a.npz"
    write_npz(path, scenes, fold=[str(k % 3) for k in range(12)])
    return path


def test_batches_of_scenes(file):
    data = data_of(file, split="column:fold=1", rays=50, batch_size=4)
    data.check_labels()
    assert data.split["test"] == [1, 4, 7, 10] and len(data.part("test")) == 4 * 3
    batch = next(iter(data.train_dataloader()))
    shapes = [tuple(getattr(batch, name).shape) for name in batch.__dataclass_fields__]
    assert shapes == [
        (4, 2, 3, 16, 16), (4, 2, 4, 4), (4, 2, 3, 3), (4, 3, 4, 4), (4, 3, 3, 3), (4, 3, 50, 2), (4, 3, 50, 3)
    ]  # fmt: skip
    batches = list(data.test_dataloader())
    assert [len(b) for b in batches] == [4, 4, 4] and batches[0].colors.shape == (4, 1, 256, 3)
    truth = np.stack([trial.truth for trial in data.part("test")[:4]])
    np.testing.assert_allclose(batches[0].colors.reshape(4, 16, 16, 3), truth, atol=1e-6)
    json.dumps(data.preprocess)


def test_drawing_repeats_and_changes_with_the_epoch(file):
    def images(data, epoch):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return np.concatenate([batch.images.numpy() for batch in loader])

    a, b = data_of(file), data_of(file)
    assert (images(a, 3) == images(b, 3)).all() and (images(a, 3) != images(a, 4)).any()
    assert (images(a, 3) == images(data_of(file, num_workers=1), 3)).all()
    trials = {trial.scene.id: trial.inputs for trial in a.part("test")}
    other = data_of(file, split="column:fold=1")  # the views that are given do not depend on the split
    again = {t.scene.id: t.inputs for part in ("train", "valid", "test") for t in other.part(part)}
    assert all(again[name] == inputs for name, inputs in trials.items())


def test_units_of_length(file, scenes):
    each, one = data_of(file), data_of(file, unit="data")
    assert each.preprocess["unit"] is None and {scene.scale for scene in each.scenes} == {1.0}
    trials = [*each.part("train"), *each.part("test")]
    for trial in trials:  # in the unit of the given views alone
        assert camera_distance(trial.scene.take(trial.inputs)) == pytest.approx(1, abs=1e-12)
    assert len({trial.scene.scale for trial in trials}) > 6
    for batch in each.train_dataloader():
        places = -(batch.extrinsics[..., :3, :3].mT @ batch.extrinsics[..., :3, 3:])[..., 0]
        np.testing.assert_allclose((places - places.mean(1, keepdim=True)).norm(dim=-1).mean(1), 1, atol=1e-5)
    assert {scene.scale for scene in one.scenes} == {one.preprocess["unit"]} and "divided by" in one.notes[-1]
    np.testing.assert_allclose(
        one.scenes[3].extrinsics[:, :3, 3] * one.preprocess["unit"], scenes[3].extrinsics[:, :3, 3]
    )


def test_given_views_without_a_unit_of_length_are_refused(tmp_path, file, scenes):
    with pytest.raises(InputError, match="one given view knows no unit.*--data.unit data"):
        data_of(file, num_inputs=1)
    assert data_of(file, num_inputs=1, unit="data").drawing.num_inputs == 1
    poses = scenes[3].extrinsics.copy()
    poses[2, :3, 3] = -poses[2, :3, :3] @ np.linalg.inv(poses[1])[:3, 3]  # turned on the spot
    write_npz(tmp_path / "a.npz", [*scenes[:3], broken(scenes[3], extrinsics=poses)])
    with pytest.raises(InputError, match="scene_0003.*view_001 view_002.*stand in one place.*--data.unit data"):
        data_of(tmp_path / "a.npz")
    assert data_of(tmp_path / "a.npz", on_error="skip").rejected["line"].tolist() == [3]
    assert len(data_of(tmp_path / "a.npz", unit="data").scenes) == 4


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_scenes_stop_or_are_listed(tmp_path, scenes):
    poses = scenes[3].extrinsics.copy()
    poses[2, 0, 0] = np.nan
    bad = [*scenes[:3], broken(scenes[3], extrinsics=poses), *scenes[4:]]
    write_npz(tmp_path / "a.npz", bad)
    with pytest.raises(InputError, match=r"a\.npz: scene 'scene_0003': pose of view_002 .* not finite"):
        data_of(tmp_path / "a.npz")
    data = data_of(tmp_path / "a.npz", on_error="skip")
    assert len(data.scenes) == 11 and data.rejected["line"].tolist() == [3]


def mirrored(scene):
    poses = scene.extrinsics.copy()
    poses[1, 0] *= -1
    return {"extrinsics": poses}


def scaled(scene):
    return {"extrinsics": scene.extrinsics * np.array([1.1, 1.1, 1.1, 1])[:, None]}


def rounded(scene):
    return {"extrinsics": scene.extrinsics.round(2)}


def transposed(scene):
    return {"extrinsics": scene.extrinsics.swapaxes(1, 2)}


def camera(**entries):
    def change(scene):
        cameras = scene.intrinsics.copy()
        for name, value in entries.items():
            cameras[2, {"fx": 0, "cx": 0, "k": 2}[name], {"fx": 0, "cx": 2, "k": 0}[name]] = value
        return {"intrinsics": cameras}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (mirrored, "left-handed"),
        (scaled, r"R\^T R off the identity"),
        (transposed, "last row"),
        (rounded, "project it onto rotations by an SVD"),
        (camera(fx=-3.0), "above 0"),
        (camera(fx=np.nan), "not numbers"),
        (camera(cx=17.0), "outside the image of 16 x 16"),
        (camera(k=1.0), "expected"),
        (lambda scene: {"views": ["a"] * 5}, "two images"),
        (lambda scene: {"id": "scene_0000"}, "two scenes have this name"),
    ],
)
def test_cameras_that_cannot_be(tmp_path, scenes, change, message):
    write_npz(tmp_path / "a.npz", [*scenes[:3], broken(scenes[3], **change(scenes[3]))])
    with pytest.raises(InputError, match=message):
        data_of(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extrinsics": None}, "there is no array 'extrinsics'"),
        ({"extrinsics": np.zeros((2, 4, 4, 4))}, "one pose per image"),
        ({"intrinsics": np.zeros((2, 3, 3))}, "intrinsics: got shape"),
        ({"images": np.full((2, 5, 8, 8, 3), 255.0)}, "expected uint8 or numbers in 0..1"),
        ({"images": np.full((2, 5, 8, 8, 3), np.nan)}, "expected uint8 or numbers in 0..1"),
        ({"images": np.zeros((2, 5, 8, 8), np.uint8)}, r"expected \[S, V, H, W, 3\]"),
        ({"id": np.arange(3)}, "id: got shape"),
        ({"images": np.zeros((2, 0, 8, 8, 3), np.uint8), "extrinsics": np.zeros((2, 0, 4, 4)),
          "intrinsics": np.eye(3)}, "fewer than 3"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(tmp_path, change, message):
    arrays = {
        "images": np.zeros((2, 5, 8, 8, 3), np.uint8),
        "extrinsics": np.tile(np.eye(4), (2, 5, 1, 1)),
        "intrinsics": np.array([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]),
    } | change
    np.savez(tmp_path / "a.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=message):
        data_of(tmp_path / "a.npz")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def rewrite(folder, change):
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "images/view_001.png").unlink(), "5 poses and 4 of their images"),
        (lambda f: (f / "images/view_001.png").write_bytes(b"no image"), "cannot be read"),
        (lambda f: Image.new("RGB", (20, 16)).save(f / "images/view_001.png"), "its camera has 16 x 16 pixels"),
        (lambda f: Image.new("I;16", (16, 16)).save(f / "images/view_001.png"), "8 bits per channel"),
        (lambda f: (f / "transforms.json").write_text("{"), "not JSON"),
        (lambda f: rewrite(f, lambda c: c.pop("frames")), "a list 'frames'"),
        (lambda f: rewrite(f, lambda c: c["frames"].clear()), "fewer than 3"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].pop("file_path")), "frame 1 .* expected file_path"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].update(transform_matrix=[[1, 2]])), "must be 4 x 4"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].update(transform_matrix=[["a"]])), "not numbers"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].update(transform_matrix=np.zeros((4, 4)).tolist())), "inverse"),
        (lambda f: rewrite(f, lambda c: c.update(k1=0.1)), "Undistort"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].pop("fl_x")), "no focal length"),
        (lambda f: rewrite(f, lambda c: c["frames"][1].update(fl_x="a")), "not a number"),
    ],
)
def test_bad_nerf_folders(tmp_path, scenes, change, message):
    write_nerf(tmp_path, scenes[0])
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        data_of(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: edit(f / "cameras.txt", "PINHOLE", "OPENCV"), r"cameras\.txt:2 .* Undistort"),
        (lambda f: edit(f / "cameras.txt", "PINHOLE", "SIMPLE_PINHOLE"), "needs 3 parameters"),
        (lambda f: edit(f / "cameras.txt", "16 16", "16 x"), "not a number"),
        (lambda f: edit(f / "cameras.txt", "16 16", "32 16"), "its camera has 32 x 16"),
        (lambda f: edit(f / "images.txt", "1 view_000.png", "9 view_000.png"), "no such camera"),
        (lambda f: edit(f / "images.txt", "view_000.png\n\n", "view_000.png\n"), "does not hold points"),
        (lambda f: edit(f / "images.txt", " 1 view_000.png", ""), "expected IMAGE_ID"),
        (lambda f: (f / "images.txt").unlink(), "there must be cameras.txt and images.txt"),
        (lambda f: (f / "images/view_003.png").unlink(), r"view_003\.png.*5 poses and 4"),
        (lambda f: (f / "cameras.txt").rename(f / "cameras.bin"), "model_converter"),
    ],
)
def test_bad_colmap_folders(tmp_path, scenes, change, message):
    write_colmap(tmp_path, scenes[0])
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        data_of(tmp_path)


@pytest.mark.parametrize("part", ["", "train/"])
def test_folders_that_are_no_scene_are_told(tmp_path, scenes, part):
    for scene in scenes[:4]:
        write_nerf(tmp_path / part / scene.id, scene)
    write_colmap(tmp_path / part / "b", scenes[4])
    (tmp_path / part / "notes").mkdir()  # nothing of a scene in it
    (tmp_path / part / "b/cameras.txt").unlink()
    (tmp_path / part / "scene_0001/transforms.json").rename(tmp_path / part / "scene_0001/transform.json")
    with pytest.raises(InputError, match=rf"'{part}b'.*images\.txt, images/view_000\.png.*expected transforms\.json"):
        data_of(tmp_path)
    found = data_of(tmp_path, on_error="skip", split="random", unit="data")
    assert len(found.scenes) == 3 and found.rejected["line"].tolist() == [0, 2]
    assert "transform.json, images/view_000.png" in found.rejected["value"][1]


def test_a_folder_that_is_no_scene_says_what_is_in_it(tmp_path, scenes):
    write_nerf(tmp_path / "a", scenes[0])
    (tmp_path / "a/transforms.json").rename(tmp_path / "a/transform.json")
    for path in (tmp_path / "a", tmp_path):
        with pytest.raises(InputError, match=r"no scene in.*Found transform\.json, images/view_000\.png in .*/a\."):
            data_of(path)


def test_images_without_poses_are_told(tmp_path, scenes):
    write_colmap(tmp_path, scenes[0])
    Image.new("RGB", (16, 16)).save(tmp_path / "images/other.png")
    assert "1 images have no pose" in data_of(tmp_path).notes[0]


def test_options_and_sizes_that_cannot_be(tmp_path, file, scenes):
    for options, message in (
        ({"num_inputs": 5}, "fewer than 6"),
        ({"image_size": 17}, "smaller than 17 pixels"),
        ({"rays": 0}, "--data.rays"),
        ({"unit": "scenes"}, "Did you mean 'scene'"),
        ({"split": "scaffold"}, "molecules"),
        ({"split": "given"}, "the data have none"),
    ):
        with pytest.raises(InputError, match=message):
            data_of(file, **options)
    for path, message in (("none", "no such file"), (".", "there is no scene in the folder")):
        with pytest.raises(InputError, match=message):
            data_of(tmp_path / path)
    write_nerf(tmp_path / "a", scenes[0])
    with pytest.raises(InputError, match="has 3 views, expected at least 5"):
        data_of(tmp_path / "a", num_inputs=4).check_labels()
