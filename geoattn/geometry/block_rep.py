"""`BlockRep`: block-diagonal representations of poses and positions that act on the channels of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geoattn.errors import ShapeError, nearest_hint
from geoattn.geometry.cameras import check_poses, invert_pose
from geoattn.geometry.wigner import wigner_d

Blocks = Sequence[tuple[str, int]]
PERIODS = {"triv": 1, "se3": 4, "point": 3, "so3": 8, "so2": 2, "t2": 3, "projective": 4}
FEW_TOKENS = 8  # per element: below this, block by block is faster than the product with the whole diagonal


@dataclass(frozen=True)
class _Block:
    """``size`` channels: turned by ``phase`` if that is there, mapped by ``forward`` and ``inverse`` if those are."""

    name: str
    size: int
    forward: Tensor | None = None  # [..., S, b, b]
    inverse: Tensor | None = None
    phase: Tensor | None = None  # [..., S, size / 2] complex


class BlockRep:
    r"""The matrices :math:`P_i = \rho(g_i)^{-1}` of tokens with a group element :math:`g_i`, block by block.

    An element :math:`g_i` takes shared ("world") coordinates to the token's own, as extrinsics of a camera do; P takes
    the token's own features to the shared frame, and :math:`P_i^{-1} P_j = \rho(g_i g_j^{-1})` depends on how token i
    stands to token j alone. The channels of a head are cut into blocks, each of which repeats its matrix:

    ============ ======== ==================================================== ==================
    block        channels matrix P                                             built from
    ============ ======== ==================================================== ==================
    "triv"       any      the identity                                         nothing
    "se3"        4 n      :math:`[[R^T, -c R^T t], [0, 1]]`                    ``pose``
    "point"      3 n      none: points move, :math:`x \to R^T (x - c t)`       ``pose``
    "so3"        8 n      Wigner matrices :math:`D^1(R^T)`, :math:`D^2(R^T)`   ``rotation``/pose
    "so2"        2 A n    turns by :math:`2 \pi f_k p_a`, each k = 1..n and a  ``position``
    "t2"         3 n      :math:`[[1, p], [0, 1]]` of the first two axes       ``position``
    "projective" 4 n      the inverse of ``projection``                        ``projection``
    ============ ======== ==================================================== ==================

    with :math:`f_k` = ``turns`` :math:`2^{k - n}`. "so3" is in the basis of `wigner_d` and of e3nn, in which degree 1
    is x, y, z. "point" is for the Euclidean similarity alone, and "se3", "t2" and "projective" are for dot products.

    Papers: Miyato et al., "GTA", ICLR 2024, arXiv:2310.10375; "projective": Li et al., "Cameras as Relative Positional
    Encoding", arXiv:2507.10496.

    Args:
        blocks: names and numbers of channels in order, e.g. ``[("triv", 2), ("se3", 32), ("so2", 32)]``.
        head_size: if given, what the channels must add up to.
        pose: ``[..., S, 4, 4]`` world -> own: extrinsics; of the frame of a residue or a gripper, `invert_pose`.
        rotation: ``[..., S, 3, 3]`` world -> own, if there is no pose.
        position: ``[..., S, A]`` coordinates of any number of axes, in units in which ``turns`` is meant.
        projection: ``[..., S, 4, 4]`` world -> image, invertible; see `projection_matrices`.
        turns: full turns per unit of position of the fastest "so2" pair. 1 is for positions in [0, 1).

    Leading dimensions ``...`` broadcast against those of the features. S elements serve T tokens, S a divisor of T:
    each serves T / S tokens in a row, so that a pose per view is stored once per view. S may differ between arguments.

    Symmetry: with all elements :math:`g_i \to g_i h`, :math:`P_i^{-1} P_j` stays; for "so2" and "t2", if all positions
    move by the same. Matrices are computed in at least float32, and features of 16 bits are mapped in float32. Make
    poses relative to one of them first if the world is large (`relative_poses`).

    Cost: O(T d b) per `apply`, b at most 8; "so2" O(T d). Memory O(S b^2) per block, not per head.

    Raises:
        ShapeError: for an unknown block, channels its block does not divide, a sum that is not ``head_size``, or an
            argument that a block needs and is missing or has the wrong shape.

    Example:
        >>> import torch
        >>> blocks = [("triv", 2), ("se3", 4), ("so2", 8)]
        >>> rep = BlockRep(blocks, pose=torch.eye(4).expand(2, 4, 4), position=torch.rand(6, 2))  # 2 views, 6 tokens
        >>> rep.apply(torch.randn(1, 3, 6, 14)).shape
        torch.Size([1, 3, 6, 14])
    """

    def __init__(
        self,
        blocks: Blocks,
        *,
        head_size: int | None = None,
        pose: Tensor | None = None,
        rotation: Tensor | None = None,
        position: Tensor | None = None,
        projection: Tensor | None = None,
        turns: float = 1.0,
    ) -> None:
        self.blocks = check_blocks(blocks, head_size)
        names = {name for name, _ in self.blocks}
        if pose is not None:
            if pose.ndim < 3:
                raise ShapeError("pose", f"shape {tuple(pose.shape)}", "[..., S, 4, 4]", "Give one pose as pose[None].")
            pose = check_poses("pose", pose).to(_wide(pose))
            rotation = pose[..., :3, :3] if rotation is None else rotation
        self._made: list[_Block] = []
        for name, need, shape in (
            ("se3", pose, "pose [..., S, 4, 4]"),
            ("point", pose, "pose [..., S, 4, 4]"),
            ("so3", rotation, "rotation [..., S, 3, 3], or pose"),
            ("so2", position, "position [..., S, A]"),
            ("t2", position, "position [..., S, A]"),
            ("projective", projection, "projection [..., S, 4, 4]"),
        ):
            if name in names and need is None:
                raise ShapeError("BlockRep", f'a block "{name}" without what it is built from', shape)
        for name, size in self.blocks:
            if name in ("se3", "point"):
                assert pose is not None
                self._made.append(_Block(name, size, invert_pose(pose), pose))
            elif name == "so3":
                assert rotation is not None
                inverse = _wigner(rotation)
                self._made.append(_Block(name, size, inverse.mT, inverse))
            elif name == "so2":
                assert position is not None
                self._made.append(_Block(name, size, phase=_phases(position, size, turns)))
            elif name == "t2":
                assert position is not None
                self._made.append(_Block(name, size, _shift(position), _shift(-position)))
            elif name == "projective":
                assert projection is not None
                projection = _checked_projection(projection)
                self._made.append(_Block(name, size, torch.linalg.inv(projection), projection))
            else:
                self._made.append(_Block(name, size))

    @property
    def size(self) -> int:
        """Channels of a head."""
        return sum(size for _, size in self.blocks)

    @property
    def affine(self) -> bool:
        """Whether a block moves points, so that there is no matrix."""
        return any(block.name == "point" for block in self._made)

    def scaled(self, scale: Tensor | float) -> BlockRep:
        """The same elements with the translations of "se3" and "point" times ``scale``, which may have a gradient.

        Layers with a scale of their own share everything else.
        """
        made = []
        for block in self._made:
            if block.name in ("se3", "point"):
                assert block.forward is not None and block.inverse is not None
                factor = block.forward.new_ones(4, 4)
                place = torch.zeros_like(factor)
                place[:3, 3] = 1.0
                by = scale.to(factor) if isinstance(scale, Tensor) else float(scale)
                factor = factor + place * (by - 1.0)
                block = replace(block, forward=block.forward * factor, inverse=block.inverse * factor)
            made.append(block)
        return self._with(made)

    def to(self, dtype: torch.dtype) -> BlockRep:
        """The same elements in float32 or float64."""
        made = []
        for block in self._made:
            if block.forward is not None and block.inverse is not None:
                block = replace(block, forward=block.forward.to(dtype), inverse=block.inverse.to(dtype))
            if block.phase is not None:
                block = replace(block, phase=block.phase.to(dtype.to_complex()))
            made.append(block)
        return self._with(made)

    def apply(self, x: Tensor) -> Tensor:
        """``P x`` for features ``[..., H, T, d]``, from each token's own frame to the shared one."""
        return self._map(x, "forward")

    def apply_inverse(self, x: Tensor) -> Tensor:
        """``P^-1 x``, from the shared frame to each token's own."""
        return self._map(x, "inverse")

    def apply_inverse_transpose(self, x: Tensor) -> Tensor:
        """``P^-T x``: the dot product with ``P y`` is that of ``x`` with y. Not defined for "point"."""
        if self.affine:
            raise ShapeError("BlockRep", 'a block "point"', "blocks with a matrix", "Use the Euclidean similarity.")
        return self._map(x, "transpose")

    def matrix(self) -> Tensor:
        """P as dense ``[..., S, d, d]``, S the tokens of the block that has most; for tests and small sizes."""
        if self.affine:
            raise ShapeError("BlockRep", 'a block "point"', "blocks with a matrix")
        tensors = [block.phase if block.phase is not None else block.forward for block in self._made]
        ends = [1 if block.phase is not None else 2 for block in self._made]
        leads = [t.shape[: t.ndim - end - 1] for t, end in zip(tensors, ends, strict=True) if t is not None]
        tokens = max([t.shape[-end - 1] for t, end in zip(tensors, ends, strict=True) if t is not None], default=1)
        lead = torch.broadcast_shapes(*leads)
        dtype = next((t.real.dtype for t in tensors if t is not None), torch.float32)
        identity = torch.eye(self.size, dtype=dtype).expand(
            *lead, tokens, self.size, self.size
        )  # a token per unit vector
        return self.apply(identity.transpose(-3, -2)).movedim(-3, -1)

    def _with(self, made: list[_Block]) -> BlockRep:
        other = object.__new__(type(self))
        other.blocks, other._made = self.blocks, made
        return other

    def _map(self, x: Tensor, way: str) -> Tensor:
        if x.ndim < 3 or x.shape[-1] != self.size:
            raise ShapeError("x", f"shape {tuple(x.shape)}", f"[..., H, T, d = {self.size}], the sum of {self.blocks}")
        parts = x.to(_wide(x)).split([size for _, size in self.blocks], -1)
        with torch.autocast(x.device.type, enabled=False):  # 16 bits would be felt as a broken symmetry
            mapped = [_map_block(part, block, way) for part, block in zip(parts, self._made, strict=True)]
        return (mapped[0] if len(mapped) == 1 else torch.cat(mapped, -1)).to(x.dtype)


