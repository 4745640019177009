import pickle
import struct
import sys

import numpy as np
import pytest

from geoattn.datasets.pointcloud_files import read_cloud
from geoattn.datasets.pointcloud_raw import CloudError
from geoattn.errors import InputError

POINTS = np.array([[0.5, 0, 0], [1, 0.25, 0], [0, 1, 0.125], [0, 0, 2.5]])
NORMALS = np.array([[0, 0, 1.0], [0, 1, 0], [1, 0, 0], [0.6, 0.8, 0]])
PARTS = np.array([0, 0, 3, 1])
TRIANGLES = "4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 3\n3 0 1 2\n3 0 2 3\n"


def ply(rows, names, faces=""):
    properties = "".join(f"property {'int' if n == 'label' else 'float'} {n}\n" for n in names)
    elements = f"element vertex {len(rows)}\n{properties}" + ("element face 1\n" if faces else "")
    elements += "property list uchar int vertex_indices\n" if faces else ""
    body = "\n".join(" ".join(f"{value:g}" for value in row) for row in rows)
    return f"ply\nformat ascii 1.0\n{elements}end_header\n{body}\n{faces}"


def text(rows, separator=" "):
    return "\n".join(separator.join(f"{value:g}" for value in row) for row in rows) + "\n"


FULL = np.column_stack([POINTS, NORMALS, PARTS])
WITH_NORMALS_AND_PARTS = {
    "a.xyz": text(FULL),
    "header.csv": "x,y,z,nx,ny,nz,label\n" + text(FULL, ","),
    "behind a comment.txt": "# x y z nx ny nz label\n\n" + text(FULL),
    "quoted;.csv": '"X";"Y";"Z";"NX";"NY";"NZ";"Label"\n' + text(FULL, ";"),
    "other order.tsv": "label\tnz\tny\tnx\tz\ty\tx\n" + text(FULL[:, ::-1], "\t"),
    "a.pts": f"{len(FULL)}\n" + text(FULL),
    "a.ply": ply(FULL, ["x", "y", "z", "nx", "ny", "nz", "label"]),
}


@pytest.mark.parametrize("name", WITH_NORMALS_AND_PARTS)
def test_text_and_ply_with_normals_and_parts(tmp_path, name):
    if name.endswith("ply"):
        pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
    (tmp_path / name).write_text(WITH_NORMALS_AND_PARTS[name])
    notes = []
    cloud = read_cloud(tmp_path / name, notes=notes)
    np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
    np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)
    np.testing.assert_array_equal(cloud.segment, PARTS)
    assert cloud.points.dtype == cloud.normals.dtype == np.float32 and cloud.segment.dtype == np.int64
    assert (cloud.id, cloud.label, notes) == (name, None, []) and not cloud.origin.any()


@pytest.mark.parametrize(
    ("extra", "normals", "said"),
    [
        (np.zeros((4, 0)), False, None),
        (np.ones((4, 1)), False, "column 4 was not read"),
        (NORMALS, True, None),
        (NORMALS * 200, False, "columns 4 to 6 were not read"),  # colours
        (np.column_stack([NORMALS, PARTS + 0.5]), True, "column 7 was not read"),
        (np.column_stack([NORMALS, NORMALS]), True, "columns 7 to 9 were not read"),
    ],
)
def test_what_columns_without_names_mean(tmp_path, extra, normals, said):
    rows = np.column_stack([POINTS, extra])
    (tmp_path / "a.xyz").write_text(text(rows))
    np.save(tmp_path / "a.npy", rows)
    for name in ("a.xyz", "a.npy"):
        notes = []
        cloud = read_cloud(tmp_path / name, notes=notes)
        np.testing.assert_array_equal(cloud.points, POINTS.astype(np.float32))
        assert (cloud.normals is not None) == normals and cloud.segment is None
        assert bool(notes) == bool(said) and (not said or said in notes[0])


def test_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", pos=POINTS, normals=3 * NORMALS, label=2, segment=PARTS)
    cloud = read_cloud(tmp_path / "a.npz", notes=(notes := []))
    assert cloud.label == 2 and "length 1" in notes[0]
    np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)
    np.savez(tmp_path / "b.npz", xyz=POINTS, label=PARTS)  # one per point: classes of points
    np.testing.assert_array_equal(read_cloud(tmp_path / "b.npz").segment, PARTS)


