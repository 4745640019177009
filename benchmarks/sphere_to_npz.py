"""Make files of fields of the real data: CO2, seasonal temperature, ERA-Interim, topography and basins, WMAP.

    python benchmarks/sphere_to_npz.py FOLDER_OF_THE_ARRAYS .

``co2.npz``: a series every six hours. ``t2m.npz``: month 1 and month 2 of each member, as regression. ``era.npz``: wind
and geopotential of three levels, one map each. ``basins.npz``: topography averaged to one degree, and ocean basins as
classes. ``wmap.npz``: bands V and W without what the galaxy covers. What simple answers reach is printed.
"""

import argparse
from pathlib import Path

import numpy as np

NUM_BASINS = 9


def load(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as source:
        return {key: source[key] for key in source.files}


def rmse(error: np.ndarray, latitude: np.ndarray) -> float:
    """Root mean square of ``[..., lat, lon]``, weighted with the cosine of the latitude."""
    weight = np.cos(np.radians(latitude.astype(np.float64)))[:, None]
    mean = (error.astype(np.float64) ** 2 * weight).sum((-2, -1)) / (weight.sum() * error.shape[-1])
    return float(np.sqrt(mean.mean()))


def co2(folder: Path) -> dict[str, np.ndarray]:
    data = load(folder / "co2_column_6hourly.npz")
    values = (data["tcco2_i16"] * data["scale_factor"] + data["add_offset"]).astype(np.float32)
    still = rmse(values[1:] - values[:-1], data["lat"])
    line = rmse(values[2:] - 2 * values[1:-1] + values[:-2], data["lat"])
    print(f"CO2, one step of six hours: persistence {still:.3f}, linear extrapolation {line:.3f}")
    hours = np.array([f"hour {hour}" for hour in data["hours"]])
    return {"lat": data["lat"], "lon": data["lon"], "co2": values, "co2_units": np.array("ppm"), "time": hours}


def t2m(folder: Path) -> dict[str, np.ndarray]:
    data = load(folder / "seasonal_t2m_ensemble.npz")
    first, second, lat = data["tas"][:, 0], data["tas"][:, 1], data["lat"].copy()
    lat[-1] = -90.0  # the array says 90, behind -87.5
    members = range(len(first))
    others = [[k for k in members if k != left] for left in members]
    change = np.stack([(second[rest] - first[rest]).mean(0) for rest in others])
    mean = np.stack([second[rest].mean(0) for rest in others])
    print(
        f"T2m, month 2, each member left out in turn: month 1 repeated {rmse(second - first, lat):.2f} K, plus mean "
        f"change {rmse(second - first - change, lat):.2f} K, mean month 2 {rmse(second - mean, lat):.2f} K"
    )
    return {
        "lat": lat,
        "lon": data["lon"],
        "month1": first,
        "month2": second,
        "month1_units": np.array("K"),
        "month2_units": np.array("K"),
        "id": np.array([f"member {member}" for member in data["member"]]),
        "institution": data["institution"],
    }


def era(folder: Path) -> dict[str, np.ndarray]:
    data = load(folder / "era_interim_january.npz")
    units = {"u": "m s-1", "v": "m s-1", "z": "m2 s-2"}
    arrays = {"lat": data["lat"], "lon": data["lon"]}
    for name, unit in units.items():
        for level, field in zip(data["level_hpa"], data[name], strict=True):
            arrays |= {f"{name}@{level}": field, f"{name}@{level}_units": np.array(unit)}
    return arrays


def basins(folder: Path) -> dict[str, np.ndarray]:
    data = load(folder / "earth_topography_basins.npz")
    shift = int(np.argmin(data["topo_lon"] % 360))  # to longitude 0: cells of 20 minutes begin at a whole degree
    fine = np.roll(data["topography_m"].astype(np.float32), -shift, axis=1)
    coarse = fine.reshape(180, 3, 360, 3).mean((1, 3))
    lon = np.roll(data["topo_lon"] % 360, -shift).reshape(360, 3).mean(1)
    assert np.allclose(lon, data["basin_lon"], atol=0.01)
    assert np.allclose(data["topo_lat"].reshape(180, 3).mean(1), data["basin_lat"], atol=0.01)
    area = np.cos(np.radians(data["basin_lat"]))[:, None] * np.ones((1, 360))
    codes = data["basin"].astype(np.int64)
    size = np.bincount(codes.ravel(), weights=area.ravel(), minlength=len(data["basin_names"]))
    size[0] = 0
    largest = np.argsort(-size)[:NUM_BASINS]
    classes = np.full(codes.shape, NUM_BASINS + 1)  # small basins
    for k, code in enumerate(largest, start=1):
        classes[codes == code] = k
    classes[codes == 0] = 0
    share = np.bincount(classes.ravel(), weights=area.ravel()) / area.sum()
    print(f"Basins: {NUM_BASINS + 2} classes, the largest has {share.max():.1%} of the area")
    names = ["land", *(str(data["basin_names"][code]) for code in largest), "other"]
    return {
        "lat": data["basin_lat"],
        "lon": data["basin_lon"],
        "topography": coarse,
        "topography_units": np.array("m"),
        "basin": classes,
        "basin_names": np.array(names),
    }


def wmap(folder: Path) -> dict[str, np.ndarray]:
    data = load(folder / "wmap7_nside32.npz")
    use = data["mask"].astype(bool)
    bands = {band: np.where(use, data[f"{band}_iqu_mK"][0], np.nan).astype(np.float32) for band in "VW"}
    error = bands["W"][use] - bands["V"][use]
    print(f"WMAP, W outside the mask: V repeated {error.std():.4f} mK, mean {bands['W'][use].std():.4f} mK")
    units = {f"{band}_units": np.array("mK") for band in bands}
    return bands | units | {"order": np.array("ring"), "use": use.astype(np.float32)}


def main() -> None:
    """Write one ``.npz`` per data set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, help="folder with the arrays")
    parser.add_argument("target", type=Path, help="folder for the files")
    options = parser.parse_args()
    for function in (co2, t2m, era, basins, wmap):
        arrays = function(options.source)
        np.savez_compressed(options.target / f"{function.__name__}.npz", **arrays)
        print(f"{options.target / function.__name__}.npz: {', '.join(arrays)}")


if __name__ == "__main__":
    main()
