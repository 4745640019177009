"""The models that come with the package, in ``geoattn/hub/models/<task>-<what>/``."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from geoattn._numbers import format_measure, metric_name


@dataclass(frozen=True)
class ShippedModel:
    """A shipped model: the ``name`` for ``from_pretrained`` and ``--model``, its task, one line about it."""

    name: str
    task: str
    description: str


def folder(name: str = "") -> Path:
    """The folder of one shipped model, or of all of them."""
    return Path(str(files("geoattn.hub"))) / "models" / name


def names() -> list[str]:
    """The names of the shipped models, sorted."""
    return sorted(path.parent.name for path in folder().glob("*/config.json"))


def list_models() -> list[ShippedModel]:
    """The shipped models, by name, each with one line: what it predicts and how well it does on its test split.

    Example:
        >>> from geoattn.hub import list_models
        >>> all(model.name.startswith(model.task) for model in list_models())
        True
    """
    return [_describe(name) for name in names()]


def _describe(name: str) -> ShippedModel:
    config = json.loads((folder(name) / "config.json").read_text(encoding="utf-8"))
    test = json.loads((folder(name) / "metrics.json").read_text(encoding="utf-8")).get("test", {})
    known = [(metric, measure) for metric, measure in test.items() if measure.get("value") is not None]
    scores = [f"{metric_name(metric)} {format_measure(measure)}" for metric, measure in known[:2]]
    parts = [config["summary"].rstrip("."), *(["test " + ", ".join(scores)] if scores else [])]
    return ShippedModel(name=name, task=config["task"], description="; ".join(parts))
