"""Orbit distance: canonicalisation by a free matrix, which a loss or a projection brings to the group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.matrix_groups import MatrixGroup
from geoattn.layers.symmetrize.in_frames import call_in_frames, check_points, check_representations


class OrbitDistance(nn.Module):
    r"""A network's mean over random transformations that a generator proposes as matrices of no particular kind.

    .. math::
        \Phi(X) = \frac1S \sum_{s=1}^S \rho_2(M_s)\, \varphi\big( M_s^{-1} X \big), \qquad M_s = V(X, z_s),
            \quad z_s \sim N(0, 1)

    For groups without an easy way to their elements, such as the Lorentz group. :math:`M^{-1}` is the group's formula
    :math:`\eta M^\top \eta`. Behind an equivariant generator the output is exactly symmetric for the same noise, and in
    distribution for fresh noise, whatever the matrices are; but off the group the network sees distorted clouds, down
    to none of them where a matrix is 0. Each call returns how far off it is, to be added to the loss:
    ``loss + weight * defect.mean()`` (published: down to a threshold of 0.1). Small on training data it says nothing
    about test data: report it there, beside the accuracy.

    With ``project`` the matrices are brought into the group (`MatrixGroup.project`, which commutes with it), so that
    clouds keep their shape. That is probabilistic symmetrisation. The defect returned stays that of the matrices
    before, so that the loss goes on bringing them to where the projection arrives;
    ``group.defect(layer.matrices(pos)[0])`` says whether it did. Behind a `VectorNetwork` on massive four-momenta the
    loss alone leaves a defect of about 0.2 (0.27 untrained), three of four axes being short, and the projection then
    arrives on all new clouds.

    Papers: Nguyen et al., "Learning Symmetrization for Equivariance with Orbit Distance Minimization", 2023,
    arXiv:2311.07143; Kim et al., "Learning Probabilistic Symmetrization for Architecture Agnostic Equivariance",
    NeurIPS 2023, arXiv:2306.02866.

    Args:
        net: the network, called as in `FrameAveraging`.
        generator: ``generator(pos, noise=[B, N, Z], mask=None) -> [B, D, D]``, equivariant from the left, such as
            `VectorNetwork`; its attribute ``noise_channels`` is Z.
        group: acts on the points about the origin; there is no translation.
        inputs, out: how inputs and outputs go with the points, ``"invariant"`` or ``"vector"``.
        samples: S; may be set at any time, as few as 1 in training and more in evaluation.
        project: see above.

    Shapes:
        pos ``[B, N, D]`` (points as rows: four-momenta, say), further inputs ``[B, ...]``, mask ``[B, N]`` bool, noise
        ``[B, S, N, Z]``, drawn if None. Returns what ``net`` returns, and the defects ``[B, S]``.

    Symmetry: that of the generator, see above; behind one that is not equivariant, none.

    Cost: S times the network and the generator, in one call each.

    Edge cases: as the generator.

    Example:
        >>> from geoattn.geometry import MatrixGroup
        >>> from geoattn.layers import VectorNetwork
        >>> group = MatrixGroup.lorentz()
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> layer = OrbitDistance(net, VectorNetwork(group, noise_channels=2), group, samples=5)
        >>> y, defect = layer(torch.randn(7, 3, 4))
        >>> y.shape, defect.shape
        (torch.Size([7, 2]), torch.Size([7, 5]))
    """

    def __init__(
        self,
        net: nn.Module,
        generator: nn.Module,
        group: MatrixGroup,
        *,
        inputs: Sequence[str] = (),
        out: str | Sequence[str] = "invariant",
        samples: int = 1,
        project: bool = False,
    ) -> None:
        super().__init__()
        check_representations("inputs", inputs)
        check_representations("out", [out] if isinstance(out, str) else out)
        self.net, self.generator, self.group = net, generator, group
        self.inputs, self.out = tuple(inputs), out if isinstance(out, str) else tuple(out)
        self.samples, self.project = samples, project

    def forward(
        self, pos: Tensor, *inputs: Tensor | None, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Any, Tensor]:
        """The mean of the network's outputs, and the defects; see the class for shapes.

        Raises:
            ShapeError: if a tensor, or what the networks return, does not fit the constructor's arguments.
        """
        matrix, defect = self.matrices(pos, mask, noise)
        outputs = call_in_frames(
            self.net,
            pos,
            inputs,
            mask,
            representations=self.inputs,
            out=self.out,
            into=self.group.inverse(matrix).mT,  # points are rows
            back=matrix.mT,
            center=pos.new_zeros(len(pos), self.group.dim),
        )
        mean = outputs.mean(1) if isinstance(outputs, Tensor) else tuple(output.mean(1) for output in outputs)
        return mean, defect

    def matrices(self, pos: Tensor, mask: Tensor | None = None, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The transformations ``[B, S, D, D]``, and their defects ``[B, S]`` before any projection."""
        check_points(pos, mask, self.group.dim)
        if mask is not None:
            pos = pos.masked_fill(~mask[..., None], 0.0)
        width = int(self.generator.noise_channels)  # type: ignore[arg-type]
        if noise is None:
            noise = torch.randn(len(pos), self.samples, pos.shape[1], width, dtype=pos.dtype, device=pos.device)
        if noise.ndim != 4 or noise.shape[0] != len(pos) or noise.shape[2:] != (pos.shape[1], width):
            raise ShapeError("noise", f"shape {tuple(noise.shape)}", f"[{len(pos)}, S, {pos.shape[1]}, {width}]")
        samples = noise.shape[1]
        folded_mask = None if mask is None else mask.repeat_interleave(samples, 0)
        matrix = self.generator(pos.repeat_interleave(samples, 0), noise=noise.flatten(0, 1), mask=folded_mask)
        if matrix.shape != (len(pos) * samples, self.group.dim, self.group.dim):
            expected = f"[{len(pos) * samples}, {self.group.dim}, {self.group.dim}]"
            raise ShapeError("generator", f"an output of shape {tuple(matrix.shape)}", expected)
        defect = self.group.defect(matrix)
        if self.project:
            matrix = self.group.project(matrix)
        return matrix.unflatten(0, (len(pos), samples)), defect.view(len(pos), samples)

    def extra_repr(self) -> str:
        return f"{self.group}, samples={self.samples}, project={self.project}"
