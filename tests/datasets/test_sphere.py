import json

import numpy as np
import pytest
import torch

from geoattn.datasets.sphere import SphereData
from geoattn.datasets.sphere_new import fields_like
from geoattn.datasets.sphere_splits import block_parts
from geoattn.domains.sphere.batch import collate_fields
from geoattn.errors import InputError
from geoattn.geometry.sphere import healpix

LAT, LON = np.linspace(80, -80, 9), np.arange(0, 360, 20.0)
RNG = np.random.default_rng(0)
SERIES = (np.arange(20)[:, None, None] + RNG.random((20, 9, 18))).astype(np.float32)


def write(path, **arrays):
    np.savez(path, **{key: value for key, value in ({"lat": LAT, "lon": LON} | arrays).items() if value is not None})
    return path


def data_of(file, **options):
    data = SphereData(str(file), **options)
    data.setup()
    data.check_labels()
    return data


@pytest.fixture
def series(tmp_path):
    return write(tmp_path / "a.npz", t=SERIES, oro=SERIES[0], t_units=np.array("K"))


def test_a_series_is_split_in_time(series):
    data = data_of(series, history=2, steps=3)
    assert data.split_spec == "time" and [len(data.split[part]) for part in data.split] == [12, 2, 2]
    assert data.split["test"] == [14, 15]
    sample = data.part("test")[1]
    np.testing.assert_array_equal(sample.inputs, np.stack([SERIES[15], SERIES[16], SERIES[0]]).reshape(3, -1))
    np.testing.assert_array_equal(sample.targets, SERIES[19].reshape(1, -1))
    assert (data.preprocess["inputs"], data.preprocess["static"]) == (["t"], ["oro"])
    json.dumps(data.preprocess)
    assert data.table["id"].tolist()[:2] == ["1", "2"] and sample.id == "16"


def test_statistics_are_of_the_training_part(series):
    data = data_of(series)
    weight = data.grid.points.weight.numpy().reshape(9, 18)
    inputs = SERIES[:16].astype(np.float64)  # each state of a forecast's training windows, once as input
    inputs = inputs[: len(data.split["train"])]
    mean = (inputs * weight).sum() / (weight.sum() * len(inputs))
    found = data.preprocess["statistics"]["t"]
    assert found["mean"] == pytest.approx(mean) and found["change_std"] == pytest.approx(1.08, abs=0.03)
    variance = ((inputs - mean) ** 2 * weight).sum() / (weight.sum() * len(inputs))
    assert found["std"] == pytest.approx(variance**0.5)


def test_batches_are_standardised_and_masked(tmp_path):
    values = SERIES.copy()
    values[:, 2, 3] = np.nan
    data = data_of(write(tmp_path / "a.npz", t=values), batch_size=3)
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (3, 1, 162) and batch.inputs.dtype == torch.float32
    assert (~batch.present).sum() == 3 and batch.inputs[~batch.present].abs().max() == 0
    assert not batch.known[:, 0, 2 * 18 + 3].any() and batch.known.sum() == 3 * 161
    first = [sample.id for sample in data.part("train")]
    assert len(first) == len(data.split["train"]) and len(batch) == 3 and len(batch.to("cpu")) == 3
    again = collate_fields([data.part("train")[0]], data.preprocess)
    statistics = data.preprocess["statistics"]["t"]
    expected = (values[0].reshape(-1)[0] - statistics["mean"]) / statistics["std"]
    assert float(again.inputs[0, 0, 0]) == pytest.approx(expected, rel=1e-5)


def test_pairs_never_cross_trajectories(tmp_path):
    file = write(tmp_path / "a.npz", t=SERIES.reshape(5, 4, 9, 18))
    data = data_of(file, val_fraction=0.2, test_fraction=0.2)
    assert (
        len(data.samples) == 15 and data.split_spec == "random" and "Whole trajectories are in one part." in data.notes
    )
    parts = {part: {int(data.table["group"][row]) for row in rows} for part, rows in data.split.items()}
    assert [len(groups) for groups in parts.values()] == [3, 1, 1] and len(set.union(*parts.values())) == 5
    for sample in data.samples:
        assert sample.targets is not None and sample.targets.mean() - sample.inputs.mean() == pytest.approx(1, abs=0.1)


