"""The CPU kernels' threads: alone, together, in workers, after a fork and at the end of the interpreter."""

import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geoattn.kernels import Neighborhood, _threads, gather_scatter, segment_reduce, segment_softmax


@pytest.fixture
def force_threads(monkeypatch):
    """Make every call use that many threads, however small it is."""
    return lambda count: monkeypatch.setattr(_threads, "num_threads", lambda work: count)


def results(seed=0):
    """Everything the kernels compute on a graph with a hub, forward and backward."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(100, (2, 3000), generator=generator)
    edge_index[1, :1000] = 7
    nbr = Neighborhood.from_edge_index(edge_index, 100)
    x = torch.randn(100, 4, 9, generator=generator, requires_grad=True)
    edge = torch.randn(3000, 4, generator=generator, requires_grad=True)
    y = gather_scatter(x, segment_softmax(edge, nbr), nbr)
    outputs = [y, *(segment_reduce(edge, nbr, reduce) for reduce in ("sum", "mean", "max", "min"))]
    return [*outputs, *torch.autograd.grad(sum(out.square().sum() for out in outputs), (x, edge))]


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# Cutting rows


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 9))
def test_cuts_cover_all_rows_and_share_out_the_edges(degrees, parts):
    ptr = np.cumsum([0, *degrees])
    cuts = _threads._cuts(ptr, parts)
    assert len(cuts) == parts + 1 and cuts[0] == 0 and cuts[-1] == len(degrees)
    assert cuts == sorted(cuts)
    cost = [int(ptr[b] - ptr[a]) + b - a for a, b in itertools.pairwise(cuts)]
    assert max(cost) <= (int(ptr[-1]) + len(degrees)) / parts + max(degrees, default=0) + 2


def test_small_work_stays_on_the_calling_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert _threads.num_threads(0) == _threads.num_threads(_threads.MIN_WORK_PER_THREAD) == 1
    assert _threads.num_threads(3 * _threads.MIN_WORK_PER_THREAD) == 3
    assert _threads.num_threads(10**12) == 8


# Together


def test_results_do_not_depend_on_the_number_of_threads(force_threads):
    force_threads(1)
    expected = results()
    for count in (2, 3, 7):
        force_threads(count)
        assert_same(results(), expected)


def test_several_python_threads_at_once(force_threads):
    force_threads(1)
    expected = [results(seed) for seed in range(4)]
    force_threads(3)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(results, range(4)), expected, strict=True):
                assert_same(found, right)


def test_torchs_threads_are_left_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        nbr = Neighborhood.from_edge_index(torch.randint(1000, (2, 20_000)), 1000)
        gather_scatter(torch.randn(1000, 64), None, nbr)
        assert _threads._pool is not None  # two threads were used
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.timeout(60)
def test_nested_and_concurrent_calls_do_not_wait_for_each_other(force_threads):
    """More tasks than threads, each of which needs others to finish."""
    force_threads(4)
    ptr = np.arange(13)

    def count_rows(depth):
        done = np.zeros(12, int)

        def kernel(first, last):
            for row in range(first, last):
                done[row] += count_rows(depth - 1) if depth else 1

        _threads.run_rows(kernel, ptr, 0)
        assert (done == done[0]).all()
        return done.sum()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count_rows, [2] * 4)) == [12**3] * 4
    assert _threads._pool._max_workers <= (_threads.os.cpu_count() or 1)


def test_an_exception_comes_out_when_all_threads_are_done(force_threads):
    force_threads(3)
    finished = []

    def kernel(first, last):
        if first == 0:
            raise ZeroDivisionError
        time.sleep(0.05)
        finished.append(first)

    with pytest.raises(ZeroDivisionError):
        _threads.run_rows(kernel, np.arange(10), 0)
    assert len(finished) == 2


# In other processes; each of these is a script of its own, since pytest's process must not be forked

SCRIPT = """
import os, sys, threading
import torch
from torch.utils.data import DataLoader, Dataset
from geoattn.kernels import Neighborhood, _threads, gather_scatter

_threads.num_threads = lambda work: 3  # in workers too, where torch's own setting is 1

def result(seed):
    generator = torch.Generator().manual_seed(seed)
    nbr = Neighborhood.from_edge_index(torch.randint(50, (2, 500), generator=generator), 50)
    return gather_scatter(torch.randn(50, 8, generator=generator), None, nbr)

class Results(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, seed):
        found = result(seed)
        assert _threads._pool is not None
        return found
"""

DATA_LOADER = """
if __name__ == "__main__":
    expected = torch.stack([result(seed) for seed in range(8)])
    assert _threads._pool is not None
    method, workers, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for _ in range(epochs):
        loader = DataLoader(Results(), batch_size=2, num_workers=workers, multiprocessing_context=method)
        assert torch.equal(torch.cat(list(loader)), expected)
        assert torch.equal(torch.stack([result(seed) for seed in range(8)]), expected)
"""

FORK_WHILE_BUSY = """
expected, stop = result(0), threading.Event()

def keep_busy():
    while not stop.is_set():
        result(1)

busy = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in busy:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(result(0), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in busy:
    thread.join()
"""

EXIT = """
import atexit
import numpy as np
from geoattn.kernels.segment_reduce.cpu import _sum_rows

def forever():  # without torch, whose own operations abort when the interpreter ends under them
    ptr, x = np.arange(1001), np.ones((1000, 100))
    while True:
        _threads.run_rows(_sum_rows, ptr, 0, ptr, ptr, False, x, np.empty_like(x))

expected = result(0)
threading.Thread(target=forever, daemon=True).start()

@atexit.register
def late():  # the pool takes no more work here
    print("right" if torch.equal(result(0), expected) else "wrong")
"""


def run(tmp_path, body, *arguments):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + body)
    return subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("arguments", [("fork", "2", "2"), ("spawn", "1", "1")], ids=["fork", "spawn"])
def test_data_loader_workers(tmp_path, arguments):
    finished = run(tmp_path, DATA_LOADER, *arguments)
    assert finished.returncode == 0, finished.stderr


def test_fork_while_the_pool_is_busy(tmp_path):
    finished = run(tmp_path, FORK_WHILE_BUSY)
    assert finished.returncode == 0, finished.stderr


def test_the_interpreter_ends(tmp_path):
    finished = run(tmp_path, EXIT)
    assert (finished.returncode, finished.stdout) == (0, "right\n"), finished.stderr
