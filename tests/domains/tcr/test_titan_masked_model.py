"""TitanMasked: padding, batches, order of pairs, shared segments, attention, the copy without receptors, learning."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.domains.tcr.featurize import Featurizer, make_preprocess
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.domains.tcr.titan_masked_model import TitanMasked
from geoattn.hub import Card, from_pretrained, save_pretrained
from geoattn.hub.registry import name_of

F64 = torch.float64
EPITOPES = [Epitope(text) for text in ("GILGFVFTL", "NLVPMVATV", "ELAGIGILTV", "AVFDRKSDAK")]
V_SEGMENTS = ("GVTQTPKFQVLKTGQSMTLQ", "DAGVIQSPRHEVTEMGQ", "")  # the last is not known
J_SEGMENTS = ("GPGTRLTVL", "GAGTRLSVL")
LETTERS = "ADEGHIKLNPQRSTVY"


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """Two pairs of each receptor; receptors share V and J segments, and one in three has no V segment."""
    generator = torch.Generator().manual_seed(seed)

    def loop() -> str:
        length = int(torch.randint(4, 11, (1,), generator=generator))
        return "".join(LETTERS[i] for i in torch.randint(0, 16, (length,), generator=generator).tolist())

    receptors = []
    for i in range(count // 2 + 1):
        v, cdr3, j = V_SEGMENTS[i % 3], f"CAS{loop()}F", J_SEGMENTS[i // 3 % 2]
        receptors.append(Receptor(cdr3, full=v + cdr3 + j, start=len(v)))
    return [
        Pair(str(i), receptors[i // 2], EPITOPES[(i // 2 + i % 2) % 4], int(torch.rand(1, generator=generator) < 0.5))
        for i in range(count)
    ]


def batch_of(some: list[Pair], tcr: str, epitope: str, dtype=F64) -> PairBatch:
    batch = Featurizer(make_preprocess(tcr=tcr, epitope=epitope)).collate(some)
    if epitope == "graph":
        batch.epitope.x, batch.epitope.edge_attr = batch.epitope.x.to(dtype), batch.epitope.edge_attr.to(dtype)
    return batch


def make(tcr="full", epitope="aa", **options) -> TitanMasked:
    torch.manual_seed(0)
    widths = dict(num_smiles_tokens=26, atom_channels=72, bond_channels=14)
    small = dict(channels=8, num_heads=2, num_layers=1, kernel_sizes=(1, 3), dropout=0.1)
    return TitanMasked(tcr, epitope, **(small | widths | options)).double().eval()


@pytest.fixture(params=["cdr3-aa", "full-aa", "full-smiles", "cdr3-graph"])
def kinds(request) -> tuple[str, str]:
    tcr, epitope = request.param.split("-")
    if epitope != "aa":
        pytest.importorskip("rdkit")
    return tcr, epitope


def longer(sequences: Sequences, by: int = 100) -> Sequences:
    region = None if sequences.region is None else pad(sequences.region, (0, by))
    return Sequences(pad(sequences.tokens, (0, by)), region)


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_padding_changes_nothing(kinds):
    model, batch = make(*kinds), batch_of(pairs(9), *kinds)
    expected = model(batch)
    assert expected.std() > 1e-3
    epitope = longer(batch.epitope) if isinstance(batch.epitope, Sequences) else batch.epitope
    assert_close(model(replace(batch, tcr=longer(batch.tcr), epitope=epitope)), expected)


@torch.no_grad()
def test_companions_change_nothing(kinds):
    """One pair by itself gets what it gets in a batch, in which its segments are encoded once for all receptors."""
    many = pairs(12)
    model, together = make(*kinds), batch_of(many, *kinds)
    expected = model(together)
    for i, pair in enumerate(many):
        assert_close(model(batch_of([pair], *kinds)), expected[i : i + 1])


@torch.no_grad()
def test_the_order_of_the_pairs_changes_nothing(kinds):
    many, order = pairs(12), torch.randperm(12).tolist()
    model = make(*kinds)
    expected = model(batch_of(many, *kinds))
    assert_close(model(batch_of([many[i] for i in order], *kinds)), expected[order])


@torch.no_grad()
def test_each_distinct_segment_is_encoded_once():
    """Six V and J segments in all 12 receptors: as many rows as distinct regions have residues."""
    many = pairs(24)
    batch = batch_of(many, "full", "aa")
    tokens = make().tcr(batch.tcr)
    parts = {(r.start, r.full[: r.start]) for r in (pair.receptor for pair in many)}
    cdr3s = {pair.receptor.cdr3 for pair in many}
    ends = {pair.receptor.full[pair.receptor.start + len(pair.receptor.cdr3) :] for pair in many}
    assert len(tokens.x) == sum(len(v) for _, v in parts) + sum(map(len, cdr3s)) + sum(map(len, ends))
    assert len(tokens.place) == sum(len(receptor) for receptor in {pair.receptor.full for pair in many})


@torch.no_grad()
def test_a_receptor_is_its_regions_one_after_the_other():
    """Distinct segments, encoded once, stand in each receptor in the order of its residues."""
    many = pairs(12)
    model, batch = make(), batch_of(many, "full", "aa")
    together = model.tcr(batch.tcr)
    for s, receptor in enumerate(dict.fromkeys(pair.receptor for pair in many)):
        alone = model.tcr(batch_of([Pair("", receptor, EPITOPES[0])], "full", "aa").tcr)
        rows = together.place[together.ptr[s] : together.ptr[s + 1]]
        assert_close(together.x[rows], alone.x[alone.place])
        assert_close(together.summary[s : s + 1], alone.summary)
        assert len(rows) == len(receptor.full)


@torch.no_grad()
def test_attention_of_each_pair(kinds):
    many = pairs(9)
    batch = batch_of(many, *kinds)
    of_receptor, of_epitope = make(*kinds).attention(batch)
    sizes = batch.epitope.lengths if isinstance(batch.epitope, Sequences) else batch.epitope.ptr.diff()
    assert len(of_receptor) == len(of_epitope) == 9
    for i, pair in enumerate(many):
        assert len(of_receptor[i]) == len(pair.receptor.full if kinds[0] == "full" else pair.receptor.cdr3)
        assert len(of_epitope[i]) == sizes[batch.pair_epitope[i]]
        for alpha in (of_receptor[i], of_epitope[i]):
            assert (alpha > 0).all()
            assert_close(alpha.sum(), torch.ones((), dtype=F64))


@torch.no_grad()
def test_attention_looks_at_the_partner():
    """The same receptor before two epitopes, and the same epitope before two receptors."""
    many = pairs(2)
    other = replace(pairs(2, seed=1)[0], epitope=many[0].epitope)
    of_receptor, of_epitope = make().attention(batch_of([*many, other], "full", "aa"))
    assert (of_receptor[0] - of_receptor[1]).abs().max() > 1e-6
    assert (of_epitope[0] - of_epitope[2]).abs().max() > 1e-6


@torch.no_grad()
def test_without_the_receptor(kinds):
    """Logits are those of the epitope, exactly; so is the attention over it."""
    many, others = pairs(12), pairs(12, seed=1)
    swapped = [replace(pair, receptor=other.receptor) for pair, other in zip(many, others, strict=True)]
    blind, seeing = make(*kinds, receptor=False), make(*kinds)
    batch, exchanged = batch_of(many, *kinds), batch_of(swapped, *kinds)
    logits = blind(batch)
    assert torch.equal(blind(exchanged), logits)
    assert not torch.allclose(seeing(exchanged), seeing(batch))
    assert len({float(logit) for logit in logits}) == len(EPITOPES)
    for e in range(len(EPITOPES)):
        assert len(set(logits[batch.pair_epitope == e].tolist())) == 1
    for own, other in zip(blind.attention(batch)[1], blind.attention(exchanged)[1], strict=True):
        assert torch.equal(own, other)
    assert blind.state_dict().keys() == seeing.state_dict().keys()


@torch.no_grad()
def test_position_and_region_count():
    """A peptide backwards, and a CDR3 whose border to the J segment is elsewhere, are something else."""
    model, one = make(), pairs(1)[0]
    backwards = replace(one, epitope=Epitope(one.epitope.sequence[::-1]))
    shorter = replace(one, receptor=replace(one.receptor, cdr3=one.receptor.cdr3[:-1]))
    logits = [model(batch_of([pair], "full", "aa")) for pair in (one, backwards, shorter)]
    assert len({round(float(logit), 9) for logit in logits}) == 3


@torch.no_grad()
def test_no_receptor_of_the_batch_has_a_v_segment():
    model = make()
    some = [pair for pair in pairs(24) if pair.receptor.start == 0]
    logits = model(batch_of(some, "full", "aa"))
    assert len(some) >= 4 and logits.isfinite().all()
    assert all(
        len(alpha) == len(p.receptor.full)
        for alpha, p in zip(model.attention(batch_of(some, "full", "aa"))[0], some, strict=True)
    )


def test_one_pair_can_be_trained_on(kinds):
    model, batch = make(*kinds).train(), batch_of(pairs(1), *kinds)
    model(batch).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_model_folder_keeps_the_model(kinds, tmp_path):
    model, batch = make(*kinds).float(), batch_of(pairs(4), *kinds, dtype=torch.float32)
    assert name_of(model) == "tcr/titan-masked"
    card = Card(
        title="t",
        summary="s",
        targets={"probability": "p"},
        data="d",
        data_licence="l",
        split="tcr",
        command="c",
        seeds=[0],
    )
    save_pretrained(
        tmp_path / "model", model, task="tcr", preprocess=make_preprocess(), metrics={}, split={}, card=card
    )
    loaded = from_pretrained(tmp_path / "model").model
    assert isinstance(loaded, TitanMasked) and loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded.eval()(batch), model(batch))


@pytest.mark.parametrize("epitope", ["aa", "smiles", "graph"])
def test_over_fits_64_pairs(epitope):
    batch = batch_of(pairs(64), "cdr3", epitope, dtype=torch.float32)
    model = make("cdr3", epitope, channels=32, dropout=0.0).float().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        scores = model(batch)
        if scores[batch.label == 1].min() > scores[batch.label == 0].max():  # ROC AUC 1
            return
        loss = nn.functional.binary_cross_entropy_with_logits(scores, batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"after 300 steps the loss is still {loss:.3f}")