def test_regions_of_one_map(tmp_path):
    xyz = healpix(16).xyz.numpy()
    kind = (xyz[:, 2] > 0).astype(int) + (xyz[:, 0] > 0)
    np.savez(tmp_path / "a.npz", height=xyz[:, 2], kind=kind, kind_names=np.array(["a", "b", "c"]))
    data = data_of(tmp_path / "a.npz", task="segmentation", targets=["kind"])
    assert data.split_spec == "region:0" and data.preprocess["class_names"] == ["a", "b", "c"]
    train, valid, test = (data.part(part)[0] for part in ("train", "valid", "test"))
    used = np.stack([train.used, valid.used, test.used])
    assert (used.sum(axis=0) == 1).all() and 0.08 < test.used.mean() < 0.12
    np.testing.assert_array_equal(train.inputs, test.inputs)  # everywhere
    assert train.targets.dtype == np.int64 and train.id == "0/train"
    far = data_of(tmp_path / "a.npz", task="segmentation", targets=["kind"], gap_degrees=5.0)
    kept, held = far.part("train")[0].used, ~train.used
    chord = 2 * np.sin(np.radians(2.5))
    assert np.linalg.norm(xyz[kept][:, None] - xyz[held][None], axis=2).min() > chord and kept.sum() < train.used.sum()
    other = block_parts(data.grid.points, 1, 0.1, 0.1, 0.0)
    assert (other != block_parts(data.grid.points, 0, 0.1, 0.1, 0.0)).any()


def test_regression_and_splits_by_column(tmp_path):
    file = write(tmp_path / "a.npz", x=SERIES, y=2 * SERIES, centre=np.array(["u"] * 15 + ["w"] * 5))
    data = data_of(file, task="regression", targets=["y"], split="column:centre=w")
    assert data.split["test"] == [15, 16, 17, 18, 19] and data.preprocess["inputs"] == ["x"]
    folds = data_of(file, task="regression", inputs=["x"], targets=["y"], split="kfold:4:1")
    assert len(folds.split["test"]) == 5


def test_samples_without_values(tmp_path):
    values = SERIES.copy()
    values[4] = np.nan
    file = write(tmp_path / "a.npz", x=values, y=SERIES)
    with pytest.raises(InputError, match="sample 4: inputs = '4': every value is missing.*--on-error skip"):
        data_of(file, task="regression", targets=["y"])
    data = data_of(file, task="regression", targets=["y"], on_error="skip")
    assert len(data.samples) == 19 and data.rejected["line"].tolist() == [4]


