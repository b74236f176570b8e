"""A model on paper of the speed of many replicas, from what allreduce.py measured here.

    python benchmarks/scale_model.py [allreduce.json]     # tables

Nothing in its tables is measured on more than one machine, nor on more than one GPU. A step of N
replicas with a global batch of B images takes

    fixed + B / N * each + gradients + 8 * moments

gradients: a ring all-reduce of the fused vector, 2 (N - 1) hops that carry 1/N of it each.
moments: the same for the moments of a normalisation, or their gradients; the hops are all that
counts. Nothing overlaps, as in the program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

FUSED = 4 * (3_345_162 + 4)  # bytes
MOMENTS = 16 * 1024  # bytes, of the larger two of four normalisations
GFLOP_AN_IMAGE = 0.3396  # a training step's, benchmarks/loops.py


class Computer(NamedTuple):
    """What computes: seconds a step, and seconds an image."""

    name: str
    fixed: float
    each: float


class Link(NamedTuple):
    """What connects: bytes a second in one direction, and seconds a hop."""

    name: str
    rate: float
    hop: float


# Measured: docs/performance.md, default loop: 8 ms and 1.95 ms an image.
CPU = Computer("2 cores, measured", 8e-3, 1.95e-3)
# Measured on an H200 with --fast: 3.8 ms for 20 images, nearly all of it launching kernels.
# Assumed: 30% of 67 TFLOPS, the published float32 rate.
GPU = Computer("a GPU", 3.5e-3, GFLOP_AN_IMAGE * 1e9 / (0.3 * 67e12))
# Published, per direction: NVLink 4, 450 GB/s (NVIDIA H100 data sheet: 900 GB/s both ways);
# PCIe 4.0 x16, 31.5 GB/s (PCI-SIG: 16 GT/s, 128b/130b); Ethernet (IEEE 802.3). Assumed: the hops.
NVLINK = Link("NVLink 4", 450e9, 3e-6)
PCIE = Link("PCIe 4.0 x16", 31.5e9, 10e-6)
NCCL_100G = Link("100 GbE, NCCL", 12.5e9, 30e-6)


def grpc(measured: list[dict[str, float]]) -> Link:
    """100 GbE through gRPC: not faster than loopback was here."""
    two = {row["vector"]: 1e-3 * row["ms"] for row in measured if row["workers"] == 2}
    hop = two["nothing"] / 2
    bulk = max(time for name, time in two.items() if name != "nothing")
    return Link("100 GbE, gRPC as on loopback", min(12.5e9, FUSED / (bulk - 2 * hop)), hop)


def step(computer: Computer, link: Link, replicas: int, batch: int) -> tuple[float, float]:
    """Seconds a step computes and communicates."""
    hops = 2 * (replicas - 1)
    ring = (FUSED + 8 * MOMENTS) / replicas * hops / link.rate
    return computer.fixed + batch / replicas * computer.each, ring + 9 * hops * link.hop


def best(computer: Computer, link: Link, batch: int) -> int:
    """The number of replicas, a power of two, with the shortest step."""
    counts = [2**n for n in range(13) if 2**n <= batch]
    return min(counts, key=lambda replicas: sum(step(computer, link, replicas, batch)))


def main() -> None:
    """Prints the tables."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "allreduce.json")
    loopback = grpc(json.loads(path.read_text())["all-reduce"])
    print(
        f"gRPC, from the measurements: {loopback.rate / 1e9:.2f} GB/s, {1e6 * loopback.hop:.0f} µs"
    )
    cases = [
        (GPU, NVLINK, 8), (GPU, PCIE, 8), (GPU, NCCL_100G, 64), (CPU, loopback, 64),
    ]  # fmt: skip
    print(
        "\n| replicas | link | global batch | ms computing | ms in the network | speed-up | best |"
    )
    print("|---|---|---|---|---|---|---|")
    for computer, link, replicas in cases:
        for batch in (20, 1_024, 8_192):
            count = replicas
            while batch % count:
                count //= 2
            computing, network = step(computer, link, count, batch)
            alone = computer.fixed + batch * computer.each
            print(
                f"| {count} x {computer.name} | {link.name} | {batch:,} | {1e3 * computing:.2f} | "
                f"{1e3 * network:.2f} | {alone / (computing + network):.1f} | "
                f"{best(computer, link, batch)} |"
            )


if __name__ == "__main__":
    main()
