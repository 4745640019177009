"""Energies with forces from the command line: fit, test, predict, what is written, what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from geoattn.cli import main
from geoattn.domains.molecules import Calculator
from geoattn.domains.molecules.egnn_potential import EGNNPotential
from geoattn.errors import InputError
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.tasks import molecules
from geoattn.tasks._forces_module import ForcesModule

MODEL = ["--model.name", "egnn", "--model.channels", "8", "--model.num_layers", "1", "--model.num_radial", "6"]
FIT = ["molecules", "fit", "--data.task", "forces", "--data.cutoff", "4.0", "--data.batch_size", "6", "--quiet", *MODEL]
SMALL = {
    "data": {"task": "forces", "cutoff": 4.0, "batch_size": 6},
    "model": {"name": "egnn", "channels": 8, "num_layers": 1, "num_radial": 6, "learning_rate": 0.01},
    "quiet": True,
}
FILES = [
    "checkpoints", "config.yaml", "environment.txt", "metrics.csv", "metrics.json", "model", "predictions.csv",
    "predictions.forces.csv", "rejected.csv", "report.html", "split.json",
]  # fmt: skip


def frames(n: int = 30, periodic: bool = False) -> list[Atoms]:
    """Shaken argon with the energies of Lennard and Jones."""
    result = []
    for k in range(n):
        if periodic:
            atoms = bulk("Ar", "fcc", 5.2, cubic=True)
            atoms.set_cell(atoms.cell * (1 + 0.01 * (k % 3)), scale_atoms=True)
        else:
            atoms = Atoms("Ar3Ne", 2.7 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]))
        atoms.rattle(0.15, seed=k)
        atoms.calc = LennardJones(sigma=2.4, epsilon=0.1, rc=4.0, smooth=True)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if periodic:
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["id"] = f"frame{k}"
        result.append(atoms)
    return result


@pytest.fixture
def file(tmp_path) -> str:
    ase.io.write(tmp_path / "argon.xyz", frames())
    return str(tmp_path / "argon.xyz")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on clusters, and its file."""
    folder = tmp_path_factory.mktemp("forces")
    ase.io.write(folder / "argon.xyz", frames(60))
    options = {**SMALL, "trainer": {"max_epochs": 25}}
    return molecules.fit(folder / "argon.xyz", out=folder / "run", **options), str(folder / "argon.xyz")


def test_fit(file, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([*FIT, "--data", file, "--out", str(out), "--trainer.max_epochs", "2"]) == 0
    assert sorted(p.name for p in out.iterdir()) == FILES
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["data"]["task"] == "forces" and config["trainer"]["max_epochs"] == 2
    metrics = json.loads((out / "metrics.json").read_text())
    names = ["energy_mae", "force_mae", "energy_mae_per_atom", "energy_rmse", "force_rmse"]
    assert list(metrics["test"]) == list(metrics["valid"]) == names
    assert metrics["test"]["force_mae"]["n"] == 3 * 4 * 3
    assert list(metrics["baselines"]["test"]["reference_energies_zero_force"]) == names
    table = pd.read_csv(out / "predictions.csv")
    assert list(table) == ["id", "line", "formula", "num_atoms", "energy", "energy_pred", "split"]
    test = table[table["split"] == "test"]
    error = (test["energy"] - test["energy_pred"]).abs().mean()
    assert metrics["test"]["energy_mae"]["value"] == pytest.approx(error)
    forces = pd.read_csv(out / "predictions.forces.csv")
    assert len(forces) == 6 * 4 and list(forces["element"][:4]) == ["Ar", "Ar", "Ar", "Ne"]
    of_test = forces[forces["id"].isin(test["id"])]
    errors = [(of_test[f"force_{axis}"] - of_test[f"force_{axis}_pred"]).abs() for axis in "xyz"]
    assert metrics["test"]["force_mae"]["value"] == pytest.approx(np.mean(errors))
    history = pd.read_csv(out / "metrics.csv")
    assert {"valid_force_mae", "valid_energy_mae", "train_loss", "valid_loss"} <= set(history)
    report = (out / "report.html").read_text()
    assert "force MAE" in report and "meV/Å" in report and "Learning curve" in report
    card = (out / "model" / "README.md").read_text()
    assert "the negative gradient" in card and "Potential for Ar3Ne" in card


def test_it_learns(trained):
    """Better than reference energies alone; the network is tiny and the training short."""
    metrics = trained[0].metrics
    baseline = metrics["baselines"]["test"]["reference_energies_zero_force"]
    assert metrics["test"]["force_mae"]["value"] < 0.7 * baseline["force_mae"]["value"]
    assert metrics["test"]["energy_mae"]["value"] < 0.7 * baseline["energy_mae"]["value"]


def test_the_model_folder_gives_what_was_measured(trained):
    run, file = trained
    table = pd.read_csv(run.folder / "predictions.csv").set_index("id")
    calculator = Calculator(run.folder)
    for atoms in ase.io.read(file, index=":"):
        if atoms.info["id"] in table.index:
            expected = table["energy_pred"][atoms.info["id"]]
            atoms.calc = calculator
            assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-5)


