"""The peer: a network and its training step in plain PyTorch, as a user would write it.

    peer_torch.py SPEC.json [--batch 128] [--steps 20] [--threads 2] [--compile] [--device cpu|cuda]

Prints one JSON line as `train_step.py` does, with the same optimiser and loss. Channels-last everywhere; on a GPU
bfloat16 by autocast. `peer_search.py` trains the same networks. Needs torch (`pip install torch`), which is no
dependency of the package.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

try:
    import torch
except ImportError:
    print("skipped: this benchmark needs torch")
    raise SystemExit(0) from None
from torch import nn
from torch.nn import functional

from scalesearch.models.ops.base import EPSILON
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.scaling.stage import StageSpec
from scalesearch.study.documents import spec_from_json

BLOCK = 5
"""Steps that are timed together: a GPU is waited for at the end of them alone."""


class SqueezeExcite(nn.Module):
    """Channel gates from the maps' means."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The maps, each channel times its gate."""
        return x * torch.sigmoid(self.expand(functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))))


class MBConv(nn.Module):
    """The inverted residual block of EfficientNet."""

    def __init__(self, stage: StageSpec, width_in: int, stride: int) -> None:
        super().__init__()
        inner, k = width_in * stage.expand_ratio, stage.kernel_size
        layers: list[nn.Module] = [] if inner == width_in else [*_convolution(width_in, inner, 1, 1), nn.SiLU()]
        layers += [*_convolution(inner, inner, k, stride, groups=inner), nn.SiLU()]
        if stage.se_ratio:
            layers.append(SqueezeExcite(inner, max(1, int(width_in * stage.se_ratio))))
        self.body = nn.Sequential(*layers, *_convolution(inner, stage.width, 1, 1))
        self.skip = stride == 1 and width_in == stage.width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of the stage's width."""
        y: torch.Tensor = self.body(x)
        return x + y if self.skip else y


def _convolution(width_in: int, width_out: int, k: int, stride: int, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(width_in, width_out, k, stride, k // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width_out, eps=EPSILON)


def build(spec: ArchitectureSpec) -> nn.Sequential:
    """The network of `spec` with the initial distribution that ours has."""
    if any(stage.block != "mbconv" for stage in spec.stages) or spec.activation != "swish" or spec.stem.pool_stride > 1:
        raise SystemExit("the peer knows networks of mbconv blocks with swish alone")
    width = spec.stem.width
    layers: list[nn.Module] = [
        *_convolution(spec.in_channels, width, spec.stem.kernel_size, spec.stem.stride),
        nn.SiLU(),
    ]
    for stage in spec.stages:
        for place in range(stage.depth):
            layers.append(MBConv(stage, width, stage.stride if place == 0 else 1))
            width = stage.width
    if spec.head_width:
        layers += [*_convolution(width, spec.head_width, 1, 1), nn.SiLU()]
        width = spec.head_width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, spec.num_classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * math.prod(module.kernel_size) // module.groups
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        elif isinstance(module, nn.Linear):
            bound = spec.num_classes**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="a few steps of the default study's baseline")
    arguments = parser.parse_args()
    if arguments.quick:
        from scalesearch.study.load import default_study_path, load_study

        spec, arguments.steps = load_study(default_study_path()).resolved_baseline().spec, 5
    elif arguments.spec is None:
        parser.error("SPEC.json is missing")
    else:
        document = json.loads(arguments.spec.read_text(encoding="utf-8"))
        spec = spec_from_json(document.get("spec", document))
    torch.set_num_threads(arguments.threads)
    print(json.dumps(measure(spec, arguments)))


def measure(spec: ArchitectureSpec, arguments: argparse.Namespace) -> dict[str, object]:
    """The figures of one network: the median of blocks of steps, the first block left out."""
    device = torch.device(arguments.device)
    torch.backends.cudnn.benchmark = True
    network = build(spec).to(device, memory_format=torch.channels_last).train()
    shape = (arguments.batch, spec.in_channels, spec.resolution, spec.resolution)
    images = torch.randn(shape, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(spec.num_classes, (arguments.batch,), device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    forward = torch.compile(network) if arguments.compile else network

    def seconds_of(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = functional.cross_entropy(forward(images), labels, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = seconds_of(1)
    seconds_of(BLOCK - 1)
    step = statistics.median(seconds_of(BLOCK) / BLOCK for _ in range(max(arguments.steps // BLOCK, 1)))
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "compiled": arguments.compile,
        "batch": arguments.batch,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "compile_s": round(first, 2),
        "step_s": step,
        "images_per_s": arguments.batch / step,
    }


if __name__ == "__main__":
    main()
