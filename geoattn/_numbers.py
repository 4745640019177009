"""How measured numbers are written, the same in cards and reports."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

GAP, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

_LOWER_IS_BETTER = frozenset({"mae", "rmse", "mse", "energy_mae", "force_mae", "min_ade_20", "min_fde_20"})
_NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mse": "MSE",
    "r2": "R²",
    "pearson": "Pearson r",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "macro_roc_auc": "macro ROC AUC",
    "energy_mae": "energy MAE",
    "force_mae": "force MAE",
    "min_ade_20": "minADE₂₀",
    "min_fde_20": "minFDE₂₀",
    "psnr": "PSNR",
}


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric (a key of ``metrics.json``) is the better one."""
    return metric in _LOWER_IS_BETTER


def metric_name(metric: str) -> str:
    """The metric as it is written for people: ``"roc_auc"`` is ``"ROC AUC"``."""
    return _NAMES.get(metric, metric.replace("_", " "))


def format_number(value: Any) -> str:
    """Integers in full, other numbers to three significant digits (four from 1,000 on), a gap as an en dash.

    >>> format_number(0.12345), format_number(12345), format_number(None) == GAP
    ('0.123', '12,345', True)
    """
    if value is None:
        return GAP
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    if isinstance(value, int) or hasattr(value, "__index__"):
        return f"{int(value):,}".replace("-", MINUS)
    number = float(value)
    if math.isnan(number):
        return GAP
    if math.isinf(number):
        return "∞" if number > 0 else MINUS + "∞"
    if number == 0:
        return "0"
    size = math.floor(math.log10(abs(float(f"{number:.3g}"))))
    text = f"{number:.1e}" if size < -4 or size > 6 else f"{number:,.{max(2 - size, 0)}f}"
    return text.replace("-", MINUS)


def format_measure(measure: Mapping[str, Any] | None) -> str:
    """One entry of ``metrics.json``: value, spread over repeats if it has one (``sd``), 95 % interval (``ci95``)."""
    if not measure or measure.get("value") is None:
        return GAP
    text = format_number(measure["value"])
    if measure.get("sd") is not None:
        text += f" ± {format_number(measure['sd'])}"
    interval = measure.get("ci95")
    if interval and None not in interval:
        text += f" [{format_number(interval[0])}, {format_number(interval[1])}]"
    return text


def rows_of(metrics: Mapping[str, Any], split: str, model: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The model and then each baseline of one split of a ``metrics.json`` mapping: (name, {metric: measure})."""
    if split in metrics:
        yield model, metrics[split]
    yield from metrics.get("baselines", {}).get(split, {}).items()


def best_values(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The best value of each metric over the rows of `rows_of`; metrics without any value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows.values():
        for metric, measure in row.items():
            if measure.get("value") is not None and math.isfinite(measure["value"]):
                values.setdefault(metric, []).append(measure["value"])
    return {metric: min(column) if lower_is_better(metric) else max(column) for metric, column in values.items()}
