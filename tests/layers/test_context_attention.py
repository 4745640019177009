"""ContextAttention: both forms against loops, padding, batches, gradients, edge cases."""

import math

import pytest
import torch

from geoattn.errors import ShapeError
from geoattn.layers.context_attention import ContextAttention

F64 = torch.float64


def make(lengths=None, temperature=1.0) -> ContextAttention:
    torch.manual_seed(0)
    layer = ContextAttention(3, 4, 5, lengths=lengths, temperature=temperature).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)  # u starts at 0, which would hide it
    return layer


def inputs(num_reference=6, num_context=4):
    return torch.randn(2, num_reference, 3, dtype=F64), torch.randn(2, num_context, 4, dtype=F64)


def softmax(scores):
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def one_position_at_a_time(layer, reference, context):
    """The formulae of the docstring for one row, without masks, position by position."""
    projected = [layer.context.weight @ c + layer.context.bias for c in context]
    if layer.lengths is None:
        beta = softmax([float(layer.context_score.weight[0] @ p.tanh()) for p in projected])
        added = [sum(b * p for b, p in zip(beta, projected, strict=True))] * len(reference)
    else:
        P, p = layer.length.weight, layer.length.bias
        added = [sum(P[t, s] * projected[s] for s in range(len(context))) + p[t] for t in range(len(reference))]
    scores = [
        float(layer.score.weight[0] @ (layer.reference.weight @ r + layer.reference.bias + c).tanh())
        for r, c in zip(reference, added, strict=True)
    ]
    alpha = softmax([score / layer.temperature for score in scores])
    return sum(a * r for a, r in zip(alpha, reference, strict=True)), torch.tensor(alpha, dtype=F64)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("lengths", [None, (6, 4)])
def test_agrees_with_a_loop_over_positions(lengths, temperature):
    layer = make(lengths, temperature)
    reference, context = inputs()
    with torch.no_grad():
        pooled, alpha = layer(reference, context)
        for row in range(2):
            expected = one_position_at_a_time(layer, reference[row], context[row])
            torch.testing.assert_close((pooled[row], alpha[row]), expected)


def test_padding_and_companions_change_nothing():
    layer, (reference, context) = make(), inputs()
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    context_mask = torch.tensor([[True, False, True, False], [True] * 4])
    pooled, alpha = layer(reference, context, mask, context_mask)
    assert (alpha[~mask] == 0).all()
    torch.testing.assert_close(alpha.sum(1), torch.ones(2, dtype=F64))
    for row in range(2):
        alone = layer(reference[row, mask[row]][None], context[row, context_mask[row]][None])
        torch.testing.assert_close(pooled[row], alone[0][0], atol=1e-12, rtol=0)
        torch.testing.assert_close(alpha[row, mask[row]], alone[1][0], atol=1e-12, rtol=0)
    pad = torch.nn.functional.pad
    longer = layer(
        pad(reference, (0, 0, 0, 100), value=7.0),
        pad(context, (0, 0, 0, 100), value=7.0),
        pad(mask, (0, 100)),
        pad(context_mask, (0, 100)),
    )
    torch.testing.assert_close(longer[0], pooled, atol=1e-12, rtol=0)


def test_masked_form_knows_no_order():
    layer, (reference, context) = make(), inputs()
    order = torch.randperm(6)
    pooled, alpha = layer(reference, context)
    moved, moved_alpha = layer(reference[:, order], context.flip(1))
    torch.testing.assert_close((moved, moved_alpha), (pooled, alpha[:, order]))


def test_rows_without_positions():
    layer, (reference, context) = make(), inputs()
    reference.requires_grad_()
    nothing = torch.zeros(2, 6, dtype=torch.bool)
    pooled, alpha = layer(reference, context, nothing)
    assert pooled.abs().max() == 0 and alpha.abs().max() == 0
    no_context = layer(reference, context, None, torch.zeros(2, 4, dtype=torch.bool))
    alone = layer.attend(reference, layer.project(reference), torch.zeros(2, 1, 5, dtype=F64))
    torch.testing.assert_close(no_context, alone)
    (pooled.sum() + no_context[0].sum()).backward()
    assert reference.grad.isfinite().all()
    assert layer(reference[:, :0], context)[0].abs().max() == 0


@pytest.mark.parametrize("lengths", [None, (3, 2)])
def test_gradients(lengths):
    layer = make(lengths)
    reference, context = (x.requires_grad_() for x in inputs(3, 2))
    torch.autograd.gradcheck(layer, (reference, context))


def test_wrong_arguments_are_named():
    reference, context = inputs()
    with pytest.raises(ShapeError, match=r"reference_mask: got shape \(2, 6\)"):
        make((6, 4))(reference, context, torch.ones(2, 6, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"context_mask: got shape \(2, 4\)"):
        make((6, 4))(reference, context, None, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ShapeError, match="length = 5"):
        make((5, 4))(reference, context)
    with pytest.raises(ShapeError, match=r"context: got shape \(2, 6, 3\)"):
        make()(reference, reference)
    with pytest.raises(ShapeError, match="temperature"):
        ContextAttention(3, 4, 5, temperature=0.0)