def test_resume_repeats_the_run(file, tmp_path):
    """Four epochs at once, and two and two, to the last digit: weights, average, schedule and order go on."""
    whole = molecules.fit(file, out=tmp_path / "whole", **SMALL, trainer={"max_epochs": 4})

    class StopError(Exception):
        pass

    epochs = []
    original = ForcesModule.on_train_epoch_end

    def stopping(self):
        original(self)
        epochs.append(self.current_epoch)
        if len(epochs) == 3:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geoattn.tasks._training.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        patch.setattr(ForcesModule, "on_train_epoch_end", stopping)
        with pytest.raises(StopError):
            molecules.fit(file, out=tmp_path / "parts", **SMALL, trainer={"max_epochs": 4})
    parts = molecules.fit(file, out=tmp_path / "parts", resume=True, quiet=True)
    first, second = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert whole.metrics == parts.metrics


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse", "schedule": "plateau", "patience": 0},
        {"name": "equiformer-v2", "lmax": 1, "num_heads": 2},
        {"name": "equiformer", "lmax": 1, "num_heads": 2},
    ],
    ids=lambda options: options.get("name", "plateau"),
)
def test_options_of_the_model(file, tmp_path, options):
    config = {**SMALL, "model": {**SMALL["model"], **options}}
    run = molecules.fit(file, out=tmp_path / "run", **config, trainer={"max_epochs": 1})
    assert np.isfinite(run.metrics["test"]["force_mae"]["value"])
    loaded = from_pretrained(run.folder / "model")
    assert type(loaded.model) is type(run.model)


def test_crystals_with_stress(tmp_path, capsys):
    """Stress is trained on, measured, predicted; frames without one take part with their forces."""
    some = frames(20, periodic=True)
    some[3].calc.results.pop("stress")
    ase.io.write(tmp_path / "a.xyz", some)
    config = {**SMALL, "data": {**SMALL["data"], "stress_key": "stress"}}
    config["model"] = {**SMALL["model"], "stress_weight": 1.0}
    run = molecules.fit(tmp_path / "a.xyz", out=tmp_path / "run", **config, trainer={"max_epochs": 15})
    baseline = run.metrics["baselines"]["test"]["reference_energies_zero_force"]
    assert run.metrics["test"]["stress_mae"]["value"] < baseline["stress_mae"]["value"]
    assert "Components of the stress" in (run.folder / "report.html").read_text()
    for name in ("p.csv", "p.xyz"):
        words = [
            "--model",
            str(run.folder),
            "--data",
            str(tmp_path / "a.xyz"),
            "--out",
            str(tmp_path / name),
            "--quiet",
        ]
        assert main(["molecules", "predict", *words]) == 0
    table = pd.read_csv(tmp_path / "p.csv")
    predicted = ase.io.read(tmp_path / "p.xyz", index=0)
    voigt = table[[f"stress_pred_{pair}" for pair in ("xx", "yy", "zz", "yz", "xz", "xy")]].iloc[0]
    np.testing.assert_allclose(predicted.get_stress(), voigt, atol=1e-6)
    predicted.calc = Calculator(run.folder)
    np.testing.assert_allclose(predicted.get_stress(), voigt, atol=1e-6)