def _map_block(x: Tensor, block: _Block, way: str) -> Tensor:
    if block.phase is not None:
        phase = block.phase.to(x.dtype.to_complex())
        phase = phase.conj() if way == "inverse" else phase  # a rotation is its own inverse transpose
        grouped = _grouped(x, phase.shape[-2])
        if grouped.stride(-1) != 1 or grouped.storage_offset() % 2 or any(step % 2 for step in grouped.stride()[:-1]):
            grouped = grouped.contiguous()  # pairs that do not lie as complex numbers lie
        pairs = torch.view_as_complex(grouped.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * phase[..., None, :, None, :]).flatten(-2).flatten(-3, -2)
    if block.forward is None or block.inverse is None:
        return x
    matrix = (block.forward if way == "forward" else block.inverse).to(x.dtype)
    matrix = matrix if way == "transpose" else matrix.mT  # features are rows
    translation = None
    if block.name == "point":
        translation, matrix = matrix[..., 3:, :3], matrix[..., :3, :3]
    grouped, period = _grouped(x, matrix.shape[-3]), matrix.shape[-1]
    count = block.size // period
    matrix = matrix[..., None, :, :, :]  # one for all heads
    if count > 1 and grouped.shape[-2] >= FEW_TOKENS and translation is None:
        identity = torch.eye(count, dtype=x.dtype, device=x.device)
        whole = (identity[:, None, :, None] * matrix[..., None, :, None, :]).flatten(-2).flatten(-3, -2)
        return (grouped @ whole).flatten(-3, -2)
    rows = grouped.unflatten(-1, (count, period)).flatten(-3, -2) @ matrix
    rows = rows if translation is None else rows + translation[..., None, :, :, :]
    return rows.unflatten(-2, (grouped.shape[-2], count)).flatten(-2).flatten(-3, -2)


