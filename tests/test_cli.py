import os
import re
import subprocess
import sys
import time

import pytest

import geoattn
from geoattn.cli import main
from geoattn.errors import ShapeError


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", os.environ.get("OMP_WAIT_POLICY", "PASSIVE"))


def python(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_overview(words, capsys):
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert not err
    for word in ("molecules", "demo", "fit", "test", "predict", "audit", "models", "info"):
        assert re.search(rf"^  {word} ", out, re.MULTILINE)


@pytest.mark.parametrize("words", [["molecules"], ["molecules", "--help"]])
def test_verbs_of_a_task(words, capsys):
    assert main(words) == 0
    assert "predict" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"geoattn {geoattn.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["moleculs"], "There is no task or command 'moleculs'. Did you mean 'molecules'?"),
        (["molecules", "fits"], "molecules has no verb 'fits'. Did you mean 'fit'?"),
        (["info", "more"], "geoattn info takes no options, got 'more'."),
        (["molecules", "fit", "--dta", "x"], "Unknown option --dta. Did you mean --data?"),
        (["molecules", "predict", "--model", "m", "--data", "d"], "Missing: --out."),
        (["molecules", "test", "--model", "nowhere", "--data", "d"], "no folder 'nowhere'"),
        (["molecules", "audit", "--data", "nowhere.csv"], "nowhere.csv: no such file."),
    ],
)
def test_a_users_error_is_one_message_and_exit_code_2(words, message, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("geoattn: ") and message in err
    assert "Traceback" not in err and err.count("\n") == 1


def test_errors_of_any_depth(monkeypatch, capsys):
    from geoattn.tasks import molecules

    def run(error):
        def raise_it(verb, arguments):
            raise error

        monkeypatch.setattr(molecules, "run", raise_it)
        return main(["molecules", "fit"])

    assert run(ShapeError("q", "[3]", "[N, H, D]")) == 2
    assert run(ImportError("rdkit is needed ... pip install 'geoattn[molecules]'")) == 2
    assert "geoattn: rdkit is needed" in capsys.readouterr().err
    assert run(KeyboardInterrupt()) == 130
    with pytest.raises(ImportError):  # a broken installation is no user's error
        run(ImportError("libfoo.so: cannot open shared object file"))
    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert f"geoattn: {geoattn.__version__}" in out and "torch: " in out


def test_models(capsys):
    from geoattn.hub import list_models

    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(model.name in out for model in list_models())


def test_listing_imports_nothing_heavy():
    script = """
import sys
from geoattn.cli import main
main([]); main(["molecules"]); main(["moleculs"])
heavy = {"torch", "lightning", "numpy", "pandas", "rdkit", "rich", "jsonargparse"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""
    assert python("-c", script).stdout.endswith("heavy: []\n")


def test_listing_is_fast():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert "molecules" in python("-m", "geoattn").stdout
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 1.0  # 0.1 s on a quiet machine, where importing torch alone takes more than a second


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m geoattn | true", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_waiting_threads_sleep(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    main([])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
