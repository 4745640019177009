"""The card of a model folder: a README.md that says what the model is, how good it is and where it ends."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch

import geoattn
from geoattn._numbers import arrow, best_values, format_measure, format_number, metric_name, rows_of


@dataclass(frozen=True)
class Card:
    """What a card says beyond the configuration, the metrics and the split, which it reads itself.

    Attributes:
        title: e.g. ``"Solubility of small molecules (ESOL)"``.
        summary: one sentence, also shown by ``geoattn models``.
        targets: what is predicted: name -> meaning and unit, e.g. ``{"logS": "log10 of the solubility in mol/L"}``.
        data: the data set and where it comes from.
        data_licence: the licence of the data.
        split: the name of the split with its seed, e.g. ``"scaffold (balanced), seed 0"``.
        overlap: what train and test share, counted: e.g. ``{"identical molecules": 0, "shared scaffolds": 12}``.
        symmetry: what leaves the prediction unchanged, in words.
        equivariance_error: the measured error of that symmetry per dtype, e.g. ``{"float32": 3e-7}``.
        command: the command that trained it.
        seeds: the seeds, one per member.
        limits: where it must not be trusted, one sentence each.
        input: the kind of file it reads, e.g. ``"molecules.csv"``, used in the example command.
        licence: SPDX name of the licence of the weights.
    """

    title: str
    summary: str
    targets: Mapping[str, str]
    data: str
    data_licence: str
    split: str
    command: str
    seeds: Sequence[int]
    overlap: Mapping[str, int | str] = field(default_factory=dict)
    symmetry: str = ""
    equivariance_error: Mapping[str, float] = field(default_factory=dict)
    limits: Sequence[str] = ()
    input: str = "FILE"
    licence: str = "apache-2.0"


def render_card(
    card: Card, *, name: str, config: Mapping[str, Any], metrics: Mapping[str, Any], split: Mapping[str, Any]
) -> str:
    """The card as Markdown with a YAML header in the form of the Hugging Face hub. Needs no network."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("geoattn.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = _cell
    return environment.get_template("card.md.jinja").render(
        header=_header(card, name, config, metrics),
        card=card,
        name=name,
        config=config,
        metrics=_metrics_table(metrics),
        sizes={part: len(rows) for part, rows in split.items() if isinstance(rows, list | tuple)},
        errors={dtype: format_number(error) for dtype, error in card.equivariance_error.items()},
        versions={
            "geoattn": config["geoattn_version"],
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
        geoattn_version=geoattn.__version__,
    )


def _header(card: Card, name: str, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The YAML block that fills the result table of the Hugging Face hub."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="graph-ml",
            dataset_type="custom",
            dataset_name=card.data,
            dataset_split="test",
            metric_type=metric,
            metric_name=metric_name(metric),
            metric_value=measure["value"],
        )
        for metric, measure in metrics.get("test", {}).items()
        if isinstance(measure.get("value"), int | float)
    ]
    data = ModelCardData(
        model_name=name,
        license=card.licence,
        library_name="geoattn",
        tags=["geoattn", config["task"], config["class"]],
        eval_results=results or None,
    )
    return data.to_yaml()


def _metrics_table(metrics: Mapping[str, Any], split: str = "test") -> dict[str, Any]:
    """Rows (this model first, then the baselines) by metrics, the best of each column in bold."""
    rows = dict(rows_of(metrics, split, "**this model**"))
    columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    best = best_values(rows)
    cells = {
        name: [
            f"**{format_measure(row[metric])}**"
            if metric in row and row[metric]["value"] == best.get(metric) and len(rows) > 1
            else format_measure(row.get(metric))
            for metric in columns
        ]
        for name, row in rows.items()
    }
    counts = {measure["n"] for row in rows.values() for measure in row.values() if measure.get("n")}
    return {
        "columns": [metric_name(metric) + arrow(metric) for metric in columns],
        "rows": cells,
        "counts": ", ".join(format_number(count) for count in sorted(counts)),
        "interval": any(measure.get("ci95") for row in rows.values() for measure in row.values()),
        "spread": any(measure.get("sd") is not None for row in rows.values() for measure in row.values()),
    }


def _cell(text: object) -> str:
    """Text of a user for one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
