"""How far a function is from commuting with a group: `equivariance_error` and `assert_equivariant`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoattn.errors import InputError, ShapeError
from geoattn.testing.groups import Element, Group, Spec, permutable_rows

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class EquivarianceReport:
    """What `equivariance_error` found. ``float(report)`` is the error of the worst output.

    Attributes:
        group: the group tried, e.g. ``"E(3)"``.
        errors: output -> largest relative error over the trials.
        tolerances: output -> the default tolerance of the lowest precision that took part in it.
        elements: output -> the group element of its largest error.
    """

    group: str
    errors: dict[str, float]
    tolerances: dict[str, float]
    elements: dict[str, Element]

    @property
    def worst(self) -> str:
        """Name of the output that is furthest above its tolerance."""
        return max(self.errors, key=lambda name: self.errors[name] / self.tolerances[name])

    def __float__(self) -> float:
        return self.errors[self.worst]

    def __str__(self) -> str:
        others = ", ".join(f"{name} {error:.1e}" for name, error in self.errors.items())
        return f"{self.group}: worst output {self.worst!r}, for {self.elements[self.worst]}; relative errors: {others}"


def equivariance_error(
    fn: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    in_specs: Mapping[str, str | Spec],
    out_specs: Mapping[str, str | Spec | None],
    group: str = "E(3)",
    trials: int = 4,
    seed: int = 0,
) -> EquivarianceReport:
    r"""The largest relative difference between ``fn(g x)`` and ``g fn(x)`` over random elements g of a group.

    For each output, the error of one element is :math:`\max |f(gx) - g f(x)| / \max(|f(gx)|, |g f(x)|)`, both maxima
    over all entries of the output: 1e-16 is rounding in float64, 1 is as wrong as can be. NaN or infinity anywhere
    counts as an infinite error; an output that is zero on both sides has error 0. Inputs are transformed in float64
    whatever their dtype, then rounded to it; outputs are transformed and compared in float64.

    Args:
        fn: called as ``fn(**inputs)``; returns a tensor, or a tuple, list or mapping of tensors. It must be
            deterministic: call ``.eval()`` on a model with dropout. Gradients may be taken inside (forces).
        inputs: name -> tensor or Neighborhood; anything else, None included, is passed on unchanged.
        in_specs: name -> how it transforms (see ``Spec``); every tensor among the inputs needs one.
        out_specs: name -> how it transforms, in the order of the outputs (by key if ``fn`` returns a mapping); None
            for an output that is not to be compared.
        group: ``O(n)``, ``SO(n)``, ``E(n)``, ``SE(n)``, ``T(n)`` (translations) or ``permutation``. Translations are
            standard normal, so give positions a scale near 1. Permutations shuffle rows of every label but ``graph``,
            the columns of ``edge_index`` included.
        trials: number of group elements; every second one of O(n) and E(n) has determinant -1.
        seed: of the group elements; torch's own generator is not touched.

    Raises:
        InputError: for an unknown group or spec, an input without a spec, or other outputs than declared.
        ShapeError: if a tensor does not fit its spec.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 3, dtype=torch.float64)
        >>> centre = lambda pos: pos.mean(0)
        >>> specs = {"in_specs": {"pos": "position/node"}, "out_specs": {"centre": "position"}}
        >>> report = equivariance_error(centre, {"pos": x}, group="E(3)", **specs)
        >>> float(report) < 1e-10
        True
    """
    chosen = Group.parse(group)
    ins, outs = _read_specs(inputs, in_specs, out_specs)
    rows = permutable_rows(inputs, ins)
    _check_labels(outs, rows)
    generator = torch.Generator().manual_seed(seed)
    before = named_outputs(fn(**inputs), out_specs)

    errors = dict.fromkeys(outs, -1.0)
    elements: dict[str, Element] = {}
    for trial in range(max(trials, 1)):
        element = chosen.element(trial, rows, generator)
        moved = {k: ins[k].transform(v, element) if k in ins and v is not None else v for k, v in inputs.items()}
        after = named_outputs(fn(**moved), out_specs)
        for name, spec in outs.items():
            error = relative_error(after[name], spec.transform(before[name], element, _wide(before[name])), name)
            if error > errors[name]:
                errors[name], elements[name] = error, element
    tolerances = {name: _tolerance([*inputs.values(), before[name]]) for name in outs}
    return EquivarianceReport(str(chosen), errors, tolerances, elements)


def assert_equivariant(
    fn: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    in_specs: Mapping[str, str | Spec],
    out_specs: Mapping[str, str | Spec | None],
    group: str = "E(3)",
    trials: int = 4,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Raise AssertionError unless ``fn`` commutes with the group; arguments as of ``equivariance_error``.

    Args:
        tolerance: largest relative error allowed. By default that of the lowest precision among the inputs and the
            output: 1e-10 in float64, 1e-4 in float32, 1e-2 in float16, 5e-2 in bfloat16.

    Raises:
        AssertionError: naming the worst output, its error and the group element.

    Example:
        >>> import torch
        >>> pos = torch.randn(5, 3, dtype=torch.float64)
        >>> assert_equivariant(torch.cdist, {"x1": pos, "x2": pos}, in_specs={"x1": "position", "x2": "position"},
        ...                    out_specs={"distance": "invariant"}, group="E(3)")
    """
    report = equivariance_error(
        fn, inputs, in_specs=in_specs, out_specs=out_specs, group=group, trials=trials, seed=seed
    )
    worst = report.worst
    allowed = report.tolerances[worst] if tolerance is None else tolerance
    if report.errors[worst] <= allowed:
        return
    message = (
        f"Not equivariant under {report.group}: output {worst!r} has relative error {report.errors[worst]:.2e} "
        f"(allowed {allowed:.0e}) for {report.elements[worst]}."
    )
    if len(report.errors) > 1:
        message += " All outputs: " + ", ".join(f"{name} {error:.1e}" for name, error in report.errors.items()) + "."
    first, again = (named_outputs(fn(**inputs), out_specs)[worst] for _ in range(2))
    if relative_error(first, again, worst) > 0:
        message += " The same input gives different outputs each time: call .eval() on the model first?"
    raise AssertionError(message)