def test_options_that_are_refused(series, tmp_path):
    cases = [
        ({"task": "forcast"}, "Did you mean 'forecast'"),
        ({"steps": 0}, "--data.steps: got 0"),
        ({"task": "regression"}, "regression needs the variable that is wanted"),
        ({"task": "regression", "targets": ["t"], "steps": 2}, "are of forecasts alone"),
        ({"targets": ["q"]}, "no variable 'q'"),
        ({"targets": ["oro"]}, "'oro' is not among the inputs that change"),
        ({"task": "segmentation", "targets": ["t"]}, "expected classes: whole numbers"),
        ({"split": "regio:0"}, "Did you mean 'region:SEED'"),
        ({"split": "region:x"}, "expected region:SEED"),
        ({"history": 30}, "20 samples are too few"),
        ({"gap_degrees": 5.0}, "gap-degrees: got 5 with split 'time'; it is of --data.split region:SEED alone"),
        ({"gap_degrees": 5.0, "split": "random"}, "with split 'random'"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            data_of(series, **options)
    with pytest.raises(InputError, match="0 classes of k|1 classes of k"):
        data_of(write(tmp_path / "k.npz", x=SERIES, k=np.zeros((20, 9, 18))), task="segmentation", targets=["k"])


# --- new files --------------------------------------------------------------------------------------------------------


def test_units_of_new_files(series, tmp_path):
    warm = SERIES + 280
    data = data_of(write(tmp_path / "k.npz", t=warm, t_units=np.array("K")))
    _, samples, notes = fields_like(write(tmp_path / "b.npz", t=warm[:3] + 1), data.preprocess)
    assert len(samples) == 3 and samples[2].targets is None and samples[1].targets is not None and notes == []
    with pytest.raises(InputError, match="t is in degC, the model was trained with t in K"):
        fields_like(write(tmp_path / "c.npz", t=warm - 273.15, t_units=np.array("degC")), data.preprocess)
    with pytest.raises(InputError, match="seems to be in degrees Celsius, the training data in kelvin"):
        fields_like(write(tmp_path / "d.npz", t=warm - 273.15), data.preprocess)
    with pytest.raises(InputError, match="cannot be the same quantity in the same unit"):
        fields_like(write(tmp_path / "e.npz", t=warm * 100), data.preprocess)
    _, _, notes = fields_like(write(tmp_path / "f.npz", t=warm + 50), data.preprocess)
    assert "is it in the same unit?" in notes[0]
    fields_like(write(tmp_path / "g.npz", t=warm, t_units=np.array("kelvin")), data.preprocess)


def test_new_files_on_another_grid(series, tmp_path):
    data = data_of(series, inputs=["t"])
    file = write(tmp_path / "b.npz", lat=LAT[::2], t=SERIES[:, ::2])
    _, samples, notes = fields_like(file, data.preprocess)
    assert "5 latitudes x 18 longitudes" in notes[-1] and len(samples) == 20
    with pytest.raises(InputError, match="no variable 't'"):
        fields_like(write(tmp_path / "c.npz", tas=SERIES), data.preprocess)


# --- what is not the globe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lat, lon, message",
    [
        (np.linspace(69, 35, 9), np.linspace(-20, 50, 18), "latitudes from 35 to 69, longitudes from -20 to 50 .* 290"),
        (np.linspace(59, -80, 9), LON, "stop 31 degrees short of the north pole"),
        (np.linspace(80, -59, 9), LON, "stop 31 degrees short of the south pole"),
    ],
)
def test_grids_of_a_region_are_refused(series, tmp_path, lat, lon, message):
    file = write(tmp_path / "region.npz", lat=lat, lon=lon, t=SERIES)
    with pytest.raises(InputError, match=f"region.npz: the points do not cover the globe.*{message}.*whole globe"):
        data_of(file)
    with pytest.raises(InputError, match="whole globe.*missing values elsewhere"):
        fields_like(file, data_of(series, inputs=["t"]).preprocess)


def test_stations_of_a_region_are_refused(tmp_path):
    fields = RNG.random((20, 400))
    north = RNG.uniform(35, 69, 400), RNG.uniform(-20, 50, 400)
    rim = np.linspace(0, 2 * np.pi, 400, endpoint=False)  # many points share the rest of the globe
    for lat, lon in (north, (50 + 15 * np.sin(rim), 10 + 20 * np.cos(rim))):
        np.savez(tmp_path / "s.npz", lat=lat, lon=lon, t=fields)
        with pytest.raises(InputError, match="latitudes from 35.* do not|do not cover the globe: latitudes from 35"):
            data_of(tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", lat=np.degrees(np.arcsin(RNG.uniform(-1, 1, 400))), lon=RNG.uniform(0, 360, 400),
             t=fields)  # fmt: skip
    data_of(tmp_path / "s.npz")


def test_coarse_grids_are_of_the_globe(tmp_path):
    data_of(write(tmp_path / "a.npz", lat=np.array([67.5, 22.5, -22.5, -67.5]), lon=np.arange(0, 360, 60.0),
                  t=SERIES[:, :4, :6]))  # fmt: skip


# --- times ------------------------------------------------------------------------------------------------------------

HOURS = np.datetime64("2001-01-01") + 6 * np.arange(20) * np.timedelta64(1, "h")


def pairs(data):
    """Which states of ``SERIES`` (its row k is about k) each sample goes from and to."""
    return [(int(each.inputs[-1].mean()), int(each.targets.mean())) for each in data.samples]


def test_rows_are_sorted_by_time(tmp_path):
    order = np.random.default_rng(1).permutation(20)
    for time in (HOURS, HOURS.astype(str)):
        data = data_of(write(tmp_path / "a.npz", t=SERIES[order], time=time[order]))
        assert pairs(data) == [(k, k + 1) for k in range(19)] and data.preprocess["step_seconds"] == 6 * 3600
        assert data.split_spec == "time" and data.part("test")[-1].label.startswith("2001-01-05T12")
        assert "Samples were not in the order of time; they were sorted." in data.notes
    assert "step_seconds" in data_of(write(tmp_path / "b.npz", t=SERIES)).preprocess
    assert data_of(tmp_path / "b.npz").preprocess["step_seconds"] is None
    file = write(tmp_path / "c.npz", x=SERIES[::-1], y=SERIES[::-1], time=HOURS[::-1])
    assert pairs(data_of(file, task="regression", targets=["y"], split="time")) == [(k, k) for k in range(20)]


def test_pairs_never_cross_gaps_in_time(tmp_path):
    kept = [k for k in range(20) if k not in (7, 8, 13)]
    data = data_of(write(tmp_path / "a.npz", t=SERIES[kept], time=HOURS[kept]), history=2)
    assert pairs(data) == [(k, k + 1) for k in (1, 2, 3, 4, 5, 10, 11, 15, 16, 17, 18)]
    assert any("6 hours apart, but not at 2 places (first after 2001-01-02T12" in note for note in data.notes)
    assert data.split_spec == "time" and set(data.table["group"]) == {0}
    months = np.arange("2001-01", "2002-09", dtype="M8[M]")  # 28 to 31 days
    assert len(data_of(write(tmp_path / "m.npz", t=SERIES, time=months.astype("M8[D]"))).samples) == 19


def test_times_that_are_refused(tmp_path):
    twice = HOURS.copy()
    twice[4] = twice[3]
    with pytest.raises(InputError, match="times are given twice: 2001-01-01T18.*Leave out one"):
        data_of(write(tmp_path / "a.npz", t=SERIES, time=twice))
    data = data_of(write(tmp_path / "b.npz", t=SERIES, time=HOURS))
    with pytest.raises(InputError, match="its states are 1 day apart.* trained with 6 hours.*Resample"):
        fields_like(write(tmp_path / "c.npz", t=SERIES[::4], time=HOURS[::4]), data.preprocess)
    source, samples, _ = fields_like(write(tmp_path / "d.npz", t=SERIES[::-1], time=HOURS[::-1]), data.preprocess)
    assert samples[19].label == source.labels[-1] and source.labels[-1].startswith("2001-01-05T18")
    assert len(fields_like(write(tmp_path / "e.npz", t=SERIES[:1]), data.preprocess)[1]) == 1


def test_times_of_netcdf(tmp_path):
    xarray = pytest.importorskip("xarray")
    late = HOURS.copy()
    late[10:] += np.timedelta64(30, "D")
    coordinates = {"time": late.astype("M8[ns]"), "lat": LAT, "lon": LON}
    xarray.Dataset({"t": (("time", "lat", "lon"), SERIES)}, coords=coordinates).to_netcdf(tmp_path / "a.nc")
    assert (9, 10) not in pairs(data := data_of(tmp_path / "a.nc")) and len(data.samples) == 18
    assert data.preprocess["step_seconds"] == 6 * 3600


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ours, theirs, same",
    [
        ("m", "meters", True),
        (" m ", "metre", True),
        ("kelvin", "K", True),
        ("deg_C", "celsius", True),
        ("m s**-1", "m/s", True),
        ("hPa", "millibar", True),
        ("s-1", "1/s", True),
        ("mPa", "MPa", False),
        ("Pa", "hPa", False),
        ("m", "M", False),
        ("m s-1", "m s-2", False),
    ],
)
def test_names_of_units(tmp_path, ours, theirs, same):
    data = data_of(write(tmp_path / "a.npz", t=SERIES, t_units=np.array(ours)))
    file = write(tmp_path / "b.npz", t=SERIES, t_units=np.array(theirs))
    if same:
        assert fields_like(file, data.preprocess)[2] == []
    else:
        with pytest.raises(InputError, match="t is in .*, the model was trained with t in .* Convert it"):
            fields_like(file, data.preprocess)