def test_test(trained, tmp_path, capsys):
    run, file = trained
    words = ["molecules", "test", "--model", str(run.folder), "--data", file, "--rows", "test"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "48 of 60 structures of the file are in the model's training part" in shown.err
    value = 1000 * run.metrics["test"]["force_mae"]["value"]
    assert re.search(rf"force MAE +{value:.0f}", shown.out), "in meV/angstrom, over the test part alone"
    assert "reference_energies_zero_force" in shown.out and "n = 6 structures" in shown.out
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["test"]["force_mae"]["value"] == pytest.approx(run.metrics["test"]["force_mae"]["value"], rel=1e-5)
    assert written["baselines"] == run.metrics["baselines"]
    assert len(pd.read_csv(tmp_path / "out" / "predictions.forces.csv")) == 6 * 4
    assert "force MAE" in (tmp_path / "out" / "report.html").read_text()


def test_test_with_other_keys(trained, tmp_path):
    run, file = trained
    some = ase.io.read(file, index=":5")
    for atoms in some:
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
    ase.io.write(tmp_path / "b.xyz", some)
    with pytest.raises(InputError, match="choose with --data.energy-key"):
        molecules.test(str(run.folder), str(tmp_path / "b.xyz"), quiet=True)
    keys = {"energy_key": "REF_energy", "forces_key": "REF_forces"}
    metrics = molecules.test(str(run.folder), str(tmp_path / "b.xyz"), quiet=True, **keys)
    assert metrics["test"]["energy_mae"]["n"] == 5


@pytest.mark.parametrize("suffix", [".xyz", ".csv", ".parquet"])
def test_predict(trained, tmp_path, suffix):
    """Three chunks; the second has a frame with an unknown element and nothing but it is left out."""
    run, file = trained
    some = ase.io.read(file, index=":7")
    some[2].symbols[0] = "Xe"
    ase.io.write(tmp_path / "new.xyz", some)
    out = tmp_path / f"p{suffix}"
    words = ["molecules", "predict", "--model", str(run.folder), "--data", str(tmp_path / "new.xyz"), "--quiet"]
    assert main([*words, "--out", str(tmp_path / f"strict{suffix}"), "--chunk-size", "3"]) == 2
    assert main([*words, "--out", str(out), "--chunk-size", "3", "--on-error", "skip"]) == 0
    kept = [atoms for k, atoms in enumerate(some) if k != 2]
    rejected = pd.read_csv(f"{out}.rejected.csv")
    assert rejected["value"].tolist() == ["Xe"] and rejected["line"].tolist() == [13]
    calculator = Calculator(run.folder)
    energies = [calculator.get_potential_energy(atoms) for atoms in kept]
    forces = np.concatenate([calculator.get_forces(atoms) for atoms in kept])
    if suffix == ".xyz":
        found = ase.io.read(out, index=":")
        assert [a.get_potential_energy() for a in found] == pytest.approx(energies, abs=1e-5)
        np.testing.assert_allclose(np.concatenate([a.get_forces() for a in found]), forces, atol=1e-5)
        assert [a.info["id"] for a in found] == [a.info["id"] for a in kept]
        assert [a.info["REF_energy"] for a in found] == pytest.approx([a.get_potential_energy() for a in kept])
        np.testing.assert_allclose(found[0].arrays["REF_forces"], kept[0].get_forces(), atol=1e-7)
        return
    read = pd.read_csv if suffix == ".csv" else pd.read_parquet
    table, atoms = read(out), read(tmp_path / f"p.forces{suffix}")
    assert table["id"].tolist() == [a.info["id"] for a in kept]
    assert table["energy_pred"].tolist() == pytest.approx(energies, abs=1e-5)
    np.testing.assert_allclose(atoms[[f"force_{axis}_pred" for axis in "xyz"]], forces, atol=1e-5)


def test_predict_goes_on(trained, tmp_path, monkeypatch, capsys):
    """After an interruption the chunks that are done are not predicted again."""
    import geoattn.tasks._forces_predict as module

    run, file = trained
    real, calls = module.predict_structures, []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(module, "predict_structures", failing)
    words = ["molecules", "predict", "--model", str(run.folder), "--data", file, "--chunk-size", "20"]
    for name in ("p.xyz", "p.csv"):
        calls.clear()
        assert main([*words, "--out", str(tmp_path / name)]) == 130
        assert main([*words, "--out", str(tmp_path / name)]) == 0
        assert len(calls) == 4
        assert "Going on after 2 chunks" in capsys.readouterr().err
    assert len(ase.io.read(tmp_path / "p.xyz", index=":")) == len(pd.read_csv(tmp_path / "p.csv")) == 60
    assert len(pd.read_csv(tmp_path / "p.forces.csv")) == 240


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": 2}, "potentials are trained one at a time"),
        ({"model": {"stress_weight": 1.0}}, "no stress was read"),
        ({"model": {"force_weight": -1.0}}, "expected none below 0"),
        ({"model": {"huber_delta": 0.0}}, "expected a number above 0"),
        ({"model": {"chanels": 8}}, "Did you mean 'model.channels'"),
        ({"model": {"name": "egn"}}, "expected 'egnn'"),
        ({"data": {"task": "forces", "targets": ["energy"]}}, "Unknown key 'data.targets'"),
    ],
)
def test_wrong_options(file, tmp_path, options, message):
    config = {"data": {"task": "forces"}, **options}
    with pytest.raises(InputError, match=message):
        molecules.fit(file, out=tmp_path / "run", quiet=True, **config)
    assert not (tmp_path / "run").exists()


