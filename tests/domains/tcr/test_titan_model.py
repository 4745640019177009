"""Titan: size of the released configuration, framing of sequences, batches, attention, fine-tuning."""

import pytest
import torch
from torch import nn

from geoattn.domains.tcr.amino_acids import AMINO_ACIDS
from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.domains.tcr.featurize import Featurizer, make_preprocess
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.domains.tcr.semi_frozen import load_encoder, tune_last
from geoattn.domains.tcr.titan_encoders import left_padded
from geoattn.domains.tcr.titan_model import Titan
from geoattn.errors import InputError, ShapeError
from geoattn.hub.registry import class_of, name_of

F64 = torch.float64
KINDS = ["aa", "smiles", "graph"]


def pairs(count: int, seed: int = 0) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)

    def letters(low: int, high: int) -> str:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return "".join(AMINO_ACIDS[i] for i in torch.randint(0, 20, (length,), generator=generator).tolist())

    epitopes = [Epitope(letters(8, 12)) for _ in range(4)]
    receptors = [Receptor("C" + letters(6, 14) + "F") for _ in range(count // 2 + 1)]
    return [
        Pair(str(i), receptors[i // 2], epitopes[(i % 2 + i) % 4], int(torch.rand(1, generator=generator) < 0.5))
        for i in range(count)
    ]


def batch_of(kind: str, some: list[Pair], dtype=torch.float32) -> PairBatch:
    batch = Featurizer(make_preprocess(tcr="cdr3", epitope=kind)).collate(some)
    if kind == "graph":
        batch.epitope.x, batch.epitope.edge_attr = batch.epitope.x.to(dtype), batch.epitope.edge_attr.to(dtype)
    return batch


def make(kind="aa", **options) -> Titan:
    """A small one whose batch norms have seen data, so that they are no identity."""
    torch.manual_seed(0)
    small = dict(
        epitope=kind,
        num_smiles_tokens=26,
        smiles_channels=8,
        epitope_length=200 if kind == "smiles" else 16,
        receptor_length=20,
        kernels=(3, 5),
        filters=8,
        attention_channels=8,
        head=(16, 8),
        dropout=0.1,
    )
    model = Titan(**(small | options))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param != "aa":
        pytest.importorskip("rdkit")
    return request.param


def test_released_configuration_has_the_published_size():
    with torch.device("meta"):
        model = Titan()
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_486_517
    parts = (model.ligand, model.receptor, model.head)
    assert [len(list(part.parameters())) for part in parts] == [41, 40, 16]
    assert len(list(model.parameters())) == 97


def test_framing():
    tokens = torch.tensor([[5, 6, 7, 8], [9, 0, 0, 0]])
    framed, first = left_padded(tokens, torch.tensor([4, 1]), 7, 24, 25)
    assert framed.tolist() == [[0, 24, 5, 6, 7, 8, 25], [0, 0, 0, 0, 24, 9, 25]]
    assert first.tolist() == [2, 5]
    assert left_padded(tokens, torch.tensor([4, 1]), 4, 24, 25)[0].tolist() == [[24, 5, 6, 7], [0, 24, 9, 25]]
    assert left_padded(tokens, torch.tensor([4, 1]), 9, 24, 25)[0][0].tolist() == [0, 0, 0, 24, 5, 6, 7, 8, 25]


def test_one_pair_by_the_formula():
    """The published forward pass written out for one pair of amino-acid sequences."""
    model, one = make().double(), pairs(1)
    batch = batch_of("aa", one)
    scales = []
    for side, tokens in ((model.ligand, batch.epitope.tokens[0]), (model.receptor, batch.tcr.tokens[0])):
        encoder = side.encoder
        framed = [0] * (encoder.length - len(tokens) - 2) + [24, *tokens.tolist(), 25]
        x = encoder.fixed[framed].double()
        features = [x]
        for conv, _, _, norm in encoder.convolutions:
            y = torch.stack(
                [
                    sum(
                        conv.weight[:, :, w] @ x[t + w - conv.padding[0]]
                        for w in range(conv.kernel_size[0])
                        if 0 <= t + w - conv.padding[0] < len(x)
                    )
                    + conv.bias
                    for t in range(len(x))
                ]
            ).relu()
            y = (y - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
            features.append(y)
        scales.append(features)
    pooled = []
    for side, own, other in ((model.ligand, *scales), (model.receptor, *scales[::-1])):
        for a, r, c in zip(side.attention, own, other, strict=True):
            context = a.length.weight @ (c @ a.context.weight.T + a.context.bias) + a.length.bias[:, None]
            scores = ((r @ a.reference.weight.T + a.reference.bias + context).tanh() @ a.score.weight.T)[:, 0]
            pooled.append(scores.softmax(0) @ r)
    expected = model.head(torch.cat(pooled)[None])[:, 0]
    torch.testing.assert_close(model(batch), expected)


def test_companions_and_padding_of_the_batch_change_nothing(kind):
    model, many = make(kind).double(), pairs(9)
    batch = batch_of(kind, many, F64)
    together = model(batch)
    assert together.std() > 1e-3
    for i, pair in enumerate(many):
        torch.testing.assert_close(model(batch_of(kind, [pair], F64))[0], together[i], atol=1e-12, rtol=1e-12)
    padded = Sequences(nn.functional.pad(batch.tcr.tokens, (0, 100)))
    longer = PairBatch(padded, batch.epitope, batch.pair_tcr, batch.pair_epitope)
    torch.testing.assert_close(model(longer), together, atol=1e-12, rtol=1e-12)


def test_attention_of_each_pair(kind):
    model, many = make(kind), pairs(5)
    batch = batch_of(kind, many)
    of_receptor, of_epitope = model.attention(batch)
    positions = batch.epitope.ptr.diff() if kind == "graph" else batch.epitope.lengths
    for i, pair in enumerate(many):
        assert len(of_receptor[i]) == len(pair.receptor.cdr3)
        assert len(of_epitope[i]) == positions[batch.pair_epitope[i]]
        for alpha in (of_receptor[i], of_epitope[i]):
            assert (alpha > 0).all()
            torch.testing.assert_close(alpha.sum(), torch.tensor(1.0))


def test_attention_of_a_sequence_that_is_too_long():
    model, batch = make(receptor_length=6), batch_of("aa", pairs(3))
    for alpha in model.attention(batch)[0]:
        assert (alpha[:5] > 0).all() and (alpha[5:] == 0).all()
        torch.testing.assert_close(alpha.sum(), torch.tensor(1.0))


def test_epitope_only_copy_does_not_see_the_receptor(kind):
    batch = batch_of(kind, pairs(8), F64)
    blind, seeing = make(kind, receptor=False).double(), make(kind).double()
    other = batch_of("aa", pairs(8, seed=1)).tcr
    swapped = PairBatch(other, batch.epitope, batch.pair_tcr, batch.pair_epitope)
    torch.testing.assert_close(blind(swapped), blind(batch), atol=1e-12, rtol=0)
    assert not torch.allclose(seeing(swapped), seeing(batch))
    assert blind.state_dict().keys() == seeing.state_dict().keys()


def test_training_convolves_each_pair_and_evaluation_agrees(kind):
    batch = batch_of(kind, pairs(6))
    model = make(kind, dropout=0.0)
    expected = model(batch)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    torch.testing.assert_close(model(batch), expected)


def test_batch_norm_sees_pairs_not_distinct_sequences():
    """A pair that stands twice counts twice, as if it were two receptors of the same sequence."""
    batch, model = batch_of("aa", pairs(4)), make(dropout=0.0).train()
    twice = PairBatch(
        Sequences(torch.cat([batch.tcr.tokens, batch.tcr.tokens[:1]])),
        batch.epitope,
        torch.cat([batch.pair_tcr, torch.tensor([len(batch.tcr)])]),
        torch.cat([batch.pair_epitope, batch.pair_epitope[:1]]),
    )
    shared = PairBatch(batch.tcr, batch.epitope, torch.cat([batch.pair_tcr, batch.pair_tcr[:1]]), twice.pair_epitope)
    torch.testing.assert_close(model(shared), model(twice))


def test_configuration_and_registry_rebuild_the_model(kind):
    model, batch = make(kind), batch_of(kind, pairs(3))
    assert name_of(model) == "tcr/titan"
    twin = class_of("tcr/titan")(**model.config).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(batch), model(batch))


def test_graph_can_be_renumbered():
    pytest.importorskip("rdkit")
    model, batch = make("graph").double(), batch_of("graph", pairs(2), F64)
    graph = batch.epitope
    expected = model(batch)
    order = torch.cat([start + torch.randperm(int(n)) for start, n in zip(graph.ptr, graph.ptr.diff(), strict=False)])
    graph.x, graph.edge_index = graph.x[order], torch.argsort(order)[graph.edge_index]
    torch.testing.assert_close(model(batch), expected)


def test_over_fits_64_pairs(kind):
    batch = batch_of(kind, pairs(64))
    model = make(kind, filters=16, attention_channels=16, head=(32,), dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = model(batch)
    assert scores[batch.label == 1].min() > scores[batch.label == 0].max()  # ROC-AUC 1


def test_wrong_batches_are_named():
    pytest.importorskip("rdkit")
    with pytest.raises(ShapeError, match="batch.epitope: got Sequences, expected Batch, as epitope = 'graph'"):
        make("graph")(batch_of("aa", pairs(2)))
    with pytest.raises(InputError, match="the model knows 10"):
        make("smiles", num_smiles_tokens=10)(batch_of("smiles", pairs(2)))
    with pytest.raises(InputError, match="epitope: got 'smile'. Did you mean 'smiles'"):
        Titan(epitope="smile")
    with pytest.raises(ShapeError, match="kernels"):
        Titan(kernels=(3, 4))


def released_shape() -> Titan:
    """Small, with the released numbers of scales and layers: 97 tensors."""
    return make("smiles", kernels=(3, 5, 7), head=(16, 8, 8)).train()


def test_tune_last_68_of_97():
    pytest.importorskip("rdkit")
    model = released_shape()
    assert tune_last(model, 68) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert len(frozen) == 29 and all(name.startswith("ligand.") for name in frozen)
    in_attention = [name for name in frozen if "attention" in name]
    assert len(in_attention) == 16 and not any(name.startswith("ligand.attention.3.") for name in in_attention)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model(batch_of("smiles", pairs(4))).sum().backward()
    torch.optim.Adam([p for p in model.parameters() if p.requires_grad]).step()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name in frozen)
        if name in frozen:
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("number", [0, 98])
def test_tune_last_refuses_other_numbers(number):
    with pytest.raises(InputError, match=f"num_tensors: got {number}, expected 1 to 97"):
        tune_last(released_shape(), number)


def test_tune_last_can_be_widened_again():
    model = released_shape()
    for number in (16, 97):
        tune_last(model, number)
        assert sum(parameter.requires_grad for parameter in model.parameters()) == number
    with pytest.raises(InputError, match="order: head have 16 parameter tensors, the model has 97"):
        tune_last(model, 16, order=("head",))


def test_load_encoder_copies_the_sides_alone():
    source, model = make(), make()
    for tensor in source.state_dict().values():
        tensor.fill_(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_encoder(model, source.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("head.") else source.state_dict()[name])


def test_load_encoder_lists_what_does_not_fit():
    model, state = make(), make().state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["ligand.more"] = torch.zeros(1)
    state["receptor.attention.0.score.weight"] = torch.zeros(1, 3)
    del state["ligand.attention.0.score.weight"]
    with pytest.raises(InputError) as error:
        load_encoder(model, state)
    for part in (
        "3 tensors do not fit",
        "ligand.attention.0.score.weight is missing",
        "ligand.more is not in the model",
        "receptor.attention.0.score.weight is (1, 3), the model's is (1, 8)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
