"""The wheel, installed into an environment that has the base dependencies and nothing else, works."""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRA_PACKAGES = ("rdkit", "ase", "vesin", "triton", "pytest")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment: the wheel, and links to the distributions that it requires, transitively."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    geoattn = next(Distribution.discover(path=[str(site)], name="geoattn"))
    for dependency in _closure(geoattn):
        for entry in {file.parts[0] for file in dependency.files or ()} - {"..", "__pycache__"}:
            target = Path(str(dependency.locate_file(entry)))
            if target.exists() and not (site / entry).exists():
                (site / entry).symlink_to(target)
    return python


def run(python: Path, *command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [str(python), *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_wheel_is_pure_python_and_carries_its_data(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    in_tree = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "geoattn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(in_tree) <= set(names)
    assert "geoattn/py.typed" in names
    for pattern in (
        r"geoattn/tasks/recipes/.+\.yaml",
        r"geoattn/report/templates/.+",
        r"geoattn/hub/models/.+/model\.safetensors",
        r"geoattn/hub/models/.+/config\.json",
        r".+\.dist-info/licenses/LICENSE",
    ):
        assert any(re.fullmatch(pattern, name) for name in names), f"nothing in the wheel matches {pattern}"
    strangers = [name for name in names if not name.startswith(("geoattn/", "geoattn-"))]
    assert not strangers


def test_environment_has_no_extras(clean, tmp_path):
    for package in EXTRA_PACKAGES:
        assert run(clean, "-c", f"import {package}", cwd=tmp_path, check=False).returncode, f"{package} leaked in"


def test_every_module_imports_without_extras(clean, tmp_path):
    """Only the Triton kernels and the ASE calculator may ask for an extra when they are imported."""
    script = """
import importlib, json, pkgutil, geoattn
failed, tried = {}, 0
for info in pkgutil.walk_packages(geoattn.__path__, "geoattn."):
    tried += 1
    try:
        importlib.import_module(info.name)
    except ImportError as error:
        failed[info.name] = str(error)
print(json.dumps({"failed": failed, "tried": tried, "where": geoattn.__file__}))
"""
    result = json.loads(run(clean, "-W", "error::ImportWarning", "-c", script, cwd=tmp_path).stdout.splitlines()[-1])
    assert str(clean.parents[1]) in result["where"]
    assert result["tried"] > 30
    unexpected = {name: text for name, text in result["failed"].items() if not _needs_an_extra(name)}
    assert not unexpected


def test_every_recipe_parses(clean, tmp_path):
    """Through the installed command, from a folder that is not the checkout."""
    listing = (
        "import importlib.resources as r; print(*sorted(p.name for p in r.files('geoattn.tasks.recipes').iterdir()))"
    )
    recipes = [name for name in run(clean, "-c", listing, cwd=tmp_path).stdout.split() if name.endswith(".yaml")]
    assert recipes
    for recipe in recipes:
        task, name = recipe.split("-")[0], recipe.removesuffix(".yaml")
        command = ["-m", "geoattn.cli", task, "fit", "--recipe", name, "--print_config"]
        assert "data:" in run(clean, *command, cwd=tmp_path).stdout


def test_a_feature_that_needs_an_extra_names_it(clean, tmp_path):
    (tmp_path / "mine.csv").write_text("smiles,y\n" + "".join(f"{'C' * n}O,{n}\n" for n in range(1, 21)))
    script = str(clean.parent / "geoattn")
    done = run(clean, script, "molecules", "fit", "--data", "mine.csv", cwd=tmp_path, check=False)
    assert done.returncode == 2 or done.returncode == 1
    assert "geoattn[molecules]" in done.stderr
    assert "Traceback" not in done.stderr


def test_shipped_models_load(clean, tmp_path):
    """Every one, and at least the two that the documentation names."""
    script = "from geoattn.hub import *\nfor m in list_models(): print(m.name, from_pretrained(m.name).model.training)"
    lines = run(clean, "-c", script, cwd=tmp_path).stdout.splitlines()
    assert {"molecules-esol False", "molecules-qm7 False"} <= set(lines)


def test_the_installed_command_lists_its_tasks(clean, tmp_path):
    assert "molecules" in run(clean, str(clean.parent / "geoattn"), cwd=tmp_path).stdout


def _closure(root: Distribution) -> list[Distribution]:
    """The distributions that ``root`` requires here, and theirs."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(root, "")]
    while queue:
        current, extra = queue.pop()
        for text in current.requires or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            try:
                dependency = distribution(requirement.name)
            except PackageNotFoundError as error:
                raise AssertionError(f"{current.name} requires {text}, which is not installed here") from error
            found[requirement.name.lower()] = dependency
            for wanted in ("", *requirement.extras):
                if (requirement.name.lower(), wanted) not in seen:
                    seen.add((requirement.name.lower(), wanted))
                    queue.append((dependency, wanted))
    return list(found.values())


def _needs_an_extra(module: str) -> bool:
    name = module.rsplit(".", 1)[-1]
    if module == "geoattn.domains.molecules.calculator":
        return True
    return module.startswith("geoattn.kernels.") and (name == "cuda" or "triton" in name)
