"""Facts of made-up machines."""

from alexnet_tf1.system import gpu

RIGHT = gpu.Facts(
    present=True,
    seen=1,
    visible=None,
    tensorflow="2.21.0",
    cuda="12.5.1",
    cudnn="9",
    driver=gpu.Driver((12, 8)),
    missing=(),
    in_packages=True,
)
