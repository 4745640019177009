"""Folders of every earlier format keep loading and keep predicting the same."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from geoattn.hub import FORMAT, from_pretrained

FIXTURES = Path(__file__).parent / "fixtures"


def example_batch():
    spec = importlib.util.spec_from_file_location("make_format_1", FIXTURES / "make_format_1.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.example_batch()


def test_every_format_has_a_fixture():
    folders = {path.name for path in FIXTURES.iterdir() if (path / "config.json").exists()}
    assert folders == {f"format_{number}" for number in range(1, FORMAT + 1)}


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_an_old_folder_predicts_what_it_did(number):
    loaded = from_pretrained(FIXTURES / f"format_{number}")
    assert loaded.config["format"] == number
    expected = json.loads((FIXTURES / f"format_{number}_expected.json").read_text())
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(example_batch()), torch.tensor(expected), rtol=1e-5, atol=1e-6)
