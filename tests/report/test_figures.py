"""The figures: they show the numbers they were given, and any input gives a picture or a clear error."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from geoattn.errors import ShapeError
from geoattn.report import figures
from geoattn.report.svg import figure_svg

NAN, INF = float("nan"), float("inf")
rng = np.random.default_rng(0)

TRIPLES = {  # true, predicted, uncertainty
    "empty": ([], [], []),
    "one": ([1.0], [2.0], [0.1]),
    "all gaps": ([NAN, NAN], [1.0, 2.0], [1.0, 1.0]),
    "gaps": ([1.0, NAN, 3.0], [1.1, 2.0, INF], [0.1, 0.1, 0.1]),
    "constant": ([5.0] * 10, [5.0] * 10, [0.0] * 10),
    "constant zero": ([0.0] * 3, [0.0] * 3, [0.0] * 3),
    "huge": ([1e30, -1e30], [2e30, 1e30], [1e29, 1e29]),
    "tiny": ([1e-30, 2e-30], [1e-30, 3e-30], [1e-31, 1e-31]),
    "nearly equal": ([1e6, 1e6 + 1e-9], [1e6, 1e6], [1.0, 1.0]),
    "columns": ([[1.0], [2.0]], [[1.5], [2.5]], [[0.1], [0.2]]),
    "integers": ([1, 2, 3], [1, 2, 4], [1, 1, 1]),
    "outlier": ([0.0] * 60, [*np.linspace(-1, 1, 59), 1e4], [1.0] * 60),
    "many": (np.zeros(5001), rng.normal(size=5001), np.ones(5001)),
    "many equal": (np.ones(5001), np.ones(5001), np.ones(5001)),
    "rasterised": (np.zeros(1500), rng.normal(size=1500), np.ones(1500)),
}
CLASSES = {
    "empty": ([], []),
    "one": ([1], [0.5]),
    "one class": ([1, 1, 1], [0.1, 0.5, 0.9]),
    "gaps": ([0, 1, NAN, 1], [0.1, NAN, 0.5, 0.9]),
    "ties": ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]),
    "ends": ([0, 1], [0.0, 1.0]),
    "booleans": (np.array([True, False]), [0.4, 0.6]),
}


def texts(figure: Figure) -> str:
    """All the words of a figure."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text())


def kinds(figure, kind):
    return [artist for artist in figure.findobj(kind) if type(artist) is kind]


@pytest.mark.parametrize("case", TRIPLES)
@pytest.mark.parametrize("name", ["parity", "parity with bars", "residuals", "coverage", "histogram", "learning_curve"])
def test_any_numbers_give_a_picture(name, case):
    true, predicted, std = TRIPLES[case]
    figure = {
        "parity": lambda: figures.parity(true, predicted, label="E", unit="eV"),
        "parity with bars": lambda: figures.parity(true, predicted, std=std),
        "residuals": lambda: figures.residuals(true, predicted, label="E", unit="eV"),
        "coverage": lambda: figures.coverage(true, predicted, std, label="E"),
        "histogram": lambda: figures.histogram({"true": true, "predicted": predicted}, label="E", unit="eV"),
        "learning_curve": lambda: figures.learning_curve({"train": (true, predicted), "valid": (true, std)}, best=1),
    }[name]()
    svg = figure_svg(figure)
    assert svg.count("<svg") == 1
    assert ("Nothing to draw" in svg) == (case in ("empty", "all gaps") and (name, case) != ("histogram", "all gaps"))


@pytest.mark.parametrize("case", CLASSES)
@pytest.mark.parametrize("function", [figures.roc, figures.precision_recall, figures.calibration])
def test_any_classes_give_a_picture(function, case):
    svg = figure_svg(function(*CLASSES[case], label="toxic"))
    lacking = {"empty", "one", "one class"} if function is not figures.calibration else {"empty"}
    assert ("Nothing to draw" in svg) == (case in lacking)


def test_parity_says_what_the_arrays_say():
    true, predicted = np.array([1.0, 2.0, 3.0, NAN]), np.array([1.5, 2.0, 2.0, 9.0])
    words = texts(figures.parity(true, predicted, label="logS", unit="log mol/L"))
    assert "true logS (log mol/L)" in words and "predicted logS (log mol/L)" in words
    rmse, mae, r2 = np.sqrt(1.25 / 3), 0.5, 1 - 1.25 / 2
    assert f"n = 3, MAE {mae:.3f}, RMSE {rmse:.3f}, R² {r2:.3f}" in words
    assert "1 without a value, left out" in words


def test_the_band_of_the_parity_plot_holds_95_percent():
    error = np.linspace(-10, 10, 401)
    true = np.linspace(0, 1, 401)
    assert "95 % of the errors: within ±9.50" in texts(figures.parity(true, true + error))


@pytest.mark.parametrize("function", [figures.parity, figures.residuals])
def test_many_points_are_drawn_as_a_density(function):
    few, many = (function(np.zeros(n), rng.normal(size=n)) for n in (figures.HEXBIN_FROM, figures.HEXBIN_FROM + 1))
    assert not kinds(few, PolyCollection) and kinds(many, PolyCollection)
    assert kinds(few, PathCollection)[0].get_offsets().shape[0] == figures.HEXBIN_FROM
    assert len(figure_svg(few)) < 300_000 and len(figure_svg(many)) < 1_500_000