def relative_error(actual: Tensor, expected: Tensor, name: str = "output") -> float:
    """``max |actual - expected| / max(|actual|, |expected|)`` in float64; infinity where either is not finite.

    Raises:
        ShapeError: if the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ShapeError(name, f"shape {tuple(actual.shape)}", f"{tuple(expected.shape)}, as for the other input")
    if not actual.numel():
        return 0.0
    a, b = actual.detach().to(_wide(actual)), expected.detach().to(_wide(expected))
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    scale = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a - b).abs().max()) / scale if scale else 0.0


def named_outputs(result: Any, out_specs: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a function returned, by the names of ``out_specs``, detached; without those declared None."""
    names = list(out_specs)
    if isinstance(result, Mapping):
        missing = [name for name in names if name not in result]
        if missing:
            raise InputError(f"out_specs: the function returned {list(result)}, without {missing}.")
        values = [result[name] for name in names]
    else:
        values = list(result) if isinstance(result, tuple | list) else [result]
    if len(values) != len(names):
        raise InputError(f"out_specs: the function returned {len(values)} outputs, declared are {names}.")
    named = dict(zip(names, values, strict=True))
    for name, value in named.items():
        if out_specs[name] is not None and not isinstance(value, Tensor):
            raise InputError(f"out_specs: output {name!r} is a {type(value).__name__}, not a tensor. Declare it None?")
    return {name: value.detach() for name, value in named.items() if out_specs[name] is not None}


def _read_specs(
    inputs: Mapping[str, Any], in_specs: Mapping[str, str | Spec], out_specs: Mapping[str, str | Spec | None]
) -> tuple[dict[str, Spec], dict[str, Spec]]:
    unknown = [name for name in in_specs if name not in inputs]
    if unknown:
        raise InputError(f"in_specs: {unknown} are not among the inputs {list(inputs)}.")
    for name, value in inputs.items():
        if isinstance(value, Tensor) and name not in in_specs:
            raise InputError(f"in_specs: the input {name!r} is a tensor and has no spec; 'invariant' if it stays.")
    ins = {name: Spec.parse(spec) for name, spec in in_specs.items()}
    outs = {name: Spec.parse(spec) for name, spec in out_specs.items() if spec is not None}
    if not outs:
        raise InputError("out_specs: nothing to compare, expected at least one output.")
    return ins, outs


def _check_labels(outs: Mapping[str, Spec], rows: Mapping[str, Tensor]) -> None:
    for name, spec in outs.items():
        if spec.rows not in (None, "graph") and spec.rows not in rows:
            raise InputError(f"out_specs: {name!r} has rows {spec.rows!r}; the inputs have {list(rows)}.")


def _tolerance(values: list[Any]) -> float:
    dtypes = [v.dtype for v in values if isinstance(v, Tensor) and v.dtype in TOLERANCE]
    return max((TOLERANCE[dtype] for dtype in dtypes), default=TOLERANCE[torch.float64])


def _wide(value: Tensor) -> torch.dtype:
    return torch.complex128 if value.is_complex() else torch.float64
