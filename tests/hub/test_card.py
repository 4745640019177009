"""The card: a person and the hub's own reader both understand it, and making it needs no network."""

import dataclasses
import socket

import pytest
import yaml

from geoattn.hub import save_pretrained


@pytest.fixture
def card(toy, extras, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return (save_pretrained(tmp_path / "molecules-toy", toy(4), **extras) / "README.md").read_text(encoding="utf-8")


def test_the_card_says_what_it_must(card):
    for words in [
        "# Energies of toys",
        "| `E` | energy, eV |",
        "Toys 1.0",
        "Licence of the data: CC-BY-4.0",
        "random 60/10/30, seed 0 (train 3, valid 1, test 2)",
        "Shared by train and test: identical molecules 0; shared scaffolds 12",
        "| **this model** | **0.50 [0.40, 0.60]** |",
        "| mean | 1.25 [1.00, 1.50] |",
        "n = 113",
        "3.1 × 10⁻⁷ in float32; 5.0 × 10⁻¹⁶ in float64",
        "geoattn molecules fit --data.file toys.xyz",
        "geoattn molecules predict --model molecules-toy --data toys.xyz",
        'from_pretrained("molecules-toy")',
        "Seed: 0",
        "torch ",
        "- Only toys | no tools.",
    ]:
        assert words in card, words
    assert "{{" not in card and "{%" not in card and "\n\n\n\n" not in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head(card):
    for block in card.split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


def test_the_header_is_read_by_the_hubs_library(card):
    from huggingface_hub import ModelCard

    data = ModelCard(card).data
    assert data.library_name == "geoattn" and data.license == "apache-2.0"
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [("rmse", 0.5)]
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["name"] == "molecules-toy"


def test_text_of_a_user_cannot_break_a_table(toy, extras, tmp_path):
    card = dataclasses.replace(extras["card"], targets={"a|b": "first\nsecond | third"})
    folder = save_pretrained(tmp_path / "model", toy(4), **{**extras, "card": card})
    assert r"| `a\|b` | first second \| third |" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_model_without_a_test_split_says_so(toy, extras, tmp_path):
    folder = save_pretrained(tmp_path / "model", toy(4), **{**extras, "metrics": {}})
    assert "No test split was kept back" in (folder / "README.md").read_text(encoding="utf-8")
