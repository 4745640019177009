"""What geometric transform attention takes beside plain attention of the same shapes, forward and backward, in one run.

    python benchmarks/gta.py [--tokens 512 2048 4096] [--views 8] [--out runs/benchmark-gta.json]

Heads of 64 channels as of the paper: half moved by the camera of the token's view ("se3"), half turned by its position
("so2"). "a pose per token" is the same with the views' poses copied to their tokens. "transforms alone" are the four
maps forward and backward.
"""

import argparse
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from geoattn.geometry.block_rep import BlockRep
from geoattn.layers import geometric_transform_attention

BLOCKS = {
    "se3 32, so2 32": [("se3", 32), ("so2", 32)],
    "se3 32, so3 16, so2 16": [("se3", 32), ("so3", 16), ("so2", 16)],
}
EUCLIDEAN = [("triv", 2), ("point", 30), ("so2", 32)]


def poses(views: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator, dtype=torch.float64))[0]
    pose = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    pose[:, :3, :3] = rotation * torch.linalg.det(rotation)[:, None, None]
    pose[:, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    return pose.float()


def transforms(rep: BlockRep, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return rep.apply_inverse(rep.apply_inverse_transpose(q) + rep.apply(k) + rep.apply(v))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-gta.json"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for tokens in arguments.tokens:
        shape = (1, tokens, arguments.heads, 64)  # as linear maps give them
        q, k, v = (torch.randn(shape, device=device).transpose(1, 2).requires_grad_() for _ in range(3))
        pose, position = poses(arguments.views).to(device), torch.rand(tokens, 2, device=device)
        per_token = pose.repeat_interleave(tokens // arguments.views, 0)
        reps = {name: BlockRep(blocks, pose=pose, position=position) for name, blocks in BLOCKS.items()}
        first = next(iter(BLOCKS))
        reps[f"{first}, a pose per token"] = BlockRep(BLOCKS[first], pose=per_token, position=position)
        euclidean = BlockRep(EUCLIDEAN, pose=pose, position=position)

        def attend(rep: BlockRep, euclidean: bool = False, qkv: tuple[Tensor, ...] = (q, k, v)) -> None:
            geometric_transform_attention(*qkv, rep, rep, euclidean=euclidean).sum().backward()

        def plain(qkv: tuple[Tensor, ...] = (q, k, v)) -> None:
            scaled_dot_product_attention(*qkv).sum().backward()

        steps = {"plain attention": plain}
        steps |= {name: lambda rep=rep, attend=attend: attend(rep) for name, rep in reps.items()}
        steps["Euclidean, point 30, so2 32"] = lambda attend=attend, rep=euclidean: attend(rep, True)
        steps["transforms alone"] = lambda rep=reps[first], x=(q, k, v): transforms(rep, *x).sum().backward()
        found = compare(steps, arguments.repeats, device)
        for row in found:
            fastest = 100 * (row["fastest ms"] / found[0]["fastest ms"] - 1)
            rows.append(
                {"tokens": tokens, **row, "more, %": 100 * (row["ms, times ours"] - 1), "more, % of fastest": fastest}
            )
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
