"""Pair attention: the query of a pair attends over the tokens of one of its two sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.kernels import Neighborhood, gather_dot, neighbor_attention, segment_softmax


class PairAttention(nn.Module):
    r"""Multi-head attention of P queries, each over the tokens of the sequence that it points to.

    .. math::
        \alpha_{pt}^h = \operatorname{softmax}_{t \in s(p)} \big( q_p^h \cdot k_t^h / \sqrt{D} \big), \qquad
        o_p = W \big[ \textstyle\sum_t \alpha_{pt}^h v_t^h \big]_h

    with q linear in ``query`` and k, v linear in the tokens. A token that many sequences share, and a sequence that
    stands in many pairs, is stored and turned into keys and values once. One of these per
    side, with the query made of the other side's summary, is the masked form of TITAN's context attention (one weight
    per position, given the partner) without its projection of lengths.

    Papers: TITAN, doi 10.1093/bioinformatics/btab294 (context attention); arXiv:1706.03762.

    Args:
        channels: C; divisible by ``num_heads``.
        num_heads: H.

    Shapes:
        query ``[P, C]``, x ``[S, C]``, nbr from `pair_tokens`: P targets, S sources. Returns ``[P, C]``.

    Symmetry: equivariant to the order of the pairs, invariant to that of a sequence's tokens; what else is in the batch
    changes nothing.

    Cost: O((P + S) C^2 + E C) for E = sum over pairs of their tokens; memory O((P + S) C + E H).

    Edge cases: a pair whose sequence is empty gets the bias of W.

    Example:
        >>> nbr = pair_tokens(torch.tensor([0, 3, 5]), torch.tensor([1, 0, 1]), 5)  # 3 pairs; sequences of 3, 2
        >>> PairAttention(8, num_heads=2)(torch.randn(3, 8), torch.randn(5, 8), nbr).shape
        torch.Size([3, 8])
    """

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ShapeError("channels", f"{channels}", f"a multiple of num_heads = {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, query: Tensor, x: Tensor, nbr: Neighborhood) -> Tensor:
        """Attend; see the class for shapes."""
        q, k, v = self._heads(query, x)
        return self.out(neighbor_attention(q, k, v, nbr).flatten(1).to(query.dtype))

    def weights(self, query: Tensor, x: Tensor, nbr: Neighborhood) -> Tensor:
        """``[E]`` the weight of each token for each pair, mean over the heads, in the order of ``nbr``."""
        q, k, _ = self._heads(query, x)
        logits = gather_dot(k, q, nbr) * q.shape[-1] ** -0.5
        return segment_softmax(logits, nbr).mean(1)

    def _heads(self, query: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[P, H, D]`` queries, ``[S, H, D]`` keys and values."""
        k, v = self.key_value(x).unflatten(1, (2, self.num_heads, -1)).unbind(1)
        return self.query(query).unflatten(1, (self.num_heads, -1)), k, v


def pair_tokens(ptr: Tensor, which: Tensor, num_tokens: int, token: Tensor | None = None) -> Neighborhood:
    """The tokens that each pair sees: all of the sequence that it points to.

    Args:
        ptr: ``[n + 1]`` int64: the tokens of sequence s are ``ptr[s]:ptr[s + 1]``, or those places of ``token``.
        which: ``[P]`` int64 the sequence of each pair.
        num_tokens: S, how many there are.
        token: ``[ptr[-1]]`` int64: which token stands in each place, where sequences share tokens.

    Example:
        >>> nbr = pair_tokens(torch.tensor([0, 3, 5]), torch.tensor([1, 0]), 5)
        >>> nbr.row_ptr.tolist(), nbr.source.tolist()
        ([0, 2, 5], [3, 4, 0, 1, 2])
    """
    lengths = (ptr[1:] - ptr[:-1])[which]
    row_ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    target = torch.arange(len(which), device=which.device).repeat_interleave(lengths)
    place = torch.arange(len(target), device=which.device) + (ptr[which] - row_ptr[:-1])[target]
    return Neighborhood.from_csr(row_ptr, place if token is None else token[place], target, len(which), num_tokens)
