"""Make point clouds of ModelNet10's occupancy grids and of the Princeton segmentation benchmark.

    python benchmarks/pointclouds_to_npz.py FOLDER_OF_THE_ARRAYS . [--folders]

ModelNet10: the surface cells of a grid (occupied, with an empty neighbour across a face), each as one point drawn
uniformly within it from a fixed seed; the unit is a cell, z points up, there are no normals. Empty grids are left out.
``repeats`` names the first training shape with the same grid, or is empty: such a shape of the test part was seen in
training. Princeton: 2,048 points with normals and the parts of one person; ``fold`` deals each class out in five.
"""

import argparse
from pathlib import Path

import numpy as np

SEED = 0
NUM_FOLDS = 5
UNIT = 32767  # of the Princeton coordinates


def surface_points(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``[N, 3]`` float32: a point somewhere in each surface cell of ``grid [X, Y, Z]``; cell i is from i to i + 1."""
    padded = np.pad(grid, 1)
    inside = np.ones_like(grid)
    for axis in range(3):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    cells = np.argwhere(grid & ~inside)
    return (cells + rng.random(cells.shape)).astype(np.float32)


def modelnet10(file: Path) -> dict[str, np.ndarray]:
    """The arrays of ``modelnet10.npz``."""
    with np.load(file) as source:
        data = {key: source[key] for key in source.files}
    rng = np.random.default_rng(SEED)
    first_with: dict[bytes, str] = {}
    clouds, columns = [], {"label": [], "split": [], "id": [], "repeats": []}
    for part in ("train", "test"):
        empty = 0
        numbers = data["test_index"] if part == "test" else np.arange(len(data["train_bits"]))
        for bits, label, number in zip(data[f"{part}_bits"], data[f"{part}_label"], numbers, strict=True):
            if not bits.any():
                empty += 1
                continue
            name = f"{part}_{number:04d}"
            columns["repeats"].append(first_with.get(bits.tobytes(), ""))
            if part == "train":
                first_with.setdefault(bits.tobytes(), name)
            grid = np.unpackbits(bits).reshape(data["grid"]).astype(bool)
            clouds.append(surface_points(grid, rng))
            columns["label"].append(int(label))
            columns["split"].append(part)
            columns["id"].append(name)
        repeated = sum(
            bool(other) for other, of in zip(columns["repeats"], columns["split"], strict=True) if of == part
        )
        print(f"ModelNet10, {part}: {empty} empty grids left out, {repeated} grids are those of other training shapes")
    sizes = [len(cloud) for cloud in clouds]
    return {
        "points": np.concatenate(clouds),
        "ptr": np.cumsum([0, *sizes]),
        **{key: np.array(values) for key, values in columns.items()},
        "class_names": data["class_names"],
    }


def princeton(file: Path) -> dict[str, np.ndarray]:
    """The arrays of ``princeton.npz``."""
    with np.load(file) as data:
        points = (data["points_i16"] / UNIT).astype(np.float32)
        normals = data["normals_i8"].astype(np.float32)
        label, segment, names = data["label"].astype(np.int64), data["segment"].astype(np.int64), data["class_names"]
        ids = np.array([f"psb_{number:03d}" for number in data["model_id"]])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    rng = np.random.default_rng(SEED)
    fold = np.empty(len(label), dtype=np.int64)
    for k in range(len(names)):
        rows = rng.permutation(np.flatnonzero(label == k))
        fold[rows] = (np.arange(len(rows)) + k) % NUM_FOLDS  # + k: the fuller folds are not always the first
    num_clouds, num_points, _ = points.shape
    return {
        "points": points.reshape(-1, 3),
        "ptr": np.arange(num_clouds + 1) * num_points,
        "normals": normals.reshape(-1, 3),
        "segment": segment.reshape(-1),
        "label": label,
        "id": ids,
        "fold": fold,
        "class_names": names,
    }


def write_folders(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """One ``.xyz`` file per cloud, in a folder per part and class, beside a table that says what repeats what."""
    rows = ["file,repeats"]
    for k, name in enumerate(arrays["id"]):
        place = Path(str(arrays["split"][k]), str(arrays["class_names"][arrays["label"][k]]), f"{name}.xyz")
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / place, arrays["points"][arrays["ptr"][k] : arrays["ptr"][k + 1]], fmt="%.4f")
        rows.append(f"{place.as_posix()},{arrays['repeats'][k]}")
    (folder / "repeats.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    """Write ``modelnet10.npz`` and ``princeton.npz``, and the folder ``modelnet10`` if that is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, help="folder with modelnet10_voxels.npz and psb_shapes.npz")
    parser.add_argument("target", type=Path, help="folder for the files")
    parser.add_argument("--folders", action="store_true", help="ModelNet10 also as a folder of .xyz files per class")
    options = parser.parse_args()
    made = {
        "modelnet10": modelnet10(options.source / "modelnet10_voxels.npz"),
        "princeton": princeton(options.source / "psb_shapes.npz"),
    }
    for name, arrays in made.items():
        np.savez_compressed(options.target / f"{name}.npz", **arrays)
        print(f"{len(arrays['id'])} clouds of {len(arrays['points'])} points written to {options.target / name}.npz")
    if options.folders:
        write_folders(options.target / "modelnet10", made["modelnet10"])


if __name__ == "__main__":
    main()
