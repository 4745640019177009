"""Shipped models: listed, found by name from any folder, and all of them in order."""

import pytest

from geoattn.errors import InputError
from geoattn.hub import from_pretrained, list_models, save_pretrained, shipped


@pytest.fixture
def shelf(toy, extras, tmp_path, monkeypatch):
    """A package that ships two toys."""
    for name in ["molecules-toy", "molecules-top"]:
        save_pretrained(tmp_path / "models" / name, toy(2), **extras)
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "models"


def test_models_are_listed_with_one_line_each(shelf):
    models = list_models()
    assert [model.name for model in models] == ["molecules-top", "molecules-toy"]
    assert models[0].task == "molecules"
    assert models[0].description == "Energy of small toys; test RMSE 0.50 [0.40, 0.60]"  # R² is a gap


def test_a_name_works_from_any_folder_and_a_local_folder_goes_first(shelf, toy, extras):
    assert from_pretrained("molecules-toy").folder == shelf / "molecules-toy"
    local = save_pretrained("molecules-toy", toy(3), **extras)
    assert from_pretrained("molecules-toy").folder == local


def test_an_unknown_name_gets_the_nearest(shelf):
    with pytest.raises(InputError, match="Did you mean 'molecules-toy'"):
        from_pretrained("molecule-toy")


def test_without_shipped_models_the_list_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    assert list_models() == []
    with pytest.raises(InputError, match="No models are shipped"):
        from_pretrained("molecules-esol")


@pytest.mark.parametrize("name", shipped.names())
def test_each_shipped_model_loads_and_is_described(name):
    loaded = from_pretrained(name)
    card = (loaded.folder / "README.md").read_text(encoding="utf-8")
    assert name.startswith(f"{loaded.task}-") and loaded.metrics["test"] and "No test split" not in card
