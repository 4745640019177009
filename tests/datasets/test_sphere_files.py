import numpy as np
import pytest

from geoattn.datasets.sphere_axes import grid_layout
from geoattn.datasets.sphere_files import read_fields
from geoattn.datasets.sphere_output import FieldOutput, write_fields
from geoattn.domains.sphere.records import SphereGrid
from geoattn.errors import InputError

LAT, LON = np.linspace(90, -90, 7), np.arange(0, 360, 30.0)


def height(lat, lon):
    """Differs at every place; the same along the poles."""
    lat, lon = np.radians(lat)[:, None], np.radians(lon)[None]
    return (np.sin(lat) + np.cos(lat) * np.cos(lon) + 2 * np.cos(lat) * np.sin(lon)).astype(np.float32)


def write(path, **arrays):
    np.savez(path, **{"lat": LAT, "lon": LON, "h": height(LAT, LON)} | arrays)
    return path


def of_grid(found):
    return found.variables["h"].reshape(-1, *found.grid.shape)


# --- axes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lat, lon, note",
    [
        (LAT, LON, None),
        (LAT[::-1], LON, "Latitudes run from south to north"),
        (LAT, np.arange(-180, 180, 30.0), "Longitudes below 0 were turned"),
        (LAT, np.append(LON, 360.0), "0 and 360 degrees are the same meridian"),
        (LAT, np.arange(-180, 181, 30.0), "-180 and 180 degrees are the same meridian"),
        (np.append(90.0, LAT), LON, "The pole is given twice"),
        (LAT, (LON + 90) % 360, None),
    ],
)
def test_every_way_to_write_a_grid_is_one_grid(tmp_path, lat, lon, note):
    field = height(lat, lon)
    found = read_fields(write(tmp_path / "a.npz", lat=lat, lon=lon, h=field))
    assert found.grid == SphereGrid("lat_lon", tuple(LAT.tolist()), tuple(LON.tolist()))
    np.testing.assert_allclose(of_grid(found)[0], height(LAT, LON), atol=1e-6)
    assert any(note in text for text in found.notes) if note else found.notes == []
    np.testing.assert_allclose(found.layout.to_file(found.variables["h"])[0], field, atol=1e-6)  # and back


@pytest.mark.parametrize(
    "lat, lon, message",
    [
        (np.radians(LAT), np.radians(LON), "look like radians"),
        (LON[:7], LAT, "Latitude and longitude seem to be exchanged"),
        (np.linspace(100, -90, 7), LON, "got values from -90 to 100, expected degrees from -90 to 90"),
        (np.append(LAT[:-1], 90), LON, "does its last value lack the sign"),
        (LAT[[0, 2, 1, 3, 4, 5, 6]], LON, "neither falls nor rises"),
        (np.append(LAT[:-1], LAT[-2]), LON, "has -60 twice"),
        (LAT, LON[::-1], "longitude: the axis does not run eastwards"),
        (np.append(LAT[:-1], np.nan), LON, "1 of 7 values that are not finite"),
    ],
)
def test_axes_that_are_refused(lat, lon, message):
    with pytest.raises(InputError, match=message):
        grid_layout("a.nc", lat, lon)


# --- npz --------------------------------------------------------------------------------------------------------------


def test_missing_values_are_masked(tmp_path):
    field = np.stack([height(LAT, LON)] * 2)
    field[0, 2, 3], field[1, 3, 3] = np.nan, 9.96921e36
    found = read_fields(write(tmp_path / "a.npz", h=field))
    assert np.isnan(found.variables["h"]).sum() == 2 and np.isnan(of_grid(found)[1, 3, 3])
    assert found.notes == ["Missing values are masked, not filled: h (2 of 168)."]


def test_samples_trajectories_and_what_does_not_change(tmp_path):
    field = np.arange(2 * 3 * 7 * 12, dtype=np.float32).reshape(2, 3, 7, 12) * 0 + np.arange(6).reshape(2, 3, 1, 1)
    found = read_fields(write(tmp_path / "a.npz", wave=field, h_units=np.array("m")))
    assert found.group.tolist() == [0, 0, 0, 1, 1, 1] and found.labels[4] == "1,1" and found.trajectories
    assert found.variables["wave"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.static == ["h"] and found.units == {"h": "m"}


def test_stations_and_healpix(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "s.npz", lat=rng.uniform(-90, 90, 20), lon=rng.uniform(-180, 180, 20), t=rng.random((3, 20)))
    found = read_fields(tmp_path / "s.npz")
    assert found.grid.kind == "scattered" and found.num_samples == 3 and min(found.grid.longitude) >= 0
    np.savez(tmp_path / "h.npz", t=rng.random((3, 48)), order=np.array("nested"))
    assert str(read_fields(tmp_path / "h.npz").grid) == "HEALPix, nside 2, nested"
    np.savez(tmp_path / "h.npz", t=rng.random(48))
    assert "read as ring" in read_fields(tmp_path / "h.npz").notes[0]


def test_poles_that_differ_are_told(tmp_path):
    field = height(LAT, LON)
    field[0] += np.arange(12)
    assert read_fields(write(tmp_path / "a.npz", h=field)).notes[0].startswith("At the poles h differs along")


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"h: got shape \(12, 7\), expected .*write numpy.swapaxes"):
        read_fields(write(tmp_path / "a.npz", h=height(LAT, LON).T))
    with pytest.raises(InputError, match="no variable 'hight'. Did you mean 'h"):
        read_fields(write(tmp_path / "b.npz", height=height(LAT, LON)), ["hight"])
    with pytest.raises(InputError, match=r"a2.npz: no such file. Did you mean 'a.npz'"):
        read_fields(tmp_path / "a2.npz")
    (tmp_path / "c.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not an .npz file"):
        read_fields(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", h=np.zeros(17))
    with pytest.raises(InputError, match="no array has 12 nside"):
        read_fields(tmp_path / "d.npz")


def test_several_files(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(3):
        write(folder / f"{k}.npz", t=np.full((2, 7, 12), k, dtype=np.float32))
    found = read_fields(folder)
    assert found.variables["t"][:, 0].tolist() == [0, 0, 1, 1, 2, 2] and found.group.tolist() == [0] * 6
    assert found.static == ["h"] and found.labels[2] == "1:0"
    assert len(read_fields(str(folder / "[01].npz")).labels) == 4
    write(folder / "3.npz", lat=LAT[1:], h=height(LAT[1:], LON), t=np.zeros((2, 6, 12)))
    with pytest.raises(InputError, match="3.npz: its points are 6 latitudes x 12 longitudes.*need one grid"):
        read_fields(folder)


# --- xarray and FITS --------------------------------------------------------------------------------------------------


def dataset(**coordinates):
    xarray = pytest.importorskip("xarray")
    values = np.stack([np.stack([height(LAT, LON) + 10 * t + p for p in (0, 1)]) for t in range(4)])
    axes = {"time": np.arange("2001-01-01", "2001-01-05", dtype="M8[D]").astype("M8[ns]"), "level": [850, 500]}
    made = xarray.Dataset(
        {"z": (("time", "level", "lat", "lon"), values, {"units": "m"}), "oro": (("lon", "lat"), height(LAT, LON).T)},
        coords={**axes, "lat": LAT, "lon": LON, **coordinates},
    )
    made["z"].values[0, 0, 1, 1] = np.nan
    return made


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_netcdf_and_zarr(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    made = dataset()
    if suffix == ".nc":
        made.to_netcdf(path, engine="h5netcdf", encoding={"z": {"_FillValue": -999.0}})
    else:
        made.to_zarr(path, zarr_format=2, consolidated=True)
    found = read_fields(path)
    assert sorted(found.variables) == ["oro", "z@500", "z@850"] and found.units == {"z@500": "m", "z@850": "m"}
    assert found.labels[1].startswith("2001-01-02") and found.static == ["oro"] and not found.trajectories
    reshaped = found.variables["z@500"].reshape(4, 7, 12)
    np.testing.assert_allclose(reshaped[3], height(LAT, LON) + 31, atol=1e-5)
    np.testing.assert_allclose(found.variables["oro"].reshape(7, 12), height(LAT, LON), atol=1e-6)
    assert np.isnan(found.variables["z@850"].reshape(4, 7, 12)[0, 1, 1]) and "z@850 (1 of 336)" in found.notes[0]
    assert list(read_fields(path, ["z"]).variables) == ["z@850", "z@500"]
    with pytest.raises(InputError, match="no variable 'orog'. Did you mean 'oro'"):
        read_fields(path, ["orog"])


def test_members_with_times_are_trajectories(tmp_path):
    made = dataset().isel(level=0, drop=True).expand_dims(member=[3, 5], axis=1)
    made = made.assign(z=made["z"].transpose("time", "member", "lat", "lon"), oro=dataset()["oro"])
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read_fields(tmp_path / "a.nc")
    assert (
        found.trajectories and found.group.tolist() == [0] * 4 + [1] * 4 and found.labels[5].startswith("5,2001-01-02")
    )
    assert found.variables["z"].reshape(2, 4, 7, 12)[1, 2, 3, 4] == pytest.approx(height(LAT, LON)[3, 4] + 20, abs=1e-5)


def test_names_of_coordinates(tmp_path):
    renamed = dataset().rename(lat="rows", lon="columns")
    renamed.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="a.nc: no coordinate is a latitude"):
        read_fields(tmp_path / "a.nc")
    renamed["rows"].attrs["units"], renamed["columns"].attrs["units"] = "degrees_north", "degrees_east"
    renamed.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    assert read_fields(tmp_path / "b.nc").grid.shape == (7, 12)


@pytest.mark.parametrize("order", ["RING", "NESTED"])
def test_fits(tmp_path, order):
    fits = pytest.importorskip("astropy.io.fits")
    values = np.arange(48, dtype=np.float32)
    values[7] = -1.6375e30
    table = fits.BinTableHDU.from_columns(
        [fits.Column("TEMPERATURE", "E", unit="mK", array=values), fits.Column("Q", "E", array=values * 2)]
    )
    table.header["NSIDE"], table.header["ORDERING"], table.header["COORDSYS"] = 2, order, "G"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
    found = read_fields(tmp_path / "a.fits")
    assert found.grid == SphereGrid("healpix", size=2, order=order.lower()) and found.units == {"TEMPERATURE": "mK"}
    assert np.isnan(found.variables["TEMPERATURE"][0, 7]) and found.variables["Q"][0, 5] == 10
    assert found.notes[0].startswith("The map is in galactic coordinates")
    table.header["NSIDE"] = 4
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "b.fits")
    with pytest.raises(InputError, match=r"got 48 pixels \(nside 2\), expected 192"):
        read_fields(tmp_path / "b.fits")


# --- names and what is no file of fields ------------------------------------------------------------------------------


def test_names_that_are_empty_hidden_or_far(tmp_path):
    for name in ("", "  "):
        with pytest.raises(InputError, match="--data: got an empty name"):
            read_fields(name)
    write(tmp_path / "a.npz")
    (tmp_path / "._a.npz").write_bytes(b"what another system leaves")
    for path in (tmp_path, f"{tmp_path}/*.npz"):
        assert read_fields(path).num_samples == 1
    with pytest.raises(InputError, match="no file has such a name"):
        read_fields(f"{tmp_path}/.*.npz")
    with pytest.raises(InputError, match="no such file.$"):
        read_fields(tmp_path / "states.npz")


@pytest.mark.parametrize("content, message", [(b"", "it is empty"), (b"<html>Sign in", "it begins with b'<html>")])
def test_what_is_no_netcdf(tmp_path, content, message):
    pytest.importorskip("h5netcdf")
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(InputError, match=f"a.nc: this is no NetCDF file: {message}.*fetch or write it again"):
        read_fields(tmp_path / "a.nc")


def test_names_of_levels(tmp_path):
    made = dataset(level=[100000.0, 92.5]).drop_vars("oro")
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert list(read_fields(tmp_path / "a.nc").variables) == ["z@100000", "z@92.5"]
    dataset(level=[500, 500]).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="two levels of z are called z@500"):
        read_fields(tmp_path / "b.nc")


def test_netcdf_output_keeps_the_names_of_the_file(tmp_path):
    xarray = pytest.importorskip("xarray")
    made = dataset().isel(level=0, drop=True).rename(lat="latitude", lon="longitude", time="valid_time")
    made["z"].attrs["long_name"] = "Geopotential height"
    made.transpose("longitude", "latitude", "valid_time").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    source = read_fields(tmp_path / "a.nc", ["z"])
    write_fields(tmp_path / "b.nc", FieldOutput(source, (4,), source.variables, source.labels, units={"z": "m"}))
    with xarray.open_dataset(tmp_path / "b.nc") as found:
        assert found["z"].dims == ("valid_time", "latitude", "longitude")
        assert found["z"].attrs == {"units": "m", "long_name": "Geopotential height"}
        np.testing.assert_array_equal(found["valid_time"].values, made["valid_time"].values)
        np.testing.assert_allclose(found["z"].values, made["z"].values, atol=1e-5)
