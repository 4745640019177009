"""Context attention: which positions of one sequence matter, given another sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError


class ContextAttention(nn.Module):
    r"""Additive attention over a reference R that sees a context C, and pools the reference.

    .. math::
        s_t &= v \cdot \tanh\big( W_R R_t + b_R + c_t \big) \\
        \alpha &= \operatorname{softmax}_t (s_t / \tau) \\
        o &= \textstyle\sum_t \alpha_t R_t

    There is one score for each position of the reference, not a T x S map. What the context contributes has two forms:

    - with ``lengths=(T, S)`` the published one: :math:`c_t = \sum_s P_{ts} (W_C C_s + b_C) + p_t`. Every position has
      its own weights, the softmax runs over all T positions whether they hold something or padding, and masks are
      refused: the output depends on where a sequence stands in its padding.
    - without, :math:`c_t = \sum_s \beta_s (W_C C_s + b_C)` for all t, where :math:`\beta` is the softmax of
      :math:`u \cdot \tanh(W_C C_s + b_C)` over the context's positions. u starts at 0, so :math:`\beta` starts as the
      mean. Masked positions take no part.

    Paper: "TITAN: T-cell receptor specificity prediction with bimodal attention networks", Bioinformatics 37, i237
    (2021), arXiv:2105.03323; the second form is ours.

    Args:
        reference_channels: H, width of the reference.
        context_channels: G, width of the context.
        attention_channels: A, width in which both are compared.
        lengths: (T, S) for the published form; None for the masked one.
        temperature: :math:`\tau`; small values pick single positions.

    Shapes:
        reference ``[B, T, H]``, context ``[B, S, G]``, masks ``[B, T]`` and ``[B, S]`` bool, true where there is
        something. Returns the pooled reference ``[B, H]`` and :math:`\alpha` ``[B, T]``.

    Symmetry: without lengths, the pooled reference is invariant under permutations of the positions of either sequence,
    and independent of padding and of the other rows of the batch. With lengths, the latter alone.

    Cost: O((T H + S G) A) per row, and O(T S A) more with lengths, whose matrix P also has T S parameters.

    Edge cases: a reference without a position gives zeros for the pooled row and its weights; a context without a
    position adds nothing (c = 0), and the reference attends to itself.

    Example:
        >>> attention = ContextAttention(8, 6, 16)
        >>> pooled, alpha = attention(torch.randn(2, 5, 8), torch.randn(2, 9, 6))
        >>> pooled.shape, alpha.shape
        (torch.Size([2, 8]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        reference_channels: int,
        context_channels: int,
        attention_channels: int,
        *,
        lengths: tuple[int, int] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ShapeError("temperature", f"{temperature}", "a number above 0")
        self.reference_channels, self.context_channels = reference_channels, context_channels
        self.lengths, self.temperature = lengths, temperature
        self.reference = nn.Linear(reference_channels, attention_channels)
        self.context = nn.Linear(context_channels, attention_channels)
        self.length = None if lengths is None else nn.Linear(lengths[1], lengths[0])
        self.context_score = nn.Linear(attention_channels, 1, bias=False) if lengths is None else None
        if self.context_score is not None:
            nn.init.zeros_(self.context_score.weight)
        self.score = nn.Linear(attention_channels, 1, bias=False)

    def forward(
        self,
        reference: Tensor,
        context: Tensor,
        reference_mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The pooled reference and its weights; see the class for shapes.

        Raises:
            ShapeError: if a tensor's shape does not fit the constructor's arguments, or there is a mask with lengths.
        """
        projected = self.project(reference)
        return self.attend(reference, projected, self.summarize(context, context_mask), reference_mask)

    def project(self, reference: Tensor) -> Tensor:
        """``[B, T, A]``: what the reference adds to its scores; needed once where it meets several contexts."""
        length = None if self.lengths is None else self.lengths[0]
        _check("reference", reference, length, self.reference_channels)
        return self.reference(reference)

    def summarize(self, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, T, A]`` with lengths, else ``[B, 1, A]``: what the context adds; needed once for several references."""
        _check("context", context, None if self.lengths is None else self.lengths[1], self.context_channels)
        projected = self.context(context)
        if self.length is not None:
            self._refuse_mask("context_mask", mask)
            return self.length(projected.mT).mT
        assert self.context_score is not None
        beta = _masked_softmax(self.context_score(projected.tanh()).squeeze(-1), mask)
        return torch.einsum("bs,bsa->ba", beta, projected)[:, None]

    def attend(
        self, reference: Tensor, projected: Tensor, summary: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The pooled reference and its weights, from `project` and `summarize`."""
        if self.lengths is not None:
            self._refuse_mask("reference_mask", mask)
        scores = self.score((projected + summary).tanh()).squeeze(-1)
        alpha = _masked_softmax(scores / self.temperature, mask)
        return torch.einsum("bt,bth->bh", alpha, reference), alpha

    def _refuse_mask(self, name: str, mask: Tensor | None) -> None:
        if mask is not None:
            hint = "Leave lengths out for the form that takes masks."
            raise ShapeError(name, f"shape {tuple(mask.shape)}", f"None where lengths = {self.lengths} are fixed", hint)

    def extra_repr(self) -> str:
        return f"lengths={self.lengths}, temperature={self.temperature}"


def _masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Over the last axis; zeros where masked, and where nothing is left."""
    if mask is None:
        return scores.softmax(-1)
    lowest = torch.finfo(scores.dtype).min  # not -inf, whose softmax is NaN in a row without a position
    return scores.masked_fill(~mask, lowest).softmax(-1) * mask


def _check(name: str, x: Tensor, length: int | None, channels: int) -> None:
    if x.ndim != 3 or x.shape[-1] != channels or (length is not None and x.shape[1] != length):
        axis = "length" if length is None else f"length = {length}"
        raise ShapeError(name, f"shape {tuple(x.shape)}", f"[B, {axis}, channels = {channels}]")
