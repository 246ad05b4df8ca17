"""What XLA makes of an epoch for a GPU that is not at hand: `pip install "jax[cuda13]"`, then this; no GPU is needed.

    gpu_offline.py [--devices H100 A100 L4] [--networks all | baseline candidate-0 efficientnet-b0] [--seeds 1 8]
                   [--fusion]

One JSON line for each: seconds of compiling on this machine, the memory of the program, and what a step launches: GPU
kernels of XLA, ours, and matrix products of cuBLAS. `products_of_parts` are those that XLA hands a part of a larger
array where it lies, which cuBLAS refuses if that begins at no multiple of 16 bytes: the exit code is 1 where there are
any. XLA's dynamic-slice fusion makes them, which the package turns off; `--fusion` turns it on. Without a device XLA
tries no products out, and the time of a step is not to be had.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import sys
import time
from concurrent.futures import wait
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # CUDA's plugin would look for a device

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AbstractDevice

from scalesearch.baselines.published import baseline
from scalesearch.data.feed import prepare
from scalesearch.data.sources import Split
from scalesearch.models.network import Network
from scalesearch.models.ops.select import named
from scalesearch.runtime.programs import compile_options
from scalesearch.scaling.architecture import ArchitectureSpec
from scalesearch.search.plan.design import make_plan
from scalesearch.study.load import default_study_path, load_study
from scalesearch.training.compile import init_function, jitted_functions
from scalesearch.training.draws import draws_of_epoch, init_generator
from scalesearch.training.memory import bytes_needed
from scalesearch.training.schedule import schedule_of
from scalesearch.training.state import weights_of

STUDY = load_study(default_study_path())
STEPS = 4
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)\n\}", re.MULTILINE | re.DOTALL)
OPERATION = re.compile(r"\s*(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(")
NO_LAUNCH = ("bitcast", "constant", "get-tuple-element", "parameter", "tuple")
# Compute capability, multiprocessors, GiB, KiB of shared memory of a multiprocessor and of a block, bytes a second, MiB
# of cache, threads and units of a multiprocessor: NVIDIA's figures.
DEVICES = {
    "H100": (9, 0, 132, 80, 228, 227, 3.35e12, 50, 2048, 128),
    "A100": (8, 0, 108, 40, 164, 163, 1.56e12, 40, 2048, 64),
    "L4": (8, 9, 58, 24, 100, 99, 3.0e11, 48, 1536, 128),
}
DESCRIPTION = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: {threads} core_count: {cores}
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_by_block}
  fpus_per_core: {units} block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} clock_rate_ghz: 1.7 device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  device_vendor: "NVIDIA Corporation" name: "NVIDIA {name}" device_address_bits: 64
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.12.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 }}
runtime_version {{ major: 13 }}
device_description_str: "NVIDIA {name}"
"""


def main() -> int:
    """Compile and print."""
    specs = {
        "baseline": STUDY.resolved_baseline().spec,
        "efficientnet-b0": baseline("efficientnet-b0").spec,
    }
    candidates = [trial.candidate.spec for trial in make_plan(STUDY).distinct]
    specs |= {f"candidate-{place}": spec for place, spec in enumerate(candidates)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=["H100"])
    parser.add_argument("--networks", nargs="+", choices=[*specs, "all"], default=["baseline", "candidate-0"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 8], help="networks that train side by side")
    parser.add_argument("--fusion", action="store_true", help="with XLA's dynamic-slice fusion")
    arguments = parser.parse_args()
    parts = 0
    for name in arguments.devices:
        device = described(name)
        for network in specs if "all" in arguments.networks else arguments.networks:
            for seeds in arguments.seeds:
                precision = "bfloat16" if network == "efficientnet-b0" else "float32"
                found = compiled(specs[network], device, seeds, precision, arguments.fusion)
                which = {"device": name, "network": network, "seeds": seeds, "fusion": arguments.fusion}
                print(json.dumps({**which, **found}), flush=True)
                parts += found["products_of_parts"]
    return int(parts > 0)


