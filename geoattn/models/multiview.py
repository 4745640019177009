"""Colours along new rays, from a few posed images of a scene: a scene representation transformer."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from geoattn.errors import ShapeError
from geoattn.geometry.block_rep import BlockRep
from geoattn.geometry.rays import pixel_centres, pixel_rays
from geoattn.layers.gta import GTA

PoseEncoding = Literal["gta", "absolute", "rope"]
OCTAVES = 6
"""Frequencies of the embedding of rays, from half a turn per unit of length upwards."""
RAY_CHANNELS = 6 * (2 * OCTAVES + 1)
STRIDE = 4
"""Pixels along each side of an image's token."""
LENGTHS = 1.0
"""What the learned factor of translations begins with: cameras are about one unit of length from the scene."""


class MultiViewTransformer(nn.Module):
    r"""Tokens of all input views attend to each other; each asked ray attends to them and becomes a colour.

    Small convolutions turn every 4 x 4 pixels of an image into a token; ``encoder_layers`` blocks of attention run over
    the tokens of all views of a scene; a query per ray passes ``decoder_layers`` blocks of attention to the tokens,
    then a network that gives the colour. How poses enter is ``pose``:

    - ``"gta"``: through `GTA` in every attention, with the camera's pose and the direction in the camera as group
      elements of a token. Images enter as they are and all queries start alike.
    - ``"absolute"``: origin and direction of a pixel's ray, embedded by sines, are channels of the images and make the
      queries; attention is plain. This is SRT.
    - ``"rope"``: as absolute, and queries and keys (not values) are turned by origin and direction of their rays.

    Papers: Sajjadi et al., "Scene Representation Transformer", CVPR 2022, arXiv:2111.13152; Miyato et al., "GTA",
    ICLR 2024, arXiv:2310.10375. Smaller than either: two convolutions with stride in the place of three, a narrow
    decoder.

    Args:
        channels: C; divisible by ``num_heads``, a head by 16.
        num_heads: H.
        encoder_layers: blocks over the tokens of the views.
        decoder_layers: blocks from rays to tokens.
        pose: how cameras enter.
        mlp_ratio: width of a block's network in units of ``channels``.
        lens: ``"gta"``: focal length, in widths of an image, of the camera whose image spans 0 to 1 in position; its
            directions are told apart best, wider ones wrap round.

    Shapes:
        images ``[B, V, 3, H, W]`` in 0..1, H and W multiples of 4; extrinsics ``[B, V, 4, 4]`` world -> camera;
        intrinsics ``[B, V, 3, 3]`` in pixels; target_extrinsics, target_intrinsics alike for T targets; pixels
        ``[B, T, R, 2]``. Returns colours ``[B, T, R, 3]``, not clipped.

    Symmetry: invariant to the order of the views; with ``"gta"`` also to the world frame of each scene, exactly. The
    other two know the frame: give them poses relative to one of the views. Scenes of a batch, and rays, never meet.

    Cost: O((V P)^2 + T R V P) attention for P = H W / 16 tokens per view; no tensor of rays times tokens is kept where
    scaled dot-product attention has a fused form.

    Example:
        >>> network = MultiViewTransformer(32, num_heads=2, encoder_layers=1, decoder_layers=1)
        >>> eye = torch.eye(4).expand(1, 2, 4, 4)
        >>> K = torch.tensor([[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]).expand(1, 2, 3, 3)
        >>> network(torch.rand(1, 2, 3, 8, 8), eye, K, eye[:, :1], K[:, :1], torch.rand(1, 1, 5, 2) * 8).shape
        torch.Size([1, 1, 5, 3])
    """

    def __init__(
        self,
        channels: int = 128,
        *,
        num_heads: int = 4,
        encoder_layers: int = 3,
        decoder_layers: int = 2,
        pose: PoseEncoding = "gta",
        mlp_ratio: int = 2,
        lens: float = 1.0,
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ShapeError("num_heads", f"{num_heads}", "at least 1")
        if channels % (16 * num_heads):
            raise ShapeError("channels", f"{channels} for {num_heads} heads", "a multiple of 16 in each head")
        self.pose, self.lens = pose, lens
        self.blocks = _head_layout(channels // num_heads, pose)
        seen = 3 if pose == "gta" else 3 + RAY_CHANNELS
        self.tokens = nn.Sequential(
            nn.Conv2d(seen, channels // 2, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels // 2, channels // 2, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels // 2, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        )
        self.query = nn.Parameter(torch.randn(channels)) if pose == "gta" else None
        self.ray = None if pose == "gta" else nn.Linear(RAY_CHANNELS, channels)
        size = (channels, num_heads, self.blocks, pose == "gta", mlp_ratio)
        self.encoder = nn.ModuleList(_Block(*size) for _ in range(encoder_layers))
        self.encoded = nn.LayerNorm(channels)
        self.decoder = nn.ModuleList(_Block(*size) for _ in range(decoder_layers))
        self.color = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
            nn.SiLU(),
            nn.Linear(channels, 3),
        )

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor,
        intrinsics: Tensor,
        target_extrinsics: Tensor,
        target_intrinsics: Tensor,
        pixels: Tensor,
    ) -> Tensor:
        """Colours of rays; see the class for shapes.

        Raises:
            ShapeError: if the images' sides are not multiples of 4, or a pose is not a rigid motion.
        """
        x, rep = self.encode(images, extrinsics, intrinsics)
        return self.decode(x, rep, target_extrinsics, target_intrinsics, pixels)

    def encode(self, images: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> tuple[Tensor, BlockRep]:
        """The scene: tokens ``[B, V P, C]`` of all views, and how their elements act; decode it as often as wanted."""
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ShapeError("images", f"{height} x {width} pixels", f"multiples of {STRIDE}")
        views = 2 * images.flatten(0, 1) - 1
        if self.pose != "gta":
            rays = torch.cat(pixel_rays(intrinsics, extrinsics, height, width), -1).flatten(0, 1)
            views = torch.cat([views, embed_rays(rays).movedim(-1, 1)], 1)
        x = self.tokens(views).flatten(2).mT.unflatten(0, images.shape[:2]).flatten(1, 2)
        centres = pixel_centres(height // STRIDE, width // STRIDE, intrinsics).flatten(0, 1) * STRIDE
        centres = centres.expand(*images.shape[:2], -1, -1)
        rep = self._elements(extrinsics, intrinsics, centres)
        for block in self.encoder:
            x = block(x, rep)
        return self.encoded(x), rep

    def decode(
        self,
        x: Tensor,
        rep: BlockRep,
        target_extrinsics: Tensor,
        target_intrinsics: Tensor,
        pixels: Tensor,
    ) -> Tensor:
        """Colours ``[B, T, R, 3]`` of rays in a scene that `encode` made."""
        if self.ray is None:
            assert self.query is not None
            query = self.query.expand(len(x), math.prod(pixels.shape[1:3]), -1)
        else:
            rays = torch.cat(pixel_rays(target_intrinsics, target_extrinsics, uv=pixels), -1)
            query = self.ray(embed_rays(rays)).flatten(1, 2)
        of_queries = self._elements(target_extrinsics, target_intrinsics, pixels)
        for block in self.decoder:
            query = block(query, of_queries, x, rep)
        return self.color(query).unflatten(1, pixels.shape[1:3])

    def _elements(self, extrinsics: Tensor, intrinsics: Tensor, pixels: Tensor) -> BlockRep:
        """How the group element of each token acts: of V views with ``pixels [B, V, P, 2]`` in each."""
        if self.pose == "absolute":
            return BlockRep(self.blocks)
        if self.pose == "rope":
            rays = torch.cat(pixel_rays(intrinsics, extrinsics, uv=pixels), -1)
            return BlockRep(self.blocks, position=rays.flatten(1, 2))
        centre, focal = intrinsics[..., None, :2, 2], intrinsics[..., None, [0, 1], [0, 1]]
        place = 0.5 + self.lens * (pixels - centre) / focal
        return BlockRep(self.blocks, pose=extrinsics, position=place.flatten(1, 2))


class _Block(nn.Module):
    """Attention of tokens to themselves, or to others, then a network on each token; both added to what came."""

    def __init__(
        self, channels: int, num_heads: int, blocks: list[tuple[str, int]], v_transform: bool, mlp_ratio: int
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = GTA(channels, num_heads, blocks, v_transform=v_transform, translation_scale=LENGTHS)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, mlp_ratio * channels),
            nn.SiLU(),
            nn.Linear(mlp_ratio * channels, channels),
        )

    def forward(
        self, x: Tensor, rep: BlockRep, context: Tensor | None = None, context_rep: BlockRep | None = None
    ) -> Tensor:
        x = x + self.attention(self.norm(x), rep, context, context_rep)
        return x + self.mlp(x)


def _head_layout(head_size: int, pose: PoseEncoding) -> list[tuple[str, int]]:
    """What acts on the channels of a head."""
    if pose == "gta":
        return [("se3", head_size // 2), ("so2", head_size // 2)]
    turned = head_size // 12 * 12 if pose == "rope" else 0  # two channels for each of six coordinates, once or more
    return [(name, size) for name, size in (("so2", turned), ("triv", head_size - turned)) if size]


def embed_rays(rays: Tensor) -> Tensor:
    """``[..., RAY_CHANNELS]`` of origins and directions ``[..., 6]``: themselves, and sines and cosines of them."""
    turns = torch.exp2(torch.arange(OCTAVES, dtype=rays.dtype, device=rays.device)) * (math.pi / 2)
    angle = (rays[..., None] * turns).flatten(-2)
    return torch.cat([rays, angle.sin(), angle.cos()], -1)
