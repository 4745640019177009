"""How measured numbers are written, the same in cards and reports."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

GAP, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWER_IS_BETTER = frozenset(
    {
        "mae", "rmse", "mse", "energy_mae", "force_mae", "min_ade_20", "min_fde_20", "median_system_mse",
        "median_coordinate_se", "velocity_mse", "velocity_rmse", "velocity_median_system_mse",
        "velocity_median_coordinate_se", "energy_mae_per_atom", "energy_rmse", "force_rmse", "stress_mae",
        "ece", "brier", "angle", "oriented_angle", "rand_error", "nrmse",
    }
)  # fmt: skip
_NO_DIRECTION = frozenset({"bias"})
_NAMES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mse": "MSE",
    "nrmse": "NRMSE",
    "anomaly_correlation": "anomaly correlation",
    "area_accuracy": "accuracy by area",
    "area_miou": "mean IoU by area",
    "r2": "R²",
    "pearson": "Pearson r",
    "spearman": "Spearman ρ",
    "macro_pearson": "macro Pearson r",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "macro_roc_auc": "macro ROC AUC",
    "ece": "calibration error",
    "brier": "Brier score",
    "energy_mae": "energy MAE",
    "force_mae": "force MAE",
    "energy_mae_per_atom": "energy MAE per atom",
    "energy_rmse": "energy RMSE",
    "force_rmse": "force RMSE",
    "stress_mae": "stress MAE",
    "min_ade_20": "minADE₂₀",
    "min_fde_20": "minFDE₂₀",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "miou": "mean IoU",
    "shape_miou": "mean IoU of shapes",
    "rand_index": "Rand index",
    "rand_error": "Rand error",
    "angle": "angle (degrees)",
    "below_10": "below 10 degrees",
    "below_30": "below 30 degrees",
    "oriented_angle": "oriented angle (degrees)",
    "oriented_below_30": "oriented, below 30 degrees",
    "median_system_mse": "median MSE of a system",
    "median_coordinate_se": "median squared error of a coordinate",
    "velocity_mse": "velocity MSE",
    "velocity_rmse": "velocity RMSE",
    "velocity_median_system_mse": "median velocity MSE of a system",
    "velocity_median_coordinate_se": "median squared error of a velocity's coordinate",
}


def counted(number: int, what: str) -> str:
    """A number with its noun, in the plural but for one.

    >>> counted(1, "cloud"), counted(2000, "cloud")
    ('1 cloud', '2,000 clouds')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric (a key of ``metrics.json``) is the better one."""
    return metric in _LOWER_IS_BETTER


def arrow(metric: str) -> str:
    """Which way is better, as it stands behind a metric's name; nothing for those without a direction.

    >>> arrow("rmse"), arrow("roc_auc"), arrow("bias")
    (' ↓', ' ↑', '')
    """
    if metric in _NO_DIRECTION:
        return ""
    return " ↓" if lower_is_better(metric) else " ↑"


def metric_name(metric: str) -> str:
    """The metric as it is written for people: ``"roc_auc"`` is ``"ROC AUC"``."""
    return _NAMES.get(metric, metric.replace("_", " "))


def format_number(value: Any, decimals: int | None = None) -> str:
    """Integers in full, other numbers to three significant digits or to ``decimals``; a gap as an en dash.

    >>> format_number(0.12345), format_number(12345), format_number(3.1e-7), format_number(None) == GAP
    ('0.123', '12,345', '3.1 × 10⁻⁷', True)
    """
    if value is None:
        return GAP
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    if decimals is None and hasattr(value, "__index__"):
        return f"{int(value):,}".replace("-", MINUS)
    number = float(value)
    if math.isnan(number):
        return GAP
    if math.isinf(number):
        return "∞" if number > 0 else MINUS + "∞"
    if number == 0 and decimals is None:
        return "0"
    size = _size(number) if number else 0
    if (size < -4 and decimals is None) or size > 6:
        digits, power = f"{number:.1e}".split("e")
        text = f"{digits} × 10" + str(int(power)).translate(_RAISED)
    else:
        text = f"{number:,.{max(2 - size, 0) if decimals is None else decimals}f}"
    return text.replace("-", MINUS)


def format_measure(measure: Mapping[str, Any] | None) -> str:
    """One entry of ``metrics.json``: value, spread over repeats if it has one (``sd``), 95 % interval (``ci95``).

    >>> format_measure({"value": 0.5533, "ci95": [0.48, 0.6399], "n": 113})
    '0.553 [0.480, 0.640]'
    """
    return " ".join(part for part in measure_parts(measure) if part)


def measure_parts(measure: Mapping[str, Any] | None) -> tuple[str, str]:
    """The value, and its spread; the spread has two significant digits and the value as many decimals.

    >>> measure_parts({"value": 0.5533, "sd": 0.0421}), measure_parts({"value": 2.1e-7, "ci95": [1.9e-7, 2.4e-7]})
    (('0.553', '± 0.042'), ('2.1 × 10⁻⁷', '[1.9 × 10⁻⁷, 2.4 × 10⁻⁷]'))
    """
    if not measure or measure.get("value") is None:
        return GAP, ""
    sd, interval = measure.get("sd"), measure.get("ci95")
    interval = None if interval and None in interval else interval
    widths = [sd] if sd is not None else []
    widths += [(interval[1] - interval[0]) / 2] if interval else []
    real = [width for width in widths if width > 0 and math.isfinite(width)]
    tiny = 0 < abs(measure["value"]) < 1e-4  # written with a power of ten
    decimals = min(max(1 - _size(min(real)), 0), 6) if real and not tiny else None
    spread = [f"± {format_number(sd, decimals)}"] if sd is not None else []
    if interval:
        spread.append(f"[{format_number(interval[0], decimals)}, {format_number(interval[1], decimals)}]")
    return format_number(measure["value"], decimals), " ".join(spread)


def _size(number: float) -> int:
    """The power of ten of a number after rounding to three digits."""
    return math.floor(math.log10(abs(float(f"{number:.3g}"))))


def rows_of(metrics: Mapping[str, Any], split: str, model: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The model and then each baseline of one split of a ``metrics.json`` mapping: (name, {metric: measure})."""
    if split in metrics:
        yield model, metrics[split]
    yield from metrics.get("baselines", {}).get(split, {}).items()


def counts_text(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """How many samples the values of `rows_of` are of: once for most metrics, and by name for those of another count.

    >>> counts_text({"ours": {"roc_auc": {"n": 24}, "pr_auc": {"n": 24}, "macro_roc_auc": {"n": 0}}})
    'n = 24 (macro ROC AUC: n = 0)'
    """
    found: dict[str, set[int]] = {}
    for row in rows.values():
        for metric, measure in row.items():
            if measure.get("n") is not None:
                found.setdefault(metric, set()).add(measure["n"])
    texts = {metric: " or ".join(f"{count:,}" for count in sorted(counts)) for metric, counts in found.items()}
    if not texts:
        return ""
    usual = Counter(texts.values()).most_common(1)[0][0]
    others = ", ".join(f"{metric_name(metric)}: n = {text}" for metric, text in texts.items() if text != usual)
    return f"n = {usual}" + (f" ({others})" if others else "")


def best_values(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The best value of each metric over the rows of `rows_of`; metrics without any value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows.values():
        for metric, measure in row.items():
            if measure.get("value") is not None and math.isfinite(measure["value"]):
                values.setdefault(metric, []).append(measure["value"])
    return {
        metric: min(column) if lower_is_better(metric) else max(column)
        for metric, column in values.items()
        if metric not in _NO_DIRECTION
    }
