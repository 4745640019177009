"""What importing the package costs, and what it leaves alone."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from geoattn._optional import require

ROOT = Path(__file__).parents[1]
OPTIONAL = {"ase", "open3d", "rapidfuzz", "ray", "rdkit", "tidytcells", "triton", "vesin"}


def imported(code: str) -> set[str]:
    """Top-level packages in ``sys.modules`` of a new process after ``code``."""
    script = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_geoattn_is_light():
    assert not imported("import geoattn") & (OPTIONAL | {"lightning", "torch", "matplotlib"})


@pytest.mark.parametrize("name", ["kernels", "geometry", "layers", "testing", "hub", "report"])
def test_libraries_import_nothing_optional(name):
    """torch itself imports Triton where it is installed; that we do without it is shown by the test of the wheel."""
    assert not imported(f"import geoattn.{name}") & ((OPTIONAL - {"triton"}) | {"lightning", "jsonargparse", "pytest"})


def test_command_line_starts_without_torch():
    """`geoattn --help` has to answer at once."""
    code = "import geoattn.cli\ntry:\n    geoattn.cli.main(['--help'])\nexcept SystemExit:\n    pass"
    code = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    exec({code!r})"
    assert not imported(code) & (OPTIONAL | {"torch", "lightning", "jsonargparse"})


def test_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(ImportError, match=r"rdkit.*pip install 'geoattn\[molecules\]'"):
        require("rdkit", "molecules")


def test_a_broken_package_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="a_module_that_is_not_there") as caught:
        require("half_installed", "molecules")
    assert "geoattn[" not in str(caught.value)


def test_every_imported_package_is_declared():
    """Nothing may be there only because something else happens to bring it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    purposes = Requirement(extras["all"][0]).extras
    declared = map(Requirement, [*project["dependencies"], *(text for purpose in purposes for text in extras[purpose])])
    names = {_normal(one.name) for one in declared if one.marker is None or one.marker.evaluate()}
    distributions = packages_distributions()
    used = set()
    for path in (ROOT / "geoattn").rglob("*.py"):
        for module in _imported_by(path) - set(sys.stdlib_module_names) - {"geoattn"}:
            owners = {_normal(name) for name in distributions.get(module, [])}
            assert owners & names, f"{path.name} imports {module}, which no dependency in pyproject.toml brings"
            used |= owners
    assert names <= used, "nothing imports them"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported_by(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    found = {name.split(".")[0] for name in re.findall(r"require\([\"']([\w.]+)[\"']", text)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_extra_that_the_code_names_exists():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set()
    for path in (ROOT / "geoattn").rglob("*.py"):
        named |= set(re.findall(r"require\([\"'][\w.]+[\"'],\s*[\"'](\w+)[\"']\)", path.read_text(encoding="utf-8")))
        named |= set(re.findall(r"geoattn\[(\w+)\]", path.read_text(encoding="utf-8")))
    assert named, "no call of require() found: has it been renamed?"
    assert named <= extras
