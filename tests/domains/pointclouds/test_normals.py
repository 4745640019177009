"""Normals by Open3D and by geoattn agree on a torus, and odd clouds get some."""

import numpy as np
import pytest

from geoattn.domains.pointclouds.normals import Method, oriented_normals


def torus(n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    u, v = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, n))
    normal = np.stack([np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)], -1)
    return np.stack([np.cos(u), np.sin(u), np.zeros(n)], -1) + 0.4 * normal, normal


@pytest.mark.parametrize("method", ["open3d", "geoattn", "auto"])
def test_of_a_torus(method: Method) -> None:
    if method == "open3d":
        pytest.importorskip(
            "open3d", reason="needs geoattn[pointclouds] and its system libraries", exc_type=ImportError
        )
    points, truth = torus()
    cosine = (oriented_normals(points, method=method) * truth).sum(1)
    assert (cosine > 0.9).mean() > 0.98


@pytest.mark.parametrize("count", [1, 3, 10])
def test_of_few_points(count: int) -> None:
    found = oriented_normals(np.random.default_rng(1).normal(size=(count, 3)))
    assert found.shape == (count, 3)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_without_open3d(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> None:
        raise ImportError(f"{module} is needed here. Install it with: pip install 'geoattn[{extra}]'")

    monkeypatch.setattr("geoattn.domains.pointclouds.normals.require", missing)
    points, truth = torus(500)
    assert ((oriented_normals(points, k=12) * truth).sum(1) > 0.7).mean() > 0.9
    with pytest.raises(ImportError, match=r"geoattn\[pointclouds\]"):
        oriented_normals(points, method="open3d")


def test_of_flat_clouds_and_of_equal_points() -> None:
    flat = np.random.default_rng(2).normal(size=(100, 3)) * [1, 1, 0]
    assert (np.abs(oriented_normals(flat)[:, 2]) > 0.999).all()
    assert np.isfinite(oriented_normals(np.zeros((60, 3)))).all()