def test_residuals_are_predicted_minus_true_and_mark_what_lies_outside():
    true, predicted = np.zeros(60), np.array([*np.linspace(-1, 1, 59), 100.0])
    figure = figures.residuals(true, predicted, unit="eV")
    words = texts(figure)
    assert "predicted \N{MINUS SIGN} true (eV)" in words and "1 beyond the frame (triangles)" in words
    up, down = (collection.get_offsets() for collection in kinds(figure, PathCollection)[-2:])
    assert up.shape == (1, 2) and up[0, 0] == 100 and down.shape == (0, 2)
    assert figure.axes[0].get_ylim()[1] < 10


def test_areas_are_those_of_scikit_learn():
    labels = rng.integers(0, 2, 200)
    scores = {"model": labels + rng.normal(size=200), "forest": labels + 3 * rng.normal(size=200)}
    roc, pr = texts(figures.roc(labels, scores)), texts(figures.precision_recall(labels, scores))
    for name, score in scores.items():
        assert f"{name}: area {roc_auc_score(labels, score):.3f}" in roc
        assert f"{name}: average precision {average_precision_score(labels, score):.3f}" in pr
    assert f"{labels.sum()} of 200 positive" in roc


def test_calibration_shows_the_observed_fractions():
    labels = np.repeat([0, 1, 0, 1], [8, 2, 1, 9])
    probabilities = np.repeat([0.2, 0.9], 10)
    figure = figures.calibration(labels, probabilities)
    line = next(line for line in figure.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(line.get_xydata(), [[0.2, 0.2], [0.9, 0.9]])
    assert "mean gap" in texts(figure)
    with pytest.raises(ShapeError, match=r"probabilities: got values from -1 to 2, expected 0 to 1"):
        figures.calibration([0, 1], [-1, 2])


def test_coverage_of_honest_and_of_overconfident_uncertainty():
    error = rng.normal(size=4000)
    for scale, low, high in [(1.0, 0.94, 0.96), (0.5, 0.6, 0.72)]:
        figure = figures.coverage(error, np.zeros(4000), np.full(4000, scale))
        level, inside = figure.axes[0].lines[-1].get_data()
        assert low < np.interp(0.95, level, inside) < high


def test_intervals_of_shares():
    low, high = figures._wilson(np.array([0.0, 0.5, 1.0]), np.array([10.0, 10.0, 10.0]))
    np.testing.assert_allclose(low, [0.0, 0.2366, 0.7225], atol=1e-4)
    np.testing.assert_allclose(high, [0.2775, 0.7634, 1.0], atol=1e-4)


def test_bars_show_values_intervals_and_gaps():
    figure = figures.bars(
        ["ours", "mean", "forest"], [0.5, NAN, 0.61], [[0.4, 0.6], [NAN, NAN], [0.5, 0.7]], label="RMSE"
    )
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.0, 0.61]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.4, 0.6), (0.5, 0.7)]
    words = texts(figure)
    assert "0.500" in words and "0.610" in words and figures.GAP in words and "RMSE" in words
    assert axes.yaxis_inverted()


def test_bars_beside_a_reference():
    (line,) = figures.bars(["a"], [0.7], reference=0.5).axes[0].lines
    assert tuple(line.get_xdata()) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [NAN], [0.0, 0.0], [-1.0, 2.0], [1e9], [INF, 1.0]])
def test_bars_of_anything(values):
    figure_svg(figures.bars([f"model {k} with a very long name indeed" for k in range(len(values))], values))


def test_the_learning_curve_takes_a_logarithm_when_it_helps():
    assert figures.learning_curve({"a": ([1, 2], [100.0, 1.0])}).axes[0].get_yscale() == "log"
    assert figures.learning_curve({"a": ([1, 2], [2.0, 1.0])}).axes[0].get_yscale() == "linear"
    assert figures.learning_curve({"a": ([1, 2], [100.0, -1.0])}).axes[0].get_yscale() == "linear"
    words = texts(
        figures.learning_curve({"train": ([0, 1], [2, 1]), "valid": ([0], [NAN])}, ylabel="MAE (eV)", best=1.0)
    )
    assert "train" in words and "valid" not in words and "MAE (eV)" in words and "kept: 1" in words


def test_histograms_count_every_value():
    figure = figures.histogram([1.0, 1.0, 2.0, NAN], label="bond", unit="Å")
    assert sum(figure.axes[0].patches[0].get_data().values) == 3
    assert "bond (Å)" in texts(figure) and "1 without a value, left out" in texts(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.parity([1, 2], [1]), "true: got lengths true 2, predicted 1"),
        (lambda: figures.roc([0, 2], [1, 2]), "labels: got values like 2, expected 0 and 1"),
        (lambda: figures.bars(["a"], [1, 2]), "values: got 1 names, 2 values"),
        (lambda: figures.bars(["a"], [1], [1, 2]), "one value and one"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_dollars_in_names_are_no_formula():
    svg = figure_svg(figures.parity([1.0, 2.0], [1.0, 2.0], label=r"$\frac{a$ costs $3", unit="$"))
    assert r"true $\frac{a$ costs $3 ($)" in svg
    figure_svg(figures.bars(["$x", "$^$"], [1, 2]))
    figure_svg(figures.roc([0, 1], {"$a_$": [0, 1]}, label="$$"))


def test_the_same_figure_gives_the_same_text():
    first, second = (figure_svg(figures.parity([1.0, 2.0], [1.0, 2.5])) for _ in range(2))
    assert first == second


def test_figures_leave_the_callers_matplotlib_alone():
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams)\n"
        "from geoattn.report import figures, svg\n"
        "svg.figure_svg(figures.parity([1, 2], [1, 3]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and dict(matplotlib.rcParams) == before\n"
        "assert not {'rdkit', 'lightning', 'torch_geometric'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
