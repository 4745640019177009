"""Frame averaging: any network, made invariant or equivariant by its mean over the frames that the points choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.frames import Frames, pca_frames
from geoattn.layers.symmetrize.in_frames import call_in_frames, check_points, check_representations, read_group


class FrameAveraging(nn.Module):
    r"""A network's mean over the principal frames of its points, exactly symmetric whatever the network is.

    .. math::
        \Phi(X) = \frac1F \sum_{f=1}^{F} \rho_2(R_f)\, \varphi\big( (X - c) R_f \big)

    with c the mean of the points and :math:`R_f` their principal axes with all signs: 4 frames for rotations of space,
    8 with reflections. All frames go through the network in one call, as a batch F times as large.

    The network is called as ``net(pos [B, N, D], *inputs [B, ...])``: dense, the cloud first, as most networks on
    points are written and as all of torch is; with ``mask=[B, N]`` if there is padding. A larger batch is all that it
    sees of the frames. With dropout or batch norm the copies of a cloud differ in training.

    Papers: Puny et al., "Frame Averaging for Invariant and Equivariant Network Design", ICLR 2022, arXiv:2110.03336;
    one random frame in training: Duval et al., "FAENet", ICML 2023, arXiv:2305.05577.

    Args:
        net: the network.
        group: ``"SO3"`` or ``"O3"``, likewise in any dimension D. Translations come with it: the mean of the points is
            taken off, and given back to positions.
        inputs: how each further input ``[B, ...]`` goes with the points: ``"invariant"`` (charges, features),
            ``"vector"`` (velocities, normals: turned) or ``"position"`` (turned about the mean of the points).
        out: the same for the output, or a sequence for a network that returns several.
        stochastic: one frame of each cloud, drawn at random, in training mode; all in evaluation mode. A training step
            then costs what the network alone costs, and the frames' mean is what it learns on the average.
        samples: see `pca_frames`: random bases where principal axes are not determined, for symmetric molecules, cubes
            and such; multiplies the frames.

    Shapes:
        pos ``[B, N, D]``, further inputs ``[B, ...]`` (or None, passed on), mask ``[B, N]`` bool. Returns what ``net``
        returns.

    Symmetry: invariant or equivariant under the group and translations, exactly where the eigenvalues of the points'
    covariance are distinct (``frames(pos).gap`` above 0; error about rounding / gap), and in distribution otherwise,
    with ``samples``. Permutations: as the network. The output's derivative grows like 1 / gap.

    Cost: F times the network, F = 2^(D-1) for SO(D), 2^D for O(D).

    Edge cases: a cloud of one point, or of none, is seen along the coordinate axes.

    Example:
        >>> net = FrameAveraging(nn.Sequential(nn.Flatten(), nn.Linear(15, 2)), "SO3").double()
        >>> pos = torch.randn(1, 5, 3, dtype=torch.float64)
        >>> bool(torch.allclose(net(pos), net(pos[..., [1, 2, 0]] + 7)))  # turned about the diagonal, and moved
        True
    """

    def __init__(
        self,
        net: nn.Module,
        group: str = "SO3",
        *,
        inputs: Sequence[str] = (),
        out: str | Sequence[str] = "invariant",
        stochastic: bool = False,
        samples: int | None = None,
    ) -> None:
        super().__init__()
        self.special, self.dim = read_group(group)
        check_representations("inputs", inputs)
        check_representations("out", [out] if isinstance(out, str) else out)
        if samples is not None and samples < 1:
            raise ShapeError("samples", f"{samples}", "at least 1, or None")
        self.net = net
        self.group, self.inputs, self.out = group, tuple(inputs), out if isinstance(out, str) else tuple(out)
        self.stochastic, self.samples = stochastic, samples

    def forward(self, pos: Tensor, *inputs: Tensor | None, mask: Tensor | None = None) -> Any:
        """The mean of the network's outputs; see the class for shapes.

        Raises:
            ShapeError: if a tensor, or what the network returns, does not fit the constructor's arguments.
        """
        rotation, center, _ = self.frames(pos, mask)
        if self.stochastic and self.training:
            drawn = torch.randint(rotation.shape[1], (len(pos),), device=pos.device)
            rotation = rotation[torch.arange(len(pos), device=pos.device), drawn][:, None]
        outputs = call_in_frames(
            self.net,
            pos,
            inputs,
            mask,
            representations=self.inputs,
            out=self.out,
            into=rotation,
            back=rotation.mT,
            center=center,
        )
        return outputs.mean(1) if isinstance(outputs, Tensor) else tuple(output.mean(1) for output in outputs)

    def frames(self, pos: Tensor, mask: Tensor | None = None) -> Frames:
        """The frames of each cloud: rotations ``[B, F, D, D]``, centres ``[B, D]``, gaps ``[B]``; see `pca_frames`."""
        check_points(pos, mask, self.dim)
        if mask is None:
            flat, counts = pos.flatten(0, 1), torch.full((len(pos),), pos.shape[1], device=pos.device)
        else:
            flat, counts = pos[mask], mask.sum(1)
        ptr = nn.functional.pad(counts.cumsum(0), (1, 0))
        return pca_frames(flat, ptr, special=self.special, samples=self.samples)

    def extra_repr(self) -> str:
        return f"group={self.group!r}, inputs={self.inputs}, out={self.out!r}"