def test_kitti(tmp_path):
    np.column_stack([POINTS, np.ones(4)]).astype("<f4").tofile(tmp_path / "a.bin")
    np.column_stack([POINTS, np.ones((4, 2))]).astype("<f4").tofile(tmp_path / "a.pcd.bin")
    for name in ("a.bin", "a.pcd.bin"):
        np.testing.assert_array_equal(read_cloud(tmp_path / name).points, POINTS.astype(np.float32))


def mesh_files():
    stl = "solid a\n"
    for corners in ([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 0, 0), (0, 1, 0), (0, 0, 3)]):
        inside = "".join("vertex {} {} {}\n".format(*corner) for corner in corners)
        stl += f"facet normal 0 0 0\nouter loop\n{inside}endloop\nendfacet\n"
    vertices = [line.split() for line in TRIANGLES.splitlines()[1:5]]
    return {
        "a.off": "OFF\n" + TRIANGLES,
        "no line end.off": "OFF" + TRIANGLES,  # as some files of ModelNet40 begin
        "a.obj": "mtllib none.mtl\n" + "".join(f"v {' '.join(v)}\n" for v in vertices) + "f 1 2 3\nf 1 3 4\n",
        "a.stl": stl + "endsolid a\n",
        "a.ply": ply(np.array(vertices, float), "xyz", "3 0 1 2\n3 0 2 3\n").replace("face 1", "face 2"),
    }


