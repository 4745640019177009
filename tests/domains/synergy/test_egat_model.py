"""SynergyEGAT: order of drugs, space, numbering, companions, unknown drugs, attention, gradients, folder, learning."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from geoattn.domains.synergy.batch import PairBatch
from geoattn.domains.synergy.drug_encoder import AttentionPool
from geoattn.domains.synergy.egat_model import SynergyEGAT
from geoattn.domains.synergy.featurize import DrugBatch, DrugFeaturizer, make_preprocess, sizes
from geoattn.domains.synergy.records import Drug
from geoattn.errors import InputError, ShapeError
from geoattn.hub.registry import class_of, name_of
from geoattn.kernels import Neighborhood
from geoattn.testing.groups import random_orthogonal

pytest.importorskip("rdkit")

F64 = torch.float64
GENES = 7
SMILES = {
    "temozolomide": "Cn1nnc2c(C(N)=O)ncn2c1=O",
    "fluorouracil": "O=c1[nH]cc(F)c(=O)[nH]1",
    "vorinostat": "O=C(CCCCCCC(=O)Nc1ccccc1)NO",
    "bortezomib": "CC(C)C[C@H](NC(=O)[C@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "phenol": "Oc1ccccc1",
    "toluene": "Cc1ccccc1",
}
KNOWN = [Drug(name, smiles) for name, smiles in SMILES.items()]
NEW = [
    Drug("cisplatin", "[NH3][Pt]([NH3])(Cl)Cl", metal=True),  # without positions
    Drug("water", "O"),  # one atom, one motif, no edge
    Drug("naphthol", "Oc1ccc2ccccc2c1"),
]
DRUGS = [*KNOWN, *NEW]
PREPROCESS = make_preprocess(KNOWN)
NUM_MOTIFS = sizes(PREPROCESS)["num_motifs"]
FEATURIZER = DrugFeaturizer(PREPROCESS)
ENCODERS = ["egat", "gin", "polynormer"]


def make(drug_encoder="egat", dtype=F64, **options) -> SynergyEGAT:
    torch.manual_seed(0)
    small = dict(channels=16, num_heads=2, num_layers=2) | sizes(PREPROCESS) | options
    model = SynergyEGAT(GENES, drug_encoder=drug_encoder, **small).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "step_out" in name:  # starts near 0, where points do not move and no test would see how
                parameter.mul_(300)
    return model


def batch_of(count=40, drugs=DRUGS, seed=0, dtype=F64) -> PairBatch:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randint(len(drugs), (2, count), generator=generator)
    cell = torch.randint(5, (count,), generator=generator)
    cells = torch.randn(5, GENES, generator=generator, dtype=dtype)
    scores = torch.randn(5, len(drugs), len(drugs), generator=generator, dtype=dtype)
    target = (scores + scores.transpose(1, 2))[cell, a, b]  # the same for a pair that stands there twice
    return PairBatch(FEATURIZER(drugs).to(dtype=dtype), cells, a, b, cell, target)


def with_drugs(batch: PairBatch, **changes: torch.Tensor) -> PairBatch:
    return replace(batch, drugs=replace(batch.drugs, **changes))


def in_turn(drugs: DrugBatch, change) -> torch.Tensor:
    """Positions of which ``change`` was applied to those of each drug."""
    return torch.cat([change(pos) for pos in drugs.pos.split(drugs.atom_ptr.diff().tolist())])


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_swapping_the_drugs_changes_no_bit(encoder, dtype):
    model, batch = make(encoder, dtype), batch_of(101, dtype=dtype)
    scores = model(batch)
    assert scores.std() > 1e-2
    assert torch.equal(scores, model(batch.swapped()))
    half = torch.rand(101) < 0.5
    a, b = torch.where(half, batch.drug_a, batch.drug_b), torch.where(half, batch.drug_b, batch.drug_a)
    assert torch.equal(scores, model(replace(batch, drug_a=a, drug_b=b)))


@pytest.mark.parametrize("determinant", [1, -1])
@torch.no_grad()
def test_each_drug_may_be_turned_moved_and_mirrored(determinant):
    model, batch = make(), batch_of()
    expected = model(batch)
    generator = torch.Generator().manual_seed(1)

    def moved(pos):
        turn = random_orthogonal(3, determinant, generator).to(F64)
        return pos @ turn.T + 5 * torch.randn(3, generator=generator, dtype=F64)

    assert_close(model(with_drugs(batch, pos=in_turn(batch.drugs, moved))), expected)


@torch.no_grad()
def test_the_shape_of_a_drug_matters():
    """Only in the network that reads it, only for drugs that have one, and also through the points that moved."""
    batch = batch_of()
    bent = with_drugs(batch, pos=in_turn(batch.drugs, lambda pos: pos * torch.tensor([1.5, 1.0, 1.0], dtype=F64)))
    before, after = (make().encode_drugs(b.drugs) for b in (batch, bent))
    changed = (before - after).abs().amax(1)
    has_shape = torch.tensor([drug.name not in ("cisplatin", "water") for drug in DRUGS])
    assert (changed[has_shape] > 1e-4).all() and not changed[~has_shape].any()
    bond = batch.drugs.edge_attr[:, -1] == 1
    bonds = with_drugs(bent, edge_index=bent.drugs.edge_index[:, bond], edge_attr=bent.drugs.edge_attr[bond])
    assert (make()(bonds) - make()(bent)).abs().max() > 1e-5
    for encoder in ("gin", "polynormer"):
        assert torch.equal(make(encoder)(batch), make(encoder)(bonds))
    still = make()
    still.drug.atoms.layers[0].step_out.weight.zero_()
    assert (still.encode_drugs(batch.drugs) - before).abs().max() > 1e-6


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_companions_change_nothing(encoder):
    model, together = make(encoder), batch_of(12)
    expected = model(together)
    for i in range(12):
        a, b, cell = (int(t[i]) for t in (together.drug_a, together.drug_b, together.cell))
        drugs, cells = FEATURIZER([DRUGS[a], DRUGS[b]]).to(dtype=F64), together.cells[cell : cell + 1]
        alone = PairBatch(drugs, cells, *torch.tensor([[0], [1], [0]]))
        assert_close(model(alone), expected[i : i + 1])


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_numbering_of_atoms_changes_nothing(encoder):
    model, batch = make(encoder), batch_of()
    drugs = batch.drugs
    starts, counts = drugs.atom_ptr[:-1].tolist(), drugs.atom_ptr.diff().tolist()
    order = torch.cat([start + torch.randperm(count) for start, count in zip(starts, counts, strict=True)])
    place = order.argsort()
    shuffled = torch.randperm(drugs.edge_index.shape[1])
    renumbered = with_drugs(
        batch,
        x=drugs.x[order],
        pos=drugs.pos[order],
        edge_index=place[drugs.edge_index][:, shuffled],
        edge_attr=drugs.edge_attr[shuffled],
        member=torch.stack([place[drugs.member[0]], drugs.member[1]]),
    )
    assert_close(model(renumbered), model(batch))


@torch.no_grad()
def test_a_screen_is_what_forward_does():
    model, batch = make(), batch_of()
    drugs, cells = model.encode_drugs(batch.drugs), model.encode_cells(batch.cells)
    assert drugs.shape == (len(DRUGS), 16) and cells.shape == (5, 16)
    cell = cells[batch.cell]
    a, b = (model.in_cell(drugs[which], cell) for which in (batch.drug_a, batch.drug_b))
    assert_close(model.combine(a, b, cell), model(batch))
    assert torch.equal(model.combine(a, b, cell), model.combine(b, a, cell))


@torch.no_grad()
def test_everything_matters():
    model, batch = make(), batch_of()
    drugs = batch.drugs
    expected = model(batch)
    for changed in (
        with_drugs(batch, identity=drugs.identity.roll(1)),
        with_drugs(batch, fingerprint=drugs.fingerprint.roll(1, 0)),
        with_drugs(batch, motif=(drugs.motif + 1) % NUM_MOTIFS),
        with_drugs(batch, x=drugs.x.flip(1)),
        with_drugs(batch, edge_attr=drugs.edge_attr.flip(0)),
        with_drugs(batch, motif_edge_index=drugs.motif_edge_index[:, :0]),
        with_drugs(batch, has_pos=~drugs.has_pos),
        replace(batch, cell=(batch.cell + 1) % 5),
    ):
        assert (model(changed) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_drugs_that_training_has_not_seen(encoder):
    """Each has a score of its own; the same drug twice is a pair too."""
    model = make(encoder)
    batch = batch_of(drugs=NEW)
    assert not batch.drugs.identity.any()
    vectors = model.encode_drugs(batch.drugs)
    assert vectors.isfinite().all() and torch.pdist(vectors).min() > 1e-2
    same = replace(batch, drug_b=batch.drug_a)
    assert model(same).isfinite().all()


@torch.no_grad()
def test_identities_are_dropped_in_training():
    batch = batch_of()
    model = make(dropout=0.0, input_dropout=0.0, identity_dropout=1.0, molecule_dropout=0.0)
    unknown = with_drugs(batch, identity=torch.zeros_like(batch.drugs.identity))
    expected = model(unknown)
    assert (model(batch) - expected).abs().max() > 1e-3
    assert_close(model.train()(batch), expected)
    model = make(dropout=0.0, input_dropout=0.0, identity_dropout=0.5, molecule_dropout=0.0)
    full, none = (model.encode_drugs(one.drugs) for one in (batch, unknown))
    drawn = model.train().encode_drugs(batch.drugs)
    of_full, of_none = ((drawn - one).abs().amax(1) < 1e-10 for one in (full, none))
    known = batch.drugs.identity > 0
    assert (of_full ^ of_none)[known].all() and of_full[known].any() and of_none[known].any()


@torch.no_grad()
def test_a_model_of_names_reads_no_molecule():
    batch = batch_of()
    model = make(molecule_dropout=1.0)
    hidden = with_drugs(batch, x=torch.zeros_like(batch.drugs.x), fingerprint=torch.zeros_like(batch.drugs.fingerprint))
    assert torch.equal(model(batch), model(hidden))
    model = make(dropout=0.0, input_dropout=0.0, identity_dropout=0.0, molecule_dropout=0.5)
    drawn, full = model.train().encode_drugs(batch.drugs), model.eval().encode_drugs(batch.drugs)
    same = (drawn - full).abs().amax(1) < 1e-10
    assert same.any() and not same.all()


@torch.no_grad()
def test_cell_lines_are_hidden_in_training():
    batch = batch_of()
    model = make(dropout=0.0, input_dropout=0.0, cell_dropout=0.5)
    cells = batch.cells.repeat(20, 1)
    drawn, known = model.train().encode_cells(cells), model.eval().encode_cells(cells)
    hidden, seen = (drawn == model.unknown_cell).all(1), (drawn - known).abs().amax(1) < 1e-10
    assert (hidden ^ seen).all() and hidden.any() and seen.any()


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_attention_of_each_drug(encoder):
    model, batch = make(encoder), batch_of()
    of_atoms, of_motifs = model.attention(batch)
    assert len(of_atoms) == len(of_motifs) == len(DRUGS)
    assert [len(alpha) for alpha in of_atoms] == batch.drugs.atom_ptr.diff().tolist()
    assert [len(alpha) for alpha in of_motifs] == batch.drugs.motif_ptr.diff().tolist()
    for alpha in (*of_atoms, *of_motifs):
        assert (alpha > 0).all()
        assert_close(alpha.sum(), torch.ones((), dtype=F64))
    assert of_atoms[2].std() > 1e-4


@torch.no_grad()
def test_attention_pooling_by_hand():
    pool, x = AttentionPool(4).double(), torch.randn(5, 4, dtype=F64)
    sets = Neighborhood.from_edge_index(torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 2, 2]]), 3, 5)
    pooled = pool(x, sets)
    for i, rows in ((0, x[:3]), (2, x[3:])):
        alpha = torch.softmax(pool.score(rows).squeeze(1), 0)
        assert_close(pooled[i], torch.cat([alpha @ rows, rows.amax(0)]))
    assert not pooled[1].any()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_reach_all_parameters(encoder):
    model, batch = make(encoder).train(), batch_of()
    nn.functional.mse_loss(model(batch), batch.target).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_no_pair_and_no_drug(encoder):
    model = make(encoder)
    assert model(batch_of(0)).shape == (0,)
    none = PairBatch(FEATURIZER([]).to(dtype=F64), torch.zeros(0, GENES, dtype=F64), *torch.zeros(3, 0).long())
    assert model(none).shape == (0,)
    assert model.attention(none) == ([], [])


@pytest.mark.parametrize("encoder", ENCODERS)
@torch.no_grad()
def test_config_and_state_are_the_model(encoder):
    model, batch = make(encoder), batch_of()
    assert name_of(model) == "synergy/egat"
    again = class_of("synergy/egat")(**model.config).to(F64).eval()
    again.load_state_dict(model.state_dict())
    assert again.config == model.config and torch.equal(again(batch), model(batch))


def test_layers_add_something():
    assert len(list(make(num_layers=3).parameters())) > len(list(make(num_layers=2).parameters()))
    two, three = make(num_layers=2), make(num_layers=3)
    three.load_state_dict(two.state_dict(), strict=False)
    assert (two(batch_of()) - three(batch_of())).abs().max() > 1e-3


@pytest.mark.parametrize("encoder", ENCODERS)
def test_over_fits_40_pairs(encoder):
    batch = batch_of(dtype=torch.float32)
    still = dict.fromkeys(("dropout", "input_dropout", "identity_dropout", "molecule_dropout"), 0.0)
    model = make(encoder, torch.float32, **still).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch.target)
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * batch.target.var()


def test_what_is_refused():
    with pytest.raises(InputError, match="drug_encoder: got 'gat'.*egat"):
        make("gat")
    with pytest.raises(ShapeError, match="cells.*num_genes = 7"):
        make().encode_cells(torch.zeros(2, 8, dtype=F64))
