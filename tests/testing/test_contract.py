"""The contract passes a right layer, and each deliberately broken layer fails the test that is meant for it."""

import unittest

import pytest
import torch
from torch import nn

from geoattn.testing import LayerContract

TESTS = [name for name in dir(LayerContract) if name.startswith("test_")]


class Layer(nn.Module):
    """Messages from neighbours, invariant features and positions updated; broken in one way if told so."""

    def __init__(self, fault=None):
        super().__init__()
        self.fault = fault
        self.edge = nn.Linear(3, 3)
        self.strength = nn.Linear(3, 1)
        self.hidden = torch.randn(1)  # neither a parameter nor a buffer: used by the fault "state"

    def forward(self, x, pos, edge_index):
        fault = self.fault
        source, target = edge_index
        vector = pos[source] - pos[target]
        dist2 = vector.square().sum(-1, keepdim=True)
        message = torch.tanh(self.edge(torch.cat([x[source] * x[target], x[target], dist2], dim=-1)))
        if fault == "component":
            message = message + vector[:, :1]
        if fault == "hub" and len(source) > 400:
            message = message / 0
        if fault == "wrong gradient":
            message = message + (message.square() - message.square().detach())
        if fault == "wrong second gradient":
            message = message + HalfSquare.apply(message)
        if fault == "norm":
            message = message + dist2.sqrt()
        if fault == "compiles not":
            message = message * float(message.detach().abs().max() > 0)
        received = torch.zeros(len(x), 3, dtype=message.dtype).index_add(0, target, message)
        if fault == "order":
            received[target] = message.to(received.dtype)
        if fault == "node order":
            received = received * torch.arange(1, len(x) + 1)[:, None]
        if fault == "mean":
            received = received / torch.zeros(len(x), 1, dtype=pos.dtype).index_add(0, target, torch.ones_like(dist2))
        if fault == "batch":
            received = received - received.mean()
        if fault == "writes":
            x += received.sum(-1, keepdim=True)
        if fault == "empty":
            received = received + pos.max()
        if fault == "one node":
            received = received.squeeze()[:, None].flatten(1) if len(x) == 1 else received
        if fault == "isolated":
            received = received / (received.abs().sum(-1, keepdim=True) + dist2.sum() * 0)
        if fault == "loops":
            keep = (source != target).nonzero()[:, 0]
            received = received + (len(keep) < len(source)) * pos[:, :1]
        if fault == "state":
            received = received + self.hidden
        if fault == "dtype":
            received = received.double()
        out = received.sum(-1, keepdim=True)
        step = vector * self.strength(message)
        moved = pos + torch.zeros_like(pos).index_add(0, target, step.to(pos.dtype))
        if fault == "autocast":
            out = out if message.dtype != torch.bfloat16 else out * float("nan")
        if fault == "silent":
            out = out * 0
        return x.clone() + out if fault != "silent" else out, moved


class HalfSquare(torch.autograd.Function):
    """x^2 / 2 with the right gradient and the wrong gradient of the gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.detach()


class Contract(LayerContract):
    in_specs = {"x": "invariant/node", "pos": "position/node", "edge_index": "edge_index"}
    out_specs = {"x": "invariant/node", "pos": "position/node"}
    group = "E(3)"
    second_derivatives = True
    compiles = True
    fault = None

    def layer(self):
        return Layer(self.fault)

    def inputs(self, graph):
        return {"x": graph.randn(graph.num_nodes, 1), "pos": graph.pos, "edge_index": graph.edge_index}


class TestRightLayer(Contract):
    """The contract as a user runs it."""


class TestRightLayerInThePlane(Contract):
    group = "E(2)"


# fault -> the tests that must notice it (others may)
FAULTS = {
    "component": ["test_symmetry"],
    "silent": ["test_symmetry"],
    "node order": ["test_permutation"],
    "order": ["test_shuffled_edges"],
    "batch": ["test_batch_of_two"],
    "wrong gradient": ["test_gradients"],
    "wrong second gradient": ["test_second_gradients"],
    "writes": ["test_inputs_unmodified"],
    "mean": ["test_no_edges", "test_isolated_node", "test_one_node"],
    "one node": ["test_one_node"],
    "isolated": ["test_isolated_node"],
    "norm": ["test_coincident_points"],
    "hub": ["test_hub"],
    "loops": ["test_loops_and_duplicates"],
    "empty": ["test_empty_batch"],
    "state": ["test_save_and_load"],
    "dtype": ["test_float32"],
    "autocast": ["test_autocast"],
    "compiles not": ["test_compile"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_layer_fails(fault):
    contract = Contract()
    contract.fault = fault
    for test in FAULTS[fault]:
        with pytest.raises(Exception) as caught:
            getattr(contract, test)()
        assert not isinstance(caught.value, unittest.SkipTest | NotImplementedError | TypeError), caught.value


def test_every_contract_test_is_proven_by_a_fault():
    assert {test for tests in FAULTS.values() for test in tests} == set(TESTS)


def test_the_message_names_the_input_written_to():
    contract = Contract()
    contract.fault = "writes"
    with pytest.raises(AssertionError, match=r"inputs \['x'\]"):
        contract.test_inputs_unmodified()


def test_what_is_not_declared_is_skipped():
    contract = Contract()
    contract.group, contract.second_derivatives, contract.compiles, contract.autocast = None, False, False, False
    for test in ("test_symmetry", "test_second_gradients", "test_compile", "test_autocast"):
        with pytest.raises(unittest.SkipTest):
            getattr(contract, test)()


def test_unfilled_hooks_say_what_is_missing():
    with pytest.raises(NotImplementedError, match="define layer"):
        LayerContract().test_permutation()


def test_contract_repeats_and_leaves_torch_generator_alone():
    state = torch.get_rng_state()
    first, second = Contract()._layer(), Contract()._layer()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    Contract().test_symmetry()
    assert torch.equal(torch.get_rng_state(), state)