@pytest.mark.parametrize("name", [*mesh_files(), "a.glb"])
def test_meshes_are_sampled_by_area_with_the_normals_of_their_faces(tmp_path, name):
    trimesh = pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
    if name == "a.glb":
        (tmp_path / "a.off").write_text("OFF\n" + TRIANGLES)
        trimesh.Scene(trimesh.load(str(tmp_path / "a.off"))).export(tmp_path / name)
    else:
        (tmp_path / name).write_text(mesh_files()[name])
    cloud = read_cloud(tmp_path / name, num_samples=4000)
    floor = cloud.points[:, 2] == 0
    assert abs(floor.mean() - 0.25) < 0.03  # areas 0.5 and 1.5
    np.testing.assert_allclose(np.abs(cloud.normals[floor]), np.tile([0, 0, 1], (floor.sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(np.abs(cloud.normals[~floor]), np.tile([1, 0, 0], ((~floor).sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(cloud.points[floor][:, :2].mean(axis=0), [1 / 3, 1 / 3], atol=0.03)
    (tmp_path / "other").mkdir()
    (tmp_path / name).rename(tmp_path / "other" / name)  # the points do not depend on the place
    np.testing.assert_array_equal(read_cloud(tmp_path / "other" / name, num_samples=4000).points, cloud.points)


def test_points_without_faces(tmp_path):
    pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 2 0\n")
    (tmp_path / "a.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 2 0\n")
    for name in ("a.obj", "a.off"):
        assert read_cloud(tmp_path / name).points.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_las_keeps_millimetres_far_from_zero(tmp_path, suffix):
    laspy = pytest.importorskip("laspy", reason="needs geoattn[pointclouds]")
    pytest.importorskip("lazrs", reason="needs geoattn[pointclouds]")
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = [0.001] * 3, [500_000, 5_600_000, 0]
    las = laspy.LasData(header)
    wanted = np.array([[500_123.001, 5_612_345.002, 87.003], [500_124.0, 5_612_346.004, 88.0]])
    las.xyz = wanted
    las.classification = np.array([6, 1])
    las.write(tmp_path / f"a.{suffix}")
    cloud = read_cloud(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(cloud.points + cloud.origin, wanted, atol=1e-4)
    assert np.abs(cloud.points).max() < 10 and cloud.segment.tolist() == [6, -1]


def test_text_far_from_zero_has_an_origin(tmp_path):
    wanted = POINTS + np.array([500_000, 5_600_000, 0])
    np.savetxt(tmp_path / "a.xyz", wanted, fmt="%.3f")
    cloud = read_cloud(tmp_path / "a.xyz")
    np.testing.assert_array_equal(cloud.points.astype(np.float64) + cloud.origin, wanted)


def test_pcd(tmp_path):
    open3d = pytest.importorskip("open3d", reason="needs geoattn[pointclouds]")
    cloud = open3d.t.geometry.PointCloud(POINTS.astype(np.float32))
    cloud.point["normals"] = NORMALS.astype(np.float32)
    cloud.point["label"] = PARTS.astype(np.int32)[:, None]
    open3d.t.io.write_point_cloud(str(tmp_path / "a.pcd"), cloud)
    found = read_cloud(tmp_path / "a.pcd")
    np.testing.assert_array_equal(found.points, POINTS.astype(np.float32))
    np.testing.assert_allclose(found.normals, NORMALS, atol=1e-6)
    np.testing.assert_array_equal(found.segment, PARTS)


def pcd(fields, body, width=2, height=1):
    k = len(fields.split())
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {'4 ' * k}\nTYPE {'F ' * k}\nCOUNT {'1 ' * k}\n"
        f"WIDTH {width}\nHEIGHT {height}\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {width * height}\nDATA ascii\n{body}"
    )


def test_places_without_a_point_in_an_organised_pcd(tmp_path):
    pytest.importorskip("open3d", reason="needs geoattn[pointclouds]")
    (tmp_path / "a.pcd").write_text(pcd("x y z", "0 0 0\nnan nan nan\n1 2 3\n1 1 1\n", 2, 2))
    cloud = read_cloud(tmp_path / "a.pcd", notes=(notes := []))
    assert len(cloud) == 3 and "organised" in notes[0]


def test_missing_normals_are_no_normals(tmp_path):
    np.savez(tmp_path / "a.npz", points=POINTS, normals=NORMALS * [[1], [1], [0], [1]])
    cloud = read_cloud(tmp_path / "a.npz", notes=(notes := []))
    assert cloud.normals is None and "missing" in notes[0]


def test_one_point_is_a_cloud(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n")
    assert len(read_cloud(tmp_path / "a.xyz")) == 1


def test_cells_of_a_grid_are_no_colours(tmp_path):
    np.savetxt(tmp_path / "a.xyz", np.argwhere(np.ones((5, 6, 7))), fmt="%d")
    assert len(read_cloud(tmp_path / "a.xyz")) == 210


COLOURS = np.random.default_rng(0).integers(0, 256, (20, 3))[np.arange(40) % 20]
BAD = {
    # name: (content, what the message says)
    "missing.xyz": (None, ["missing.xyz", "no such file"]),
    "empty.xyz": ("", ["the file is empty"]),
    "empty.ply": ("", ["the file is empty"]),
    "comments.xyz": ("# nothing\n\n", ["there is no point"]),
    "only a header.csv": ("x,y,z\n", ["there is no point"]),
    "a.docx": ("0 0 0", ["'.docx'", "Known: .xyz"]),
    "nan.xyz": ("0 0 0\n# a comment\n1 nan 2\n", ["nan.xyz:3", "y = 'nan'", "not a number"]),
    "inf.npy": (np.array([[0, 0, 0], [0, 0, np.inf]]), ["point 1", "z = 'inf'"]),
    "same.xyz": ("1 2 3\n" * 5, ["all 5 points are equal"]),
    "two.xyz": ("1 2\n3 4\n", ["columns = '2'", "x, y and z"]),
    "ragged.xyz": ("1 2 3\n\n4 5 6 7\n", ["ragged.xyz:3", "4 numbers where line 1 has 3"]),
    "header of 3.csv": ("x,y,z\n1,2,3\n1,2\n", ["header of 3.csv:3", "2 numbers where the header has 3"]),
    "word.xyz": ("1 2 3\n1 zwei 3\n", ["word.xyz:2", "'zwei'", "not a number"]),
    "molecule.xyz": ("3\nwater\nO 0 0 0\nH 1 0 0\nH 0 1 0\n", ["not a number"]),
    "methane.xyz": ("1\n\nC 0 0 0\n", ["methane.xyz:3", "molecules"]),
    "colours.xyz": (text(COLOURS), ["look like colours"]),
    "colours.csv": ("r,g,b\n1,2,3\n", ["no column x", "colours (r, g, b)"]),
    "cut.pts": ("5\n0 0 0\n1 1 1\n", ["cut.pts:1", "5 points"]),
    "bytes.xyz": (b"\xff\xfe\x00\x81", ["not text"]),
    "no.ply": ("hello\n", ["no.ply:1", "'ply'"]),
    "header.ply": ("ply\nformat ascii 1.0\nelement vertex 3\n", ["end_header"]),
    "cut.ply": (ply(POINTS, "xyz").replace("vertex 4", "vertex 400"), ["says 400 vertices"]),
    "colours.ply": (ply(POINTS, ["red", "green", "blue"]), ["no x", "colours (red, green, blue)"]),
    "cut.off": ("OFF\n4 2 0\n0 0 0\n1 0 0\n", ["trimesh cannot read it"]),
    "words.obj": ("hello\n", ["no vertex"]),
    "words.stl": ("hello\n", ["words.stl"]),
    "words.glb": ("hello\n", ["trimesh cannot read it"]),
    "flat.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", ["area 0"]),
    "words.npy": ("hello\n", ["numpy cannot read it"]),
    "words.npz": ("hello\n", ["numpy cannot read it"]),
    "flat.npy": (np.zeros(5), ["shape (5,)"]),
    "odd.bin": (b"\x00" * 17, ["17 bytes", "multiple of 16"]),
    "words.las": ("hello\n", ["laspy cannot read it"]),
    "words.pcd": ("hello\n", ["FIELDS, POINTS and DATA"]),
    "cut.pcd": (pcd("x y z", "0 0 0\n"), ["says 2 points"]),
    "colours.pcd": (pcd("rgb", "0\n0\n"), ["no x, y and z", "colours"]),
    "nan.pcd": (pcd("x y z", "0 0 0\n0 nan 0\n"), ["point 1", "y = 'nan'"]),
}
NEEDS = {"ply": "trimesh", "off": "trimesh", "obj": "trimesh", "stl": "trimesh", "glb": "trimesh"}
NEEDS |= {"las": "laspy", "pcd": "open3d"}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_what_is_wrong_and_where(tmp_path, name):
    suffix = name.rsplit(".", 1)[1]
    if suffix in NEEDS:
        pytest.importorskip(NEEDS[suffix], reason="needs geoattn[pointclouds]")
    content, said = BAD[name]
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_cloud(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and all(part in message for part in said), message


def test_keys_and_shapes_of_arrays(tmp_path):
    for arrays, said in (
        ({"cloud": POINTS}, "none is points"),
        ({"points": POINTS[:, :2]}, "shape (4, 2)"),
        ({"points": POINTS, "normals": NORMALS[:3]}, "normals = 'shape (3, 3)'"),
        ({"points": POINTS, "segment": PARTS[:3]}, "segment = 'shape (3,)'"),
        ({"points": POINTS, "segment": PARTS + 0.5}, "no whole number"),
        ({"points": np.array([object()])}, "numpy cannot read it"),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(InputError, match="a.npz") as caught:
            read_cloud(tmp_path / "a.npz")
        assert said in str(caught.value)


def test_a_truncated_las_file(tmp_path):
    laspy = pytest.importorskip("laspy", reason="needs geoattn[pointclouds]")
    las = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    las.xyz = np.arange(300.0).reshape(100, 3)
    las.write(tmp_path / "a.las")
    whole = (tmp_path / "a.las").read_bytes()
    (tmp_path / "a.las").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="a.las"):
        read_cloud(tmp_path / "a.las")


@pytest.mark.parametrize(("name", "package"), [("a.off", "trimesh"), ("a.las", "laspy"), ("a.pcd", "open3d")])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_text(pcd("x y z", "0 0 0\n1 1 1\n"))
    with pytest.raises(ImportError, match=r"geoattn\[pointclouds\]"):
        read_cloud(tmp_path / name)


def test_errors_come_back_from_processes():
    error = pickle.loads(pickle.dumps(CloudError("x", 1, "wrong", line=3, place="point 2")))
    assert (error.line, error.place, error.column, str(error)) == (3, "point 2", "x", "x = '1': wrong.")


def test_a_binary_ply(tmp_path):
    pytest.importorskip("trimesh", reason="needs geoattn[pointclouds]")
    header = ply(POINTS, "xyz").split("end_header")[0].replace("ascii", "binary_little_endian")
    body = b"".join(struct.pack("<3f", *row) for row in POINTS)
    (tmp_path / "a.ply").write_bytes(header.encode() + b"end_header\n" + body)
    np.testing.assert_array_equal(read_cloud(tmp_path / "a.ply").points, POINTS.astype(np.float32))


@pytest.mark.parametrize("content", ["04,0 1,5 2\n", "x;y;z\n0,5;-1,2;3\n", "0,5\t1e3\t3,0\n"])
def test_decimal_commas_are_named(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"a.txt:[12]: line = .*decimal commas. Write 0.5 for 0,5"):
        read_cloud(tmp_path / "a.txt")
