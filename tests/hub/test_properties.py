"""Whatever configuration, dtype and number of members: what is saved comes back bit for bit."""

import math
import tempfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoattn.domains.ensemble import Ensemble
from geoattn.domains.molecules.egnn_model import EGNNModel
from geoattn.domains.molecules.graph_attention_model import GraphAttentionModel
from geoattn.hub import from_pretrained, save_pretrained

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

common = {
    "out_channels": st.integers(1, 4),
    "num_layers": st.integers(1, 3),
    "dropout": st.sampled_from([0.0, 0.1]),
    "pooling": st.sampled_from(["sum", "mean"]),
}
egnns = st.fixed_dictionaries(
    {
        **common,
        "elements": st.lists(st.integers(1, 100), min_size=1, max_size=6, unique=True),
        "hidden_channels": st.sampled_from([4, 8]),
        "cutoff": st.floats(1, 10),
        "num_rbf": st.integers(2, 8),
    }
)
attentions = st.fixed_dictionaries(
    {
        **common,
        "in_channels": st.integers(1, 9),
        "edge_channels": st.integers(1, 4),
        "hidden_channels": st.sampled_from([4, 8]),
        "num_heads": st.sampled_from([1, 2]),
        "num_descriptors": st.integers(0, 3),
    }
)
models = st.one_of(egnns.map(lambda c: (EGNNModel, c)), attentions.map(lambda c: (GraphAttentionModel, c)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@QUICK
@given(model=models, size=st.integers(1, 3), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_models_survive(extras, model, size, dtype):
    kind, arguments = model
    members = [kind(**arguments).to(dtype) for _ in range(size)]
    whole = Ensemble(members) if size > 1 else members[0]
    with tempfile.TemporaryDirectory() as folder:
        loaded = from_pretrained(save_pretrained(f"{folder}/model", whole, **extras)).model
    before, after = whole.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)
    assert loaded.config == members[0].config and not loaded.training


@QUICK
@given(preprocess=st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_preprocessing_survives(toy, extras, preprocess):
    with tempfile.TemporaryDirectory() as folder:
        saved = save_pretrained(f"{folder}/model", toy(1), **{**extras, "preprocess": preprocess})
        assert from_pretrained(saved).preprocess == preprocess


@QUICK
@given(place=st.integers(0), change=st.integers(1, 255))
def test_a_changed_byte_is_always_noticed(toy, extras, place, change):
    with tempfile.TemporaryDirectory() as folder:
        saved = save_pretrained(f"{folder}/model", toy(2), **extras)
        data = bytearray((saved / "model.safetensors").read_bytes())
        data[place % len(data)] ^= change
        (saved / "model.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            from_pretrained(saved)


def test_numbers_keep_all_their_digits(toy, extras, tmp_path):
    numbers = [math.pi, 1e-300, 0.1 + 0.2]
    saved = save_pretrained(tmp_path / "model", toy(1), **{**extras, "preprocess": {"mean": numbers}})
    assert from_pretrained(saved).preprocess["mean"] == numbers