def test_on_error_skip_lists_the_frames(tmp_path):
    some = frames(20)
    some[4].calc.results["forces"][0, 0] = np.nan
    some[7].calc.results.pop("forces")
    ase.io.write(tmp_path / "a.xyz", some)
    with pytest.raises(InputError, match="a.xyz:25: forces"):
        molecules.fit(tmp_path / "a.xyz", out=tmp_path / "no", **SMALL)
    words = ["--data", str(tmp_path / "a.xyz"), "--out", str(tmp_path / "run"), "--on-error", "skip"]
    assert main([*FIT, *words, "--trainer.max_epochs", "1"]) == 0
    rejected = pd.read_csv(tmp_path / "run" / "rejected.csv")
    assert rejected["line"].tolist() == [25, 43]
    assert "the force on atom 1 is not finite" in (tmp_path / "run" / "report.html").read_text()


def test_smiles_have_no_forces(trained):
    with pytest.raises(InputError, match="a potential needs positions"):
        molecules.predict(trained[0].folder, ["CCO"])


def test_a_model_of_properties_is_no_potential(tmp_path, structures):
    config = {"data": {"targets": ["energy_ev"]}, "model": {"hidden_channels": 8, "num_layers": 1}}
    run = molecules.fit(structures, out=tmp_path / "run", quiet=True, **config, trainer={"max_epochs": 1})
    with pytest.raises(InputError, match="expected a potential"):
        Calculator(run.folder)


def test_the_loss():
    """Huber joins its two parts smoothly and is about twice the length beyond."""

    class Data:
        elements, references_of, scale, cutoff, mean_energy = [1], {}, 1.0, 3.0, 0.0
        keys = type("Keys", (), {"stress": None})

    module = ForcesModule(Data(), "egnn", 4, 1, 4, huber_delta=0.1)
    squared = torch.tensor([0.0, 0.0025, 0.01 - 1e-9, 0.01 + 1e-9, 1.0], dtype=torch.float64, requires_grad=True)
    values = module._penalty(squared)
    expected = torch.tensor([0.0, 0.025, 0.1, 0.1, 1.9], dtype=torch.float64)
    torch.testing.assert_close(values.detach(), expected, rtol=0, atol=1e-6)
    values.sum().backward()
    assert torch.isfinite(squared.grad).all() and squared.grad[2] == pytest.approx(float(squared.grad[3]), rel=1e-6)


def test_the_example_of_dynamics_runs(tmp_path):
    """With an untrained potential: total energies are printed and the figure is written."""
    torch.manual_seed(0)
    potential = EGNNPotential([1, 6, 8], {}, 5.0, cutoff=3.0, channels=8, num_layers=1, num_radial=6)
    card = Card("t", "s", {"energy": "eV"}, "d", "MIT", "random", "c", [0])
    tables = {"preprocess": {"task": "forces"}, "metrics": {}, "split": {}}
    save_pretrained(tmp_path / "m", potential, task="molecules", card=card, **tables)
    script = Path(__file__).parents[2] / "examples" / "md_ethanol.py"
    words = ["--model", str(tmp_path / "m"), "--picoseconds", "0.02", "--out", str(tmp_path / "images" / "md.svg")]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    spread = [float(value) for value in re.findall(r"total energy sd ([\d.]+)", done.stdout)]
    assert len(spread) == 3 and spread[2] > 2 * spread[1], "the error of the integrator falls with the step"
    assert "<svg" in (tmp_path / "images" / "md.svg").read_text()
