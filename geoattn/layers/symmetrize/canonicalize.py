"""Canonicalisation: any network, made symmetric by turning its input upright first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.orthonormalize import orthonormalize
from geoattn.layers.symmetrize.in_frames import (
    call_in_frames,
    check_points,
    check_representations,
    mean_of_points,
    read_group,
)


class Pose(NamedTuple):
    """How each cloud was found to stand; its upright points are ``(pos - center) @ rotation``.

    Attributes:
        rotation: ``[B, D, D]``, orthogonal.
        center: ``[B, D]``.
    """

    rotation: Tensor
    center: Tensor


class Canonicalize(nn.Module):
    r"""A network behind a small equivariant one that turns every cloud into the same pose.

    .. math::
        \Phi(X) = \rho_2(R)\, \varphi\big( (X - c) R \big), \qquad R = \operatorname{orthonormalize}(V(X - c))

    with V three vectors (D in D dimensions) that turn with the points. The network sees one copy of each cloud, not the
    4 or 8 of `FrameAveraging`, and which pose is best is learned with it. The rotation is returned when asked for and
    never kept: a call leaves nothing behind.

    The network is called as in `FrameAveraging`: ``net(pos [B, N, D], *inputs [B, ...])``, with ``mask=`` if given.

    Papers: Kaba et al., "Equivariance with Learned Canonicalization Functions", ICML 2023, arXiv:2211.06489; the prior:
    Mondal et al., "Equivariant Adaptation of Large Pretrained Models", NeurIPS 2023, arXiv:2310.01647.

    Args:
        net: the network.
        canonicalizer: ``canonicalizer(pos [B, N, D], mask=None) -> [B, D, D]``, a vector in each column, equivariant;
            such as `VectorNetwork`. It gets the points relative to their mean.
        group: ``"SO3"`` or ``"O3"``, likewise in other dimensions; translations come with it.
        inputs, out: how inputs and outputs go with the points, see `FrameAveraging`.
        method: of `orthonormalize`.

    Shapes:
        pos ``[B, N, D]``, further inputs ``[B, ...]``, mask ``[B, N]`` bool. Returns what ``net`` returns; with
        ``return_pose`` that and a `Pose`.

    Symmetry: exact where the vectors determine a rotation: for "SO3" two of them that are not parallel. Clouds that a
    rotation maps on themselves have no such vectors, see `VectorNetwork`; there, and near there, use frames. No
    canonicalisation is continuous everywhere.

    Cost: once the network and once the canonicalizer.

    Edge cases: where the vectors determine nothing the rotation is finite and carries no gradient.

    Example:
        >>> from geoattn.layers import VectorNetwork
        >>> net = Canonicalize(nn.Sequential(nn.Flatten(), nn.Linear(15, 2)), VectorNetwork()).double()
        >>> pos = torch.randn(1, 5, 3, dtype=torch.float64)
        >>> bool(torch.allclose(net(pos), net(pos[..., [1, 2, 0]] + 7)))  # turned about the diagonal, and moved
        True
    """

    def __init__(
        self,
        net: nn.Module,
        canonicalizer: nn.Module,
        group: str = "SO3",
        *,
        inputs: Sequence[str] = (),
        out: str | Sequence[str] = "invariant",
        method: Literal["svd", "gram_schmidt"] = "svd",
    ) -> None:
        super().__init__()
        self.special, self.dim = read_group(group)
        check_representations("inputs", inputs)
        check_representations("out", [out] if isinstance(out, str) else out)
        self.net, self.canonicalizer, self.method = net, canonicalizer, method
        self.group, self.inputs, self.out = group, tuple(inputs), out if isinstance(out, str) else tuple(out)

    def forward(
        self, pos: Tensor, *inputs: Tensor | None, mask: Tensor | None = None, return_pose: bool = False
    ) -> Any:
        """The network's outputs, turned back; see the class for shapes.

        Raises:
            ShapeError: if a tensor, or what the networks return, does not fit the constructor's arguments.
        """
        pose = self.pose(pos, mask)
        rotation = pose.rotation[:, None]
        outputs = call_in_frames(
            self.net,
            pos,
            inputs,
            mask,
            representations=self.inputs,
            out=self.out,
            into=rotation,
            back=rotation.mT,
            center=pose.center,
        )
        outputs = outputs[:, 0] if isinstance(outputs, Tensor) else tuple(output[:, 0] for output in outputs)
        return (outputs, pose) if return_pose else outputs

    def pose(self, pos: Tensor, mask: Tensor | None = None) -> Pose:
        """Rotation and centre of each cloud."""
        check_points(pos, mask, self.dim)
        center = mean_of_points(pos, mask)
        centred = pos - center[:, None]
        if mask is not None:
            centred = centred.masked_fill(~mask[..., None], 0.0)
        vectors = self.canonicalizer(centred) if mask is None else self.canonicalizer(centred, mask=mask)
        if vectors.shape != (len(pos), self.dim, self.dim):
            raise ShapeError(
                "canonicalizer", f"an output of shape {tuple(vectors.shape)}", f"[{len(pos)}, {self.dim}, {self.dim}]"
            )
        return Pose(orthonormalize(vectors, self.method, special=self.special), center)

    def extra_repr(self) -> str:
        return f"group={self.group!r}, inputs={self.inputs}, out={self.out!r}"


def prior_regularization(rotation: Tensor) -> Tensor:
    """How far rotations ``[B, D, D]`` are from the identity: the mean over clouds of the mean squared entry.

    Added to the loss on data that already stand upright (published weight 100), it keeps a canonicalizer from turning
    them, so that a pretrained network sees what it knows.

    Example:
        >>> prior_regularization(torch.eye(3).expand(5, 3, 3))
        tensor(0.)
    """
    identity = torch.eye(rotation.shape[-1], dtype=rotation.dtype, device=rotation.device)
    return (rotation - identity).square().mean()