def described(name: str) -> jax.Device:
    """A device that exists as its description alone; jax is told that it computes there."""
    major, minor, cores, memory, shared, by_block, bandwidth, cache, threads, units = DEVICES[name]
    text = DESCRIPTION.format(
        name=name,
        major=major,
        minor=minor,
        cores=cores,
        memory=int(memory * 2**30),
        shared=shared * 1024,
        shared_by_block=by_block * 1024,
        bandwidth=int(bandwidth),
        cache=cache * 2**20,
        threads=threads,
        units=units,
    )
    try:
        topology = topologies.get_topology_desc(name, platform="cuda", target_config=text, topology="1x1x1")
    except NotImplementedError:  # jax's answer where no plugin for CUDA is installed
        sys.exit('jax has no compiler for a GPU here: pip install "jax[cuda13]" (or cuda12) brings it')
    jax.default_backend = lambda: "gpu"
    (device,) = topology.devices
    return device


def compiled(spec: ArchitectureSpec, device: jax.Device, seeds: int, precision: Any, fusion: bool) -> dict[str, Any]:
    """The epoch of one network."""
    batch = STUDY.training.batch_size
    training = STUDY.training.model_copy(update={"precision": precision, "batch_size": batch})
    shape = (STEPS * batch, spec.resolution, spec.resolution, spec.in_channels)
    split = Split(np.zeros(shape, np.uint8), np.zeros(shape[0], np.int32))
    data = prepare(split, Split(split.images[:batch], split.labels[:batch]), spec.resolution, batch)
    seed = np.array(0, np.uint32) if seeds == 1 else np.arange(seeds, dtype=np.uint32)
    operations = named("pallas")
    network = Network(spec, operations=operations, dropout=training.dropout, rng=init_generator(0), precision=precision)
    _, begin, state = init_function(spec, training, weights_of(network), seed.shape)
    wait([begin])  # compiled here in a thread
    epoch, _ = jitted_functions(network, training, together=seeds > 1)
    draws = draws_of_epoch(seed, 0, training, images=len(split))
    takes = (state, data, draws, schedule_of(training, len(split)))
    there = jax.sharding.SingleDeviceSharding(device)
    placed = jax.tree.map(lambda each: jax.ShapeDtypeStruct(np.shape(each), each.dtype, sharding=there), takes)
    kind = AbstractDevice(device_kind=device.device_kind, num_cores=None, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=kind)):
        lowered = epoch.lower(*placed)
    start = time.perf_counter()
    options = {**compile_options("gpu", quick=False), "xla_gpu_autotune_level": "0"}
    if fusion:
        options["xla_gpu_enable_dynamic_slice_fusion"] = True
    program = lowered.compile(compiler_options=options)
    seconds = time.perf_counter() - start
    return {
        "jax": jax.__version__,
        "compile_s": round(seconds, 1),
        "memory_mib": round(bytes_needed(program) / 2**20, 1),
        **launches(program.as_text()),
    }


def launches(program: str) -> dict[str, int]:
    """What a step of a compiled epoch launches; what is in loops counts as often as it runs."""
    bodies = {name: body.splitlines() for name, body in COMPUTATION.findall(program)}

    def launched(computation: str) -> collections.Counter[str]:
        counts: collections.Counter[str] = collections.Counter()
        for line in bodies[computation]:
            operation = OPERATION.match(line)[1]
            inside = bodies.get(callee("calls", line), []) if operation == "fusion" else []
            if operation == "while":
                times = int(re.search(r'"known_trip_count":\{"n":"(\d+)', line)[1])
                counts.update({kind: times * count for kind, count in launched(callee("body", line)).items()})
            elif "__cublas" in line or any("__cublas" in one for one in inside):
                counts["products"] += 1
                counts["products_of_parts"] += bool(inside)
            elif "xla.gpu.triton" in line:
                counts["own_kernels"] += 1
            elif operation not in NO_LAUNCH:
                counts["xla_kernels"] += 1
        return counts

    entry = bodies[re.search(r"^ENTRY %?([\w.\-]+) ", program, re.MULTILINE)[1]]
    (steps,) = (line for line in entry if " while(" in line)
    counts = launched(callee("body", steps))
    return {kind: counts[kind] for kind in ("xla_kernels", "own_kernels", "products", "products_of_parts")}


def callee(what: str, line: str) -> str:
    """The computation that an instruction calls."""
    found = re.search(rf"{what}=%?([\w.\-]+)", line)
    return found[1] if found else ""


if __name__ == "__main__":
    sys.exit(main())
