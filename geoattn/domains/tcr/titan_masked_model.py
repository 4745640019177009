"""TITAN's idea without fixed lengths: every position of one partner is weighed in the light of the other."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoattn.domains.tcr.amino_acids import BLOSUM62_OF_TOKEN, NUM_TOKENS
from geoattn.domains.tcr.batch import PairBatch, Sequences
from geoattn.kernels import Neighborhood, segment_reduce
from geoattn.layers.graph_attention import GraphAttentionLayer
from geoattn.layers.pair_attention import PairAttention, pair_tokens
from geoattn.layers.token_convolution import TokenConvolution

REGIONS = {"cdr3": (2,), "full": (1, 2, 3)}
PEPTIDE = 0
FARTHEST = 100
"""Residues further than this from an end of their region count as this far."""


class Tokens(NamedTuple):
    """Features of the tokens of n sequences, each distinct part once, and one summary of each sequence.

    Attributes:
        x: ``[S, C]``.
        place: ``[R]`` which row of x stands in each place of the sequences, one sequence after the other.
        ptr: ``[n + 1]`` where each sequence begins among the places.
        summary: ``[n, C]``.
    """

    x: Tensor
    place: Tensor
    ptr: Tensor
    summary: Tensor

    def of_pairs(self, which: Tensor) -> Neighborhood:
        """The tokens that each pair sees, whose sequence is ``which [P]``."""
        return pair_tokens(self.ptr, which, len(self.x), self.place)


class TitanMasked(nn.Module):
    r"""Receptor and epitope, each read by convolutions (the epitope also as a molecular graph), attend to each other.

    .. math::
        x &= \operatorname{encode}(\text{receptor}), \quad y = \operatorname{encode}(\text{epitope}), \qquad
        \bar x, \bar y = \text{means over the regions} \\
        o_x &= \bar x + \operatorname{attention}(\bar y \to x), \qquad
        o_y = \bar y + \operatorname{attention}(\bar x \to y) \\
        \text{logit} &= \operatorname{MLP}\big[ o_x,\; o_y,\; o_x \odot o_y \big]

    Each distinct sequence of a batch is encoded once. There is no padding in the result: a pair's logit depends on that
    pair alone.

    Paper: TITAN, doi 10.1093/bioinformatics/btab294, whose fixed lengths, length projection and batch norm are gone.

    Args:
        tcr: cdr3, or the full variable domain.
        epitope: aa (amino acids), smiles (tokens of the peptide as a molecule) or graph (its atoms and bonds).
        channels: C, width of the tokens.
        num_heads: of the attention.
        num_layers: layers of graph attention over an epitope's atoms; for graph.
        kernel_sizes: widths of the convolutions.
        dropout: in the convolutions and the head.
        num_smiles_tokens: kinds of tokens with padding, START and STOP; for smiles.
        atom_channels, bond_channels: widths of the atoms' and bonds' features; for graph.
        receptor: False for the network that does not see the receptor, the baseline that shows what it adds.

    Shapes: forward takes a `PairBatch` and returns logits ``[P]``.

    Symmetry: none in space; independent of padding, of the batch's other pairs and of their order.
    """

    def __init__(
        self,
        tcr: Literal["cdr3", "full"] = "full",
        epitope: Literal["aa", "smiles", "graph"] = "aa",
        channels: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        kernel_sizes: tuple[int, ...] = (1, 3, 5, 7),
        dropout: float = 0.3,
        num_smiles_tokens: int = 0,
        atom_channels: int = 0,
        bond_channels: int = 0,
        receptor: bool = True,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            tcr=tcr,
            epitope=epitope,
            channels=channels,
            num_heads=num_heads,
            num_layers=num_layers,
            kernel_sizes=tuple(kernel_sizes),
            dropout=dropout,
            num_smiles_tokens=num_smiles_tokens,
            atom_channels=atom_channels,
            bond_channels=bond_channels,
            receptor=receptor,
        )
        self.receptor = receptor
        self.tcr = ResidueEncoder(channels, kernel_sizes, dropout, REGIONS[tcr])
        self.epitope: nn.Module
        if epitope == "aa":
            self.epitope = ResidueEncoder(channels, kernel_sizes, dropout, (PEPTIDE,))
        elif epitope == "smiles":
            self.epitope = SmilesEncoder(num_smiles_tokens, channels, kernel_sizes, dropout)
        else:
            self.epitope = AtomEncoder(atom_channels, bond_channels, channels, num_heads, num_layers, dropout)
        self.to_tcr = PairAttention(channels, num_heads)
        self.to_epitope = PairAttention(channels, num_heads)
        self.norm = nn.LayerNorm(3 * channels)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(3 * channels, 2 * channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels, 1),
        )

    def forward(self, batch: PairBatch) -> Tensor:
        """``[P]`` logits."""
        tcr = self.tcr(batch.tcr) if self.receptor else None
        return self.score(tcr, self.epitope(batch.epitope), batch.pair_tcr, batch.pair_epitope)

    def score(self, tcr: Tokens | None, epitope: Tokens, pair_tcr: Tensor, pair_epitope: Tensor) -> Tensor:
        """``[P]`` logits from what the encoders made."""
        of_epitope = epitope.summary[pair_epitope]
        if tcr is None:
            of_tcr = o_tcr = torch.zeros_like(of_epitope)
        else:
            of_tcr = tcr.summary[pair_tcr]
            o_tcr = of_tcr + self.to_tcr(of_epitope, tcr.x, tcr.of_pairs(pair_tcr))
        o_epitope = of_epitope + self.to_epitope(of_tcr, epitope.x, epitope.of_pairs(pair_epitope))
        return self.head(self.norm(torch.cat([o_tcr, o_epitope, o_tcr * o_epitope], dim=1))).squeeze(1)

    def attention(self, batch: PairBatch) -> tuple[list[Tensor], list[Tensor]]:
        """Per pair the weights of the receptor's residues and of the epitope's tokens (atoms); each sums to 1."""
        tcr, epitope = self.tcr(batch.tcr), self.epitope(batch.epitope)
        of_epitope = epitope.summary[batch.pair_epitope]
        of_tcr = tcr.summary[batch.pair_tcr] if self.receptor else torch.zeros_like(of_epitope)
        return (
            _weights(self.to_tcr, of_epitope, tcr, batch.pair_tcr),
            _weights(self.to_epitope, of_tcr, epitope, batch.pair_epitope),
        )


def _weights(layer: PairAttention, query: Tensor, tokens: Tokens, which: Tensor) -> list[Tensor]:
    nbr = tokens.of_pairs(which)
    return list(layer.weights(query, tokens.x, nbr).split(nbr.degree.tolist()))


class ResidueEncoder(nn.Module):
    """Amino acids, where they stand, and convolutions over them, region by region.

    A residue is known by a learned vector, its BLOSUM62 row, and its distance from both ends of its region. There are
    few V and J segments: each that differs from the others is encoded once per batch. The summary is made of the mean
    of each region, so that up to a linear map it can name the genes.

    Args:
        channels: C.
        kernel_sizes, dropout: see `TokenConvolution`.
        regions: those to read: 1 V segment, 2 CDR3, 3 J segment; a peptide has one.
    """

    blosum: Tensor

    def __init__(self, channels: int, kernel_sizes: tuple[int, ...], dropout: float, regions: tuple[int, ...]) -> None:
        super().__init__()
        self.regions, width = regions, channels // 4
        self.register_buffer("blosum", torch.from_numpy(BLOSUM62_OF_TOKEN) / 4, persistent=False)
        self.residue = nn.Embedding(NUM_TOKENS, width)
        self.from_begin = nn.Embedding(len(regions) * FARTHEST, width)
        self.from_end = nn.Embedding(len(regions) * FARTHEST, width)
        for embedding in (self.from_begin, self.from_end):
            nn.init.normal_(embedding.weight, std=0.3)
        self.convolution = TokenConvolution(width + NUM_TOKENS, channels, kernel_sizes, dropout)
        self.norm = nn.LayerNorm(channels)
        self.summary = nn.Linear(len(regions) * channels, channels)

    def forward(self, sequences: Sequences) -> Tokens:
        """Tokens, and summaries ``[n, C]``."""
        parts: list[Tokens] = []
        for k, region in enumerate(self.regions):
            inside = sequences.mask if sequences.region is None else sequences.region == region
            tokens, which = torch.unique(_cut(sequences.tokens, inside), dim=0, return_inverse=True)
            x, lengths = self._encode(tokens, k), (tokens != 0).sum(1)
            own = pair_tokens(_pointer(lengths), which, len(x))
            parts.append(Tokens(x, own.source, own.row_ptr, _means(x, lengths)[which]))
        summary = self.summary(torch.cat([part.summary for part in parts], dim=1))
        return Tokens(torch.cat([part.x for part in parts]), *_joined(parts), summary)

    def _encode(self, tokens: Tensor, k: int) -> Tensor:
        """``[S, C]`` the tokens ``[U, L]`` of the k-th region."""
        mask = tokens != 0
        after = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        before = mask.sum(1, keepdim=True) - 1 - after
        begin, end = (k * FARTHEST + distance.clamp(0, FARTHEST - 1) for distance in (after, before))
        x = self.residue(tokens) + self.from_begin(begin) + self.from_end(end)
        return self.norm(self.convolution(torch.cat([x, self.blosum[tokens]], dim=2), mask))


class SmilesEncoder(nn.Module):
    """Tokens of SMILES and convolutions over them; the summary is their mean."""

    def __init__(self, num_smiles_tokens: int, channels: int, kernel_sizes: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(num_smiles_tokens, channels // 4)
        self.convolution = TokenConvolution(channels // 4, channels, kernel_sizes, dropout)
        self.norm = nn.LayerNorm(channels)
        self.summary = nn.Linear(channels, channels)

    def forward(self, sequences: Sequences) -> Tokens:
        """Tokens, and summaries ``[n, C]``."""
        x = self.norm(self.convolution(self.token(sequences.tokens), sequences.mask))
        return _whole(x, sequences.lengths, self.summary)


class AtomEncoder(nn.Module):
    """Atoms and bonds of the peptide, read by graph attention; the summary is the mean over the residues.

    An atom knows how far its residue is from both ends of the peptide. A residue is an MLP of the sum of its atoms:
    the mean over all atoms would be the backbone, which all peptides share.
    """

    def __init__(
        self, atom_channels: int, bond_channels: int, channels: int, num_heads: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.atom = nn.Linear(atom_channels, channels)
        self.from_begin = nn.Embedding(FARTHEST, channels)
        self.from_end = nn.Embedding(FARTHEST, channels)
        for embedding in (self.from_begin, self.from_end):
            nn.init.normal_(embedding.weight, std=0.3)
        self.layers = nn.ModuleList(
            GraphAttentionLayer(channels, num_heads, edge_channels=bond_channels, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.residue = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.summary = nn.Linear(channels, channels)

    def forward(self, batch: Any) -> Tokens:
        """Atoms of a PyG batch, and summaries ``[n, C]``."""
        nbr = Neighborhood.from_edge_index(batch.edge_index, batch.x.shape[0])
        place, longest = batch.residue, 1 + int(batch.residue.max())
        residues, of_atom = torch.unique(batch.batch * longest + place, return_inverse=True)
        lengths = torch.bincount(residues // longest, minlength=batch.ptr.numel() - 1)
        begin, end = (n.clamp(0, FARTHEST - 1) for n in (place, lengths[batch.batch] - 1 - place))
        x = self.atom(batch.x) + self.from_begin(begin) + self.from_end(end)
        for layer in self.layers:
            x = layer(x, nbr, batch.edge_attr)
        x = self.norm(x)
        residue = self.residue(x.new_zeros(len(residues), x.shape[1]).index_add(0, of_atom, x))
        atoms = torch.arange(len(x), device=x.device)
        return Tokens(x, atoms, batch.ptr, self.summary(_means(residue, lengths)))


def _cut(tokens: Tensor, inside: Tensor) -> Tensor:
    """The tokens under the mask ``inside [n, L]``, one run per row, moved to the left; 0 behind them."""
    lengths = inside.sum(1, keepdim=True)
    width = max(1, int(lengths.max())) if len(lengths) else 1
    place = torch.arange(width, device=tokens.device).expand(len(tokens), -1)
    padded = functional.pad(tokens, (0, width))  # where a row is short, or has no such region
    moved = padded.gather(1, functional.pad(inside, (0, width)).int().argmax(1, keepdim=True) + place)
    return moved.masked_fill(place >= lengths, 0)


def _whole(x: Tensor, lengths: Tensor, summary: nn.Module) -> Tokens:
    """Sequences that share no tokens."""
    return Tokens(x, torch.arange(len(x), device=x.device), _pointer(lengths), summary(_means(x, lengths)))


def _joined(parts: list[Tokens]) -> tuple[Tensor, Tensor]:
    """``place`` and ``ptr`` of sequences that are the given parts one behind the other."""
    lengths = torch.stack([part.ptr[1:] - part.ptr[:-1] for part in parts], dim=1)  # [n, parts]
    begins = torch.tensor([0, *(len(part.x) for part in parts)]).cumsum(0).tolist()
    places = torch.cat([part.place + begin for part, begin in zip(parts, begins, strict=False)])
    # part by part, then sequence by sequence; wanted: sequence by sequence, then part by part
    sequence = torch.cat([torch.arange(len(lengths), device=places.device).repeat_interleave(n) for n in lengths.T])
    return places[torch.sort(sequence, stable=True).indices], _pointer(lengths.sum(1))


def _pointer(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _means(x: Tensor, lengths: Tensor) -> Tensor:
    """``[n, C]`` the mean of the rows of each sequence; zero for an empty one."""
    target = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)
    rows = torch.arange(len(x), device=x.device)
    nbr = Neighborhood.from_csr(_pointer(lengths), rows, target, len(lengths), len(x))
    return segment_reduce(x, nbr, "mean")
