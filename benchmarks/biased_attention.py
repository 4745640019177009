"""Attention with a bias of squared distances: by factors, and by the bias itself, forward and backward, in one run.

    python benchmarks/biased_attention.py [--tokens 4096 16384] [--out runs/benchmark-biased-attention.json]

"factors" are `biased_attention` with `squared_distance_factors`, made in every step; "dense bias" makes the N x M bias
of each head in every step and hands it to torch's fused attention. Neither has a gradient of the coordinates.
"""

import argparse
from pathlib import Path

import torch
from _harness import compare, print_and_save
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from geoattn.layers import biased_attention, squared_distance_factors


def by_factors(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, weight: Tensor) -> None:
    biased_attention(q, k, v, *squared_distance_factors(pos, pos, weight)).sum().backward()


def by_bias(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, weight: Tensor) -> None:
    bias = -weight[:, None, None] * torch.cdist(pos, pos).square()
    scaled_dot_product_attention(q, k, v, attn_mask=bias[None]).sum().backward()


def plain(q: Tensor, k: Tensor, v: Tensor) -> None:
    scaled_dot_product_attention(q, k, v).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--channels", type=int, default=32, help="per head")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-biased-attention.json"))
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for tokens in arguments.tokens:
        shape = (1, arguments.heads, tokens, arguments.channels)
        q, k, v = (torch.randn(shape, device=device, requires_grad=True) for _ in range(3))
        pos, weight = torch.rand(tokens, 3, device=device), torch.rand(arguments.heads, device=device)
        steps = {
            "factors": lambda x=(q, k, v, pos, weight): by_factors(*x),
            "dense bias": lambda x=(q, k, v, pos, weight): by_bias(*x),
            "no bias": lambda x=(q, k, v): plain(*x),
        }
        rows += [{"tokens": tokens, **row} for row in compare(steps, arguments.repeats, device)]
    print_and_save(rows, arguments.out)


if __name__ == "__main__":
    main()