def test_units_that_both_state_are_believed(tmp_path):
    wide = 4 * SERIES
    data = data_of(write(tmp_path / "a.npz", t=wide, t_units=np.array("m")))
    _, _, notes = fields_like(write(tmp_path / "b.npz", t=wide + 273.15, t_units=np.array("m")), data.preprocess)
    assert len(notes) == 1 and "both say m): is it in the same unit?" in notes[0]
    with pytest.raises(InputError, match="seems to be in kelvin"):
        fields_like(write(tmp_path / "c.npz", t=wide + 273.15), data.preprocess)
    with pytest.raises(InputError, match="both say m.: these cannot be the same quantity"):
        fields_like(write(tmp_path / "d.npz", t=wide * 1000, t_units=np.array("m")), data.preprocess)


def test_other_variables_of_new_files_are_not_read(tmp_path):
    xarray = pytest.importorskip("xarray")
    data = data_of(write(tmp_path / "a.npz", x=SERIES, y=2 * SERIES), task="regression", targets=["y"])
    places = {"lat": LAT, "lon": LON}
    odd = {"x": (("time", "lat", "lon"), SERIES), "depths": (("time", "soil", "lat", "lon"), SERIES[:, None])}
    xarray.Dataset(odd, coords=places).to_netcdf(tmp_path / "b.nc")
    source, samples, _ = fields_like(tmp_path / "b.nc", data.preprocess)
    assert list(source.variables) == ["x"] and samples[0].targets is None
    xarray.Dataset(odd | {"y": odd["x"]}, coords=places).to_netcdf(tmp_path / "c.nc")
    source, samples, _ = fields_like(tmp_path / "c.nc", data.preprocess)
    assert list(source.variables) == ["x", "y"] and samples[0].targets is not None
    xarray.Dataset({"xx": odd["x"]}, coords=places).to_netcdf(tmp_path / "d.nc")
    with pytest.raises(InputError, match="no variable 'x'. Did you mean 'xx'"):
        fields_like(tmp_path / "d.nc", data.preprocess)
