"""What the Triton kernels over rows of edges share: one program per row and block of channels."""

# mypy: disable-error-code=no-untyped-def

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024
"""Numbers looked at together: edges times channels."""


@triton.jit
def program_row(row_ptr, num_channels, BLOCK_C: tl.constexpr):
    """This program's row, its edges' first and last position, its channels, and which of them exist."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    return row, tl.load(row_ptr + row), tl.load(row_ptr + row + 1), channel, channel < num_channels


@triton.jit
def tile(index, at, stop, channel, valid, num_channels, BLOCK_E: tl.constexpr):
    """Offsets ``[BLOCK_E, BLOCK_C]`` into ``[., num_channels]`` of the edges from position ``at``; which exist."""
    position = at + tl.arange(0, BLOCK_E)
    inside = position < stop
    line = tl.load(index + position, mask=inside, other=0)
    return line[:, None] * num_channels + channel[None, :], inside[:, None] & valid[None, :]


def launch(kernel, row_ptr: Tensor, channels: int, like: Tensor, *args, width: int | None = None, **constants) -> None:
    """Run ``kernel(row_ptr, *args, channels, ...)`` for all rows; accumulates in float32, for float64 in float64.

    With ``width``, each channel holds that many numbers, and the kernel takes ``width, channels`` at the end.
    """
    rows = row_ptr.shape[0] - 1
    if rows == 0 or channels == 0:
        return
    block_c, block_w = min(128, triton.next_power_of_2(channels)), 1
    if width is not None:
        block_w = min(128, triton.next_power_of_2(width))
        block_c = max(1, min(block_c, 256 // block_w))
        constants["BLOCK_W"] = block_w
        args += (width,)
    block_e = max(1, min(32, TILE // (block_c * block_w)))
    constants["DTYPE"] = tl.float64 if like.dtype == torch.float64 else tl.float32
    warps = max(1, block_e * block_c * block_w // 256)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    grid = (rows, triton.cdiv(channels, block_c))
    with torch.cuda.device_of(like):
        kernel[grid](row_ptr, *args, channels, BLOCK_E=block_e, BLOCK_C=block_c, **constants, **options)
