"""From pairs to batches: places, regions, augmentation, errors."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from geoattn.domains.records import RecordError
from geoattn.domains.tcr.amino_acids import AMINO_ACIDS, tokens
from geoattn.domains.tcr.augment import Augment, reverse_rows
from geoattn.domains.tcr.batch import Sequences
from geoattn.domains.tcr.featurize import Featurizer, make_preprocess
from geoattn.domains.tcr.records import Epitope, Pair, Receptor
from geoattn.errors import InputError

A = Receptor("CASSF", full="GVTCASSFGQ", start=3)
B = Receptor("CSF", full="GCSFG", start=1)
GIL, NLV = Epitope("GILGFVFTL"), Epitope("NLVPMVATV")
PAIRS = [
    Pair("1", A, GIL, 1),
    Pair("2", B, GIL, 0),
    Pair("3", A, NLV, 0),
]


def featurizer(augment=None, **changes) -> Featurizer:
    return Featurizer(make_preprocess(**changes), augment)


def test_each_distinct_sequence_stands_once():
    batch = featurizer(tcr="full", epitope="aa").collate(PAIRS)
    assert batch.pair_tcr.tolist() == [0, 1, 0] and batch.pair_epitope.tolist() == [0, 0, 1]
    assert batch.tcr.tokens.tolist() == [tokens("GVTCASSFGQ"), [*tokens("GCSFG"), 0, 0, 0, 0, 0]]
    assert batch.tcr.region.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2, 3, 3], [1, 2, 2, 2, 3, 0, 0, 0, 0, 0]]
    assert batch.epitope.tokens.tolist() == [tokens("GILGFVFTL"), tokens("NLVPMVATV")]
    assert batch.label.tolist() == [1, 0, 0]


def test_only_the_cdr3():
    batch = featurizer(tcr="cdr3", epitope="aa").collate(PAIRS)
    assert batch.tcr.tokens.tolist() == [tokens("CASSF"), [*tokens("CSF"), 0, 0]]
    assert batch.tcr.region.tolist() == [[2] * 5, [2, 2, 2, 0, 0]]


def test_one_receptor_as_in_a_batch():
    for kind in ("cdr3", "full"):
        one = featurizer(tcr=kind, epitope="aa")
        batch = one.collate(PAIRS)
        assert one.tcr(A) == (batch.tcr.tokens[0].tolist(), batch.tcr.region[0].tolist())


def test_missing_labels():
    unlabelled = Pair("4", A, GIL)
    assert featurizer(epitope="aa").collate([*PAIRS, unlabelled]).label is None


def test_preprocess_is_complete_json_and_names_mistakes():
    preprocess = make_preprocess(tcr="cdr3", epitope="graph")
    assert json.loads(json.dumps(preprocess)) == preprocess
    with pytest.raises(InputError, match="unknown key 'tcrs'. Did you mean 'tcr'"):
        make_preprocess(tcrs="full")
    with pytest.raises(InputError, match="epitope: got 'smile'. Did you mean 'smiles'"):
        make_preprocess(epitope="smile")


def test_wrong_receptors_are_named():
    with pytest.raises(RecordError, match="cdr3 = 'CAS1F': letter 4, '1'"):
        featurizer(tcr="cdr3").tcr(Receptor("CAS1F"))
    with pytest.raises(RecordError, match="cdr3 = 'CASSF': the rest of the chain is not known"):
        featurizer(tcr="full").tcr(Receptor("CASSF"))


@given(st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=5), st.integers(0, 31))
def test_reversal_is_an_involution(rows, bits):
    padded = Sequences.padded(rows).tokens.numpy()
    lengths = np.array([len(row) for row in rows])
    flips = np.array([bits >> i & 1 for i in range(len(rows))], dtype=bool)
    turned = reverse_rows(padded, lengths, flips)
    for row, turn, flip in zip(rows, turned.tolist(), flips, strict=True):
        assert turn[: len(row)] == (row[::-1] if flip else row)
    assert (reverse_rows(turned, lengths, flips) == padded).all()


def test_augmented_batches():
    plain = featurizer(epitope="aa").collate(PAIRS)
    augmented = featurizer(Augment(0), epitope="aa")
    seen = set()
    for _ in range(20):
        batch = augmented.collate(PAIRS)
        assert batch.tcr.lengths.tolist() == plain.tcr.lengths.tolist()
        for row, region, forward, regions in zip(
            batch.tcr.tokens, batch.tcr.region, plain.tcr.tokens, plain.tcr.region, strict=True
        ):
            length = int((forward != 0).sum())
            flipped = row[:length].tolist() == forward[:length].tolist()[::-1]
            assert flipped or torch.equal(row, forward)
            assert region[:length].tolist() == regions[:length].tolist()[:: -1 if flipped else 1]
            seen.add(flipped)
    assert seen == {True, False}


def test_augmentation_repeats_with_its_seed_and_can_be_switched_off():
    def tokens_of(seed, **options):
        one = featurizer(Augment(seed, **options), epitope="aa")
        return [one.collate(PAIRS).tcr.tokens.tolist() for _ in range(8)]

    assert tokens_of(1) == tokens_of(1) != tokens_of(2)
    assert len({str(t) for t in tokens_of(1, reverse=False)}) == 1


def test_random_spellings_are_the_same_molecule():
    chem = pytest.importorskip("rdkit.Chem")
    plain, random = featurizer(), featurizer(Augment(0))
    vocabulary = plain.preprocess["smiles_vocabulary"]

    def smiles(batch):
        return ["".join(vocabulary[i - 3] for i in row if i) for row in batch.epitope.tokens.tolist()]

    canonical, drawn = smiles(plain.collate(PAIRS)), [smiles(random.collate(PAIRS)) for _ in range(5)]
    assert len({text[0] for text in drawn}) == 5
    for text in drawn:
        assert [chem.CanonSmiles(one) for one in text] == canonical
    off = featurizer(Augment(0, smiles=False))
    assert smiles(off.collate(PAIRS)) == canonical


def test_graphs_as_pyg_batches_them():
    pytest.importorskip("rdkit")
    one = featurizer(epitope="graph")
    batch, expected = one.collate(PAIRS).epitope, Batch.from_data_list([one.epitope(GIL), one.epitope(NLV)])
    assert batch.num_graphs == 2
    for key in expected.keys():  # noqa: SIM118 - no dict
        assert torch.equal(batch[key], expected[key]), key


def test_processes_of_a_loader_draw_different_numbers():
    one = featurizer(Augment(0), epitope="aa", tcr="cdr3")
    many = [Pair(str(i), Receptor("CA" + AMINO_ACIDS[i % 20] + AMINO_ACIDS[i // 20] + "F"), GIL) for i in range(64)]
    loader = DataLoader([many] * 2, batch_size=None, num_workers=2, collate_fn=one.collate)
    first, second = ([batch.tcr.tokens.tolist() for batch in loader] for _ in range(2))
    assert first[0] != first[1] and first[0] != second[0]
    pickle.loads(pickle.dumps(one))


def test_an_epitope_is_encoded_once(monkeypatch):
    one = featurizer(epitope="aa")
    one.collate(PAIRS)
    monkeypatch.setattr(one, "_encode", None)
    one.collate(PAIRS)
