import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from geoattn.errors import InputError
from geoattn.kernels import Neighborhood, _dispatch, explain, segment_reduce, segment_softmax, use
from geoattn.kernels._dispatch import choose, compute_dtype, working_dtype

NBR = Neighborhood.from_edge_index(torch.tensor([[0, 1], [1, 1]]), 2)


@pytest.fixture(autouse=True)
def fresh_record(monkeypatch):
    monkeypatch.setattr(_dispatch, "_record", {})


def ran(dtype=torch.float32):
    """What serves a CPU tensor now."""
    return choose("test", torch.zeros(1, dtype=dtype))


def on_gpu(dtype=torch.float32):
    """What `choose` looks at of a tensor, without a GPU."""
    return SimpleNamespace(device=torch.device("cuda"), dtype=dtype)


def test_chooses_by_device_and_dtype(monkeypatch):
    monkeypatch.setattr(_dispatch, "TRITON_INSTALLED", True)
    assert ran() == "numba"
    assert ran(torch.bfloat16) == "numba"
    assert ran(torch.float8_e4m3fn) == "reference"
    assert choose("test", on_gpu()) == "triton"
    assert choose("test", torch.zeros(1, device="meta")) == "reference"


def test_explain_says_what_ran_and_why_not_the_others(monkeypatch):
    segment_softmax(torch.zeros(2), NBR)
    segment_reduce(torch.zeros(2, dtype=torch.float64), NBR)
    segment_reduce(torch.zeros(2), NBR)  # the last call counts
    softmax, reduce = explain()
    assert (softmax.operation, softmax.ran) == ("segment_softmax", "numba")
    assert (reduce.operation, reduce.device, reduce.dtype) == ("segment_reduce", "cpu", "float32")
    assert str(reduce) == (
        "segment_reduce (cpu, float32): numba  [not triton: it serves cuda tensors, these are on cpu]"
    )

    choose("test", torch.zeros(1, dtype=torch.float8_e4m3fn))
    assert explain()[-1].refused["numba"] == "it does not serve torch.float8_e4m3fn"
    choose("test", torch.zeros(1), {"numba": "k > 128"})  # the operation's own reason
    assert (explain()[-1].ran, explain()[-1].refused["numba"]) == ("reference", "k > 128")
    monkeypatch.setattr(_dispatch, "TRITON_INSTALLED", False)
    assert choose("test", on_gpu()) == "reference"
    assert "pip install 'geoattn[gpu]'" in explain()[-1].refused["triton"]
    with use("reference"):
        ran()
    assert explain()[-1].refused == {
        "numba": "use('reference') is in force",
        "triton": "use('reference') is in force",
    }


def test_use_as_a_context_nests_and_ends():
    with use("reference"):
        assert ran() == "reference"
        with use("numba"):
            assert ran() == "numba"
            with use("auto"):
                assert ran() == "numba"
        assert ran() == "reference"
    assert ran() == "numba"


def test_use_as_a_statement():
    use("reference")
    try:
        assert ran() == "reference"
    finally:
        use("auto")
    assert ran() == "numba"


def test_use_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), use("reference"):
        raise ZeroDivisionError
    assert ran() == "numba"


def test_forcing_the_impossible_says_why():
    with use("triton"), pytest.raises(RuntimeError, match=r"segment_softmax: use\('triton'\).*these are on cpu"):
        segment_softmax(torch.zeros(2), NBR)
    with use("numba"), pytest.raises(RuntimeError, match=r"does not serve torch.float8_e4m3fn"):
        ran(torch.float8_e4m3fn)
    with use("numba"), pytest.raises(RuntimeError, match="the operation rules it out"):
        choose("test", torch.zeros(1), {"numba": "the operation rules it out"})
    assert explain() == []


def test_unknown_name_changes_nothing():
    with use("reference"):
        with pytest.raises(InputError, match="got 'nunba', expected one of auto, .*Did you mean 'numba'"):
            use("nunba")
        assert ran() == "reference"


def test_compiled_code_follows_use_and_is_not_recorded():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(str(graph.code))
        return graph

    compiled = torch.compile(lambda x: segment_reduce(x, NBR), fullgraph=True, backend=backend)
    compiled(torch.zeros(2))
    with use("reference"):
        compiled(torch.zeros(2))
    assert "geoattn" in graphs[0] and "geoattn" not in graphs[1]
    assert explain() == []


def test_compute_dtype():
    single, double, short = (torch.zeros(1, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16))
    assert compute_dtype(single) == torch.float32
    assert compute_dtype(short, None, short) == torch.bfloat16
    assert compute_dtype(short, double) == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert compute_dtype(single) == compute_dtype(short) == torch.float32
        assert compute_dtype(double) == torch.float64


def test_working_dtype():
    assert working_dtype("triton", torch.bfloat16) == torch.bfloat16  # widened when it is loaded
    assert working_dtype("numba", torch.bfloat16) == working_dtype("reference", torch.float16) == torch.float32
    assert working_dtype("numba", torch.float64) == torch.float64


@pytest.mark.parametrize("module", ["geoattn", "geoattn.kernels"])
def test_import_is_light(module):
    """Not even the compilers: they are imported by the first call that needs them."""
    unwanted = {"triton", "rdkit", "open3d", "ray", "lightning", "numba", "torch._dynamo"}
    script = f"import {module}, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert unwanted & set(run.stdout.split()) == set()