def _grouped(x: Tensor, elements: int) -> Tensor:
    """``[..., S, T / S, c]`` of features ``[..., T, c]``."""
    tokens = x.shape[-2]
    if tokens and (not elements or tokens % elements):
        hint = "Give one element per token, or per view if all views have as many tokens."
        raise ShapeError("x", f"{tokens} tokens for {elements} elements", "a multiple of the elements", hint)
    return x.unflatten(-2, (elements, tokens // elements if elements else 1))


def check_blocks(blocks: Blocks, head_size: int | None = None) -> tuple[tuple[str, int], ...]:
    """The blocks as a tuple, after the check of names, sizes and, if given, their sum."""
    for name, size in blocks:
        if name not in PERIODS:
            raise ShapeError("blocks", f"{name!r}", "a known block", nearest_hint(name, list(PERIODS)))
        if size < 1 or size % PERIODS[name]:
            raise ShapeError("blocks", f'("{name}", {size})', f"a positive multiple of {PERIODS[name]} channels")
    total = sum(size for _, size in blocks)
    if not blocks or (head_size is not None and total != head_size):
        expected = "at least one block" if head_size is None else f"channels that add up to the head size {head_size}"
        raise ShapeError("blocks", f"{list(blocks)}, {total} channels in all", expected)
    return tuple((name, size) for name, size in blocks)


def projection_matrices(intrinsics: Tensor, extrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """World -> image ``[..., 4, 4]``: ``K E`` with K in units of the image's size and lifted by a row and a column.

    Args:
        intrinsics: ``[..., 3, 3]`` in pixels.
        extrinsics: ``[..., 4, 4]`` world -> camera.
        size: (height, width) of the images.

    The image spans -1/2 to 1/2 in both directions, so that entries stay near 1 whatever its resolution.

    Example:
        >>> import torch
        >>> K = torch.tensor([[50.0, 0.0, 32.0], [0.0, 50.0, 32.0], [0.0, 0.0, 1.0]])
        >>> projection_matrices(K, torch.eye(4), (64, 64)).diagonal()
        tensor([0.7812, 0.7812, 1.0000, 1.0000])
    """
    check_poses("extrinsics", extrinsics)
    height, width = size
    units = intrinsics.new_tensor([[1 / width, 0.0, -0.5], [0.0, 1 / height, -0.5], [0.0, 0.0, 1.0]])
    lifted = torch.nn.functional.pad(units @ intrinsics, (0, 1, 0, 1))
    return (lifted + torch.diag(lifted.new_tensor([0.0, 0.0, 0.0, 1.0]))) @ extrinsics


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wigner(rotation: Tensor) -> Tensor:
    """``[..., 8, 8]``: ``D^1`` and ``D^2`` on the diagonal."""
    _, first, second = wigner_d(rotation.to(_wide(rotation)), 2)
    return torch.cat([torch.nn.functional.pad(first, (0, 5)), torch.nn.functional.pad(second, (3, 0))], -2)


def _phases(position: Tensor, size: int, turns: float) -> Tensor:
    axes = position.shape[-1]
    if position.ndim < 2 or not position.is_floating_point() or axes < 1 or size % (2 * axes):
        got = f"{position.dtype} of shape {tuple(position.shape)} for {size} channels of so2"
        raise ShapeError("position", got, "floating-point [..., S, A] with 2 A a divisor of the channels")
    count = size // (2 * axes)
    power = torch.arange(1 - count, 1, dtype=_wide(position), device=position.device)
    angle = position.to(_wide(position))[..., None] * (2 * math.pi * turns * torch.exp2(power))
    return torch.polar(torch.ones_like(angle), angle).flatten(-2)


def _shift(position: Tensor) -> Tensor:
    if position.ndim < 2 or position.shape[-1] != 2:
        raise ShapeError("position", f"shape {tuple(position.shape)}", '[..., S, 2] for a block "t2"')
    matrix = torch.eye(3, dtype=_wide(position), device=position.device).repeat(*position.shape[:-1], 1, 1)
    matrix[..., :2, 2] = position
    return matrix


def _checked_projection(projection: Tensor) -> Tensor:
    if projection.ndim < 3 or projection.shape[-2:] != (4, 4) or not projection.is_floating_point():
        raise ShapeError("projection", f"shape {tuple(projection.shape)}", "floating-point [..., S, 4, 4]")
    return projection.to(_wide(projection))
