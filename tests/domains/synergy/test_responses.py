import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoattn.domains.synergy.responses import Response, direction_note, excess, inhibition
from geoattn.errors import InputError

FRACTION = st.floats(0, 1)


def wells(f_a, f_b, f_ab, **options):
    return [
        Response("A", "", "L", 1.0, 0.0, f_a, **options),
        Response("", "B", "L", 0.0, 2.0, f_b, **options),
        Response("A", "B", "L", 1.0, 2.0, f_ab, **options),
    ]


@given(FRACTION, FRACTION, FRACTION)
def test_formulae_and_sign(f_a, f_b, f_ab):
    (found,), without = excess(wells(f_a, f_b, f_ab), "inhibition")
    assert not without and found.num_doses == 1
    np.testing.assert_allclose(found.hsa, 100 * (f_ab - max(f_a, f_b)), atol=1e-9)
    np.testing.assert_allclose(found.bliss, 100 * ((1 - f_a) * (1 - f_b) - (1 - f_ab)), atol=1e-9)
    assert found.bliss <= found.hsa + 1e-9  # Bliss expects at least what the better drug does


@given(FRACTION, FRACTION, FRACTION)
def test_every_scale_says_the_same(f_a, f_b, f_ab):
    expected = excess(wells(f_a, f_b, f_ab), "inhibition")[0][0].bliss
    scales = {
        "inhibition_percent": lambda f: 100 * f,
        "viability": lambda f: 1 - f,
        "viability_percent": lambda f: 100 - 100 * f,
    }
    for scale, write in scales.items():
        found = excess(wells(write(f_a), write(f_b), write(f_ab)), scale)[0][0].bliss
        np.testing.assert_allclose(found, expected, atol=1e-9)


@given(st.permutations(range(6)), st.booleans())
def test_order_of_rows_and_drugs_does_not_matter(order, swap):
    rows = [*wells(0.2, 0.4, 0.7), *wells(0.3, 0.2, 0.6)]
    if swap:
        rows = [Response(r.drug_b, r.drug_a, r.cell, r.dose_b, r.dose_a, r.value) for r in rows]
    found = excess([rows[i] for i in order], "inhibition")[0][0]
    np.testing.assert_allclose([found.hsa, found.bliss], [100 * (0.65 - 0.3), 100 * (0.65 - 0.475)])


def test_blocks_have_single_agents_of_their_own():
    rows = [*wells(0.1, 0.1, 0.5, block="1"), *wells(0.4, 0.1, 0.5, block="2")]
    found, _ = excess(rows, "inhibition")
    np.testing.assert_allclose([item.hsa for item in found], [40, 10])


def test_a_missing_single_agent_is_named():
    rows = [*wells(0.1, 0.1, 0.5), Response("A", "B", "M", 1.0, 2.0, 0.5), Response("B", "", "M", 2.0, 0.0, 0.5)]
    found, without = excess(rows, "inhibition")
    assert len(found) == 1 and without[0][0].cell == "M"
    assert "'A' alone at this dose in 'M'; it has no row alone" in str(without[0][1])


@pytest.mark.parametrize(
    ("values", "scale", "message"),
    [
        ([55.0], "inhibition", "55, which lies far outside"),
        ([0.5] * 12, "viability_percent", "look like fractions"),
        ([0.5], "percent", "response_scale: got 'percent'"),
    ],
)
def test_wrong_scales(values, scale, message):
    with pytest.raises(InputError, match=message):
        inhibition(np.array(values), scale)


def test_viability_that_is_called_inhibition():
    rows = wells(0.2, 0.2, 0.5)
    rows += [Response(f"D{i}", "", "L", dose, 0.0, 1 / (1 + dose)) for i in range(6) for dose in (0.1, 1.0, 10.0)]
    with pytest.raises(InputError, match="Is it viability?"):
        excess(rows, "inhibition")
    assert excess(rows, "viability")[0]


def test_wells_without_drug_tell_the_direction():
    rows = wells(0.8, 0.9, 0.3)
    assert "inhibition, not viability, could not be checked" in direction_note(rows, "inhibition")
    rows.append(Response("A", "B", "L", 0.0, 0.0, 1.02))
    assert direction_note(rows, "viability") == "" and excess(rows, "viability")[0]
    with pytest.raises(InputError, match="1 wells without drug .* median inhibition would be 102 %. Is it viability?"):
        excess(rows, "inhibition")
    series = [Response(f"D{i}", "", "L", dose, 0.0, dose / 10) for i in range(5) for dose in (1.0, 9.0)]
    assert direction_note([*wells(0.2, 0.1, 0.3), *series], "inhibition") == ""


def test_no_row_with_both_drugs():
    with pytest.raises(InputError, match="no row has a dose of both"):
        excess(wells(0.1, 0.2, 0.3)[:2], "inhibition")
