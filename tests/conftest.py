"""What every test runs under."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs the network; one that tries fails

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    if not torch.cuda.is_available():  # on CUDA, determinism would refuse operations that the tests need
        # torch.empty is filled with NaN, so that a kernel that forgets to write somewhere fails
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeded():
    """Random numbers repeat, whichever tests ran before."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def unchanged_settings():
    """A test that changes torch's global settings puts them back, or fails here rather than elsewhere."""
    before = _settings()
    yield
    after = _settings()
    torch.set_default_dtype(before["default dtype"])
    torch.set_grad_enabled(before["gradients"])
    torch.set_num_threads(before["threads"])
    assert after == before, "the test left torch's settings changed"


def _settings() -> dict[str, object]:
    return {
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }
