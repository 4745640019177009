import pytest


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("GEOATTN_CACHE", str(tmp_path / "cache"))
