import json

import pandas as pd
import pytest

from geoattn._files import TEMPORARY_PREFIX
from geoattn.errors import InputError
from geoattn.tasks._run import RunFolder, command_line, environment, read_config


def test_a_folder_with_content_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty. Add --resume .* or choose another --out"):
        RunFolder.at("molecules", tmp_path, resume=False)
    with pytest.raises(InputError, match="exists and is not empty. Choose another --out"):
        RunFolder.at("molecules", tmp_path, resume=None)
    assert RunFolder.at("molecules", tmp_path, resume=True).path == tmp_path


def test_an_empty_folder_and_leftovers_are_fine(tmp_path):
    (tmp_path / f"{TEMPORARY_PREFIX}12-config.yaml").write_text("half")
    folder = RunFolder.at("molecules", tmp_path, resume=False)
    folder.make()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        RunFolder.at("molecules", tmp_path / "file", resume=False)
    with pytest.raises(InputError, match="cannot be made"):
        RunFolder.at("molecules", tmp_path / "file" / "below", resume=False)


def test_choosing_makes_nothing(tmp_path):
    RunFolder.at("molecules", tmp_path / "a" / "b", resume=False)
    assert not (tmp_path / "a").exists()


def test_default_names_are_fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    paths = []
    for _ in range(3):
        folder = RunFolder.at("molecules", None, resume=False)
        folder.make()
        paths.append(folder.path.as_posix())
    assert paths == [f"runs/molecules-20260101-000000{end}" for end in ("", "-2", "-3")]


def test_files(tmp_path):
    folder = RunFolder(tmp_path)
    config = {"b": {"x": 1e-5, "s": "é", "n": None, "l": [1, 2]}, "a": True}
    assert read_config(tmp_path) is None and folder.read_json("m.json") is None
    folder.write_config(config)
    folder.write_json("m.json", {"v": 1.5})
    folder.write_table("t.csv", pd.DataFrame({"a": [1], "b": ["x,y"]}))
    folder.write_environment("geoattn molecules fit")
    assert read_config(tmp_path) == config and folder.read_json("m.json") == {"v": 1.5}
    assert (tmp_path / "t.csv").read_text() == 'a,b\n1,"x,y"\n'
    assert (tmp_path / "environment.txt").read_text().startswith("command: geoattn molecules fit\ngeoattn: ")
    with pytest.raises(ValueError):
        folder.write_json("m.json", {"v": float("nan")})  # not JSON
    assert json.loads((tmp_path / "m.json").read_text()) == {"v": 1.5}


def test_the_command_can_be_pasted():
    assert command_line(["molecules", "fit", "--data", "my file.csv"]) == "geoattn molecules fit --data 'my file.csv'"


def test_environment_names_versions():
    found = environment()
    assert {"geoattn", "python", "torch", "numpy", "threads", "processor"} <= set(found)
    assert all(isinstance(value, str) for value in found.values())
