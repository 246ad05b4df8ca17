"""Steps laid out for less memory, and in bfloat16: real trainings of a small network."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import subprocess
import sys
import warnings
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from jax import numpy as jnp

from scalesearch.data.feed import prepare
from scalesearch.data.splits import Splits, load_splits
from scalesearch.models.network import Network
from scalesearch.models.ops.select import named, select
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.cost.count import complexity
from scalesearch.scaling.growth import training_memory
from scalesearch.scaling.stage import make_stage
from scalesearch.study.load import default_study_path, load_study
from scalesearch.study.sections import DataSection, RuntimeSection, Study
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import Program, compile_program, init_function
from scalesearch.training.draws import init_generator
from scalesearch.training.loop import TrainingResult, run_in_memory, train
from scalesearch.training.memory import MemoryPlan, memory_plans, release
from scalesearch.training.prefetch import Prefetcher
from scalesearch.training.prepare import Compiler
from scalesearch.training.schedule import schedule_of
from scalesearch.training.state import TrainState, layout_of, weights_of
from scalesearch.training.step import train_step

SPEC = ArchitectureSpec(
    14,
    1,
    10,
    StemSpec(8, 3, 1),
    (make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=3, width=16, depth=3, se_ratio=0.25),),
    32,
    "swish",
)
SMALL = ArchitectureSpec(
    10,
    1,
    10,
    StemSpec(8, 3, 2),
    (make_stage("mbconv", kernel_size=3, stride=2, expand_ratio=3, width=16, depth=2, se_ratio=0.25),),
    0,
    "swish",
)
TRAINING = TrainingSection(
    epochs=2,
    batch_size=32,
    optimizer="adamw",
    learning_rate=0.003,
    warmup_epochs=0.5,
    dropout=0.1,
    stochastic_depth=0.2,
    ema_decay=0.9,
)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_splits(DataSection(source="mnist-sample", train=160, validation=64, test=50))


@pytest.fixture(scope="module")
def plain(splits: Splits) -> TrainingResult:
    return run(splits)


def run(
    splits: Splits,
    seeds: tuple[int, ...] = (0, 1),
    spec: ArchitectureSpec = SPEC,
    compiler: Compiler = compile_program,
    **runtime: Any,
) -> TrainingResult:
    return train(spec, splits, TRAINING, RuntimeSection(**runtime), seeds, lambda report: None, compiler=compiler)


def compiled(splits: Splits, spec: ArchitectureSpec, plan: MemoryPlan, **changes: Any) -> Program:
    training = TRAINING.model_copy(update=changes)
    data = prepare(splits.train, splits.validation, spec.resolution, training.batch_size)
    schedule = schedule_of(training, len(splits.train))
    return compile_program(spec, select("auto", "cpu"), training, data, schedule, np.array(0, np.uint32), plan)


@pytest.fixture(scope="module")
def needed(splits: Splits) -> list[int]:
    """Bytes that the network needs in each of the first plans."""
    return [compiled(splits, SPEC, plan).bytes_needed for plan in memory_plans(TRAINING.batch_size)[:3]]


def curves(result: TrainingResult) -> list[Any]:
    return [(seed.seed, seed.train_loss, seed.val_loss_curve) for seed in result.seeds]


def test_every_plan_needs_less_than_the_one_before(needed: list[int]) -> None:
    assert needed == sorted(needed, reverse=True)
    assert needed[1] < 0.7 * needed[0]
    assert needed[2] < 0.8 * needed[1]


def test_the_estimate_without_compiling_is_of_the_right_size(needed: list[int]) -> None:
    estimate = training_memory(complexity(SPEC), TRAINING.batch_size)
    assert 0.5 < needed[0] / estimate < 1.5


def test_a_network_that_would_not_fit_computes_its_blocks_anew_for_the_same_result(
    splits: Splits, plain: TrainingResult, needed: list[int]
) -> None:
    most, less, _ = needed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tight = run(splits, memory=(most + less) / 2 / 2**30)
    for one, other in zip(curves(tight), curves(plain), strict=True):
        np.testing.assert_allclose(one[1:], other[1:], rtol=1e-4)


def test_one_that_still_does_not_fit_trains_in_parts_and_says_so(splits: Splits, plain: TrainingResult) -> None:
    with (
        pytest.warns(UserWarning, match=r"batches of 32 images trains in 16 parts, .* statistics of 2 images"),
        pytest.warns(UserWarning, match=r"needs \d+\.\d MiB even .* but only 0\.0 MiB are available: trying anyway"),
    ):
        parts = run(splits, seeds=(0,), memory=1e-6)
    (loss,) = (seed.val_loss for seed in parts.seeds)
    assert np.isfinite(loss)
    assert loss != pytest.approx(plain.seeds[0].val_loss, rel=1e-3)


def exhausted(*arguments: Any) -> Any:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


@pytest.mark.parametrize("where", ["epoch", "compiling"])
def test_memory_that_turns_out_not_to_be_there_is_done_without(
    splits: Splits, plain: TrainingResult, where: str
) -> None:
    """The device's account can be wrong: other processes, a compiler that counts for itself."""
    plans: list[MemoryPlan] = []

    def compile_too_large(*arguments: Any) -> Any:
        plans.append(arguments[6])
        program = compile_program(*arguments)
        if plans[-1] == MemoryPlan():
            return dataclasses.replace(program, epoch=exhausted) if where == "epoch" else exhausted()
        return program

    result = run(splits, compiler=compile_too_large)
    assert plans[0] == MemoryPlan()
    assert plans[-1] == MemoryPlan(remat=True)
    for one, other in zip(curves(result), curves(plain), strict=True):
        np.testing.assert_allclose(one[1:], other[1:], rtol=1e-4)


@pytest.mark.parametrize("where", ["epoch", "compiling"])
def test_a_network_that_finds_no_memory_fails_rather_than_compute_something_else(splits: Splits, where: str) -> None:
    """What others leave of the memory must not decide whether batches train in parts."""
    plans: list[MemoryPlan] = []

    def compile_too_large(*arguments: Any) -> Any:
        plans.append(arguments[6])
        return (
            exhausted() if where == "compiling" else dataclasses.replace(compile_program(*arguments), epoch=exhausted)
        )

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        run(splits, spec=SMALL, compiler=compile_too_large)
    assert plans == [MemoryPlan(), MemoryPlan(remat=True)]


def test_memory_that_python_refuses_is_done_without_as_well() -> None:
    def refuse(prepared: Any, fits: Any) -> Any:
        if prepared != "smaller":
            raise MemoryError
        return prepared

    plans: list[Any] = ["plain", "smaller"]
    assert run_in_memory(refuse, plans[0], lambda prepared: plans[1]) == "smaller"
    with pytest.raises(MemoryError):
        run_in_memory(refuse, plans[0], lambda prepared: None)


def test_memory_that_goes_in_mid_training_ends_it(splits: Splits) -> None:
    plans: list[MemoryPlan] = []

    def noting(*arguments: Any) -> Program:
        plans.append(arguments[6])
        return compile_program(*arguments)

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        train(SMALL, splits, TRAINING, RuntimeSection(), (0,), exhausted, compiler=noting)
    assert plans == [MemoryPlan()]


def test_a_prefetched_network_that_found_no_memory_is_prepared_again(splits: Splits) -> None:
    prefetcher = Prefetcher(splits, TRAINING, RuntimeSection(), compiler=exhausted)
    prefetcher.expect(SMALL, (0,))
    assert prefetcher.take(SMALL, (0,)) is None


def test_seeds_side_by_side_that_do_not_fit_train_one_after_the_other(splits: Splits, needed: list[int]) -> None:
    reports: list[tuple[int, ...]] = []
    runtime = RuntimeSection(seeds_together=True, memory=1.2 * needed[0] / 2**30)
    train(SPEC, splits, TRAINING, runtime, (0, 1), lambda report: reports.append(report.seeds))
    assert reports == [(0,), (0,), (1,), (1,)]


def test_parts_of_a_batch_add_up_to_its_step() -> None:
    """Of two equal halves each has the statistics of the whole: loss, statistics and the next weights are the same."""
    training = TRAINING.model_copy(update={"dropout": 0.0})
    operations = select("auto", "cpu")
    network = Network(SPEC, operations=operations, dropout=0.0, rng=init_generator(0))
    half = np.random.default_rng(1).normal(size=(8, 14, 14, 1)).astype(np.float32)
    images, labels = np.concatenate([half, half]), np.tile(np.arange(8, dtype=np.int32), 2)

    def step(parts: int) -> tuple[TrainState, Any]:
        init, _, _ = init_function(SPEC, training, weights_of(network))
        state = init(np.array(0, np.uint32))
        batch = (jnp.asarray(images), jnp.asarray(labels), None, jnp.float32(0.01))
        function = jax.jit(lambda state: train_step(state, *batch, training, layout_of(network), parts))
        state, loss = function(state)
        return state, loss

    (whole, loss), (halves, loss_of_parts) = step(1), step(2)
    assert float(loss) == pytest.approx(float(loss_of_parts), rel=1e-6)
    statistics = [np.asarray(state.weights.stats.vectors) for state in (whole, halves)]
    np.testing.assert_allclose(*statistics, rtol=1e-4, atol=1e-6)
    # Adam divides by the gradient's size, which makes noise of gradients that are 0
    moved = np.abs(np.asarray(whole.weights.params.kernels - halves.weights.params.kernels))
    assert np.quantile(moved, 0.98) < 1e-5


def test_what_compiling_left_is_given_back_and_compiled_programs_stay() -> None:
    traced: list[int] = []

    @jax.jit
    def function(x: Any) -> Any:
        traced.append(1)
        return x + 1

    compiled = function.lower(jnp.float32(1)).compile()
    function(jnp.float32(1))
    before = len(traced)
    release()
    assert compiled(jnp.float32(1)) == 2
    assert len(traced) == before
    assert function(jnp.float32(1)) == 2
    assert len(traced) == before + 1


FROM_THREADS = """
import ctypes, os, sys, tempfile, threading
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # where glibc has eight arenas, a tuned process one
from pathlib import Path
from scalesearch.runtime import allocator
if sys.argv[1] == "tuned":
    allocator.tune()
glibc = ctypes.CDLL(None)
glibc.malloc.restype, glibc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
glibc.fopen.restype, glibc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
glibc.malloc_info.argtypes, glibc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
barrier = threading.Barrier(40)

def allocate():
    glibc.malloc(2000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
large = glibc.malloc(2**24)  # once one is freed, glibc takes blocks up to that size from its heap
glibc.free(ctypes.c_void_p(large))
glibc.malloc(2**21)
with tempfile.NamedTemporaryFile() as file:
    stream = glibc.fopen(file.name.encode(), b"w")
    glibc.malloc_info(0, stream)
    glibc.fclose(stream)
    state = Path(file.name).read_text()
print(state.count("<heap nr="), state.split('<total type="mmap" count="')[1].split('"')[0])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the allocator is not glibc's")
def test_threads_share_a_few_arenas_and_large_blocks_are_memory_of_their_own() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    arenas, blocks = {}, {}
    for how in ("tuned", "plain"):
        command = [sys.executable, "-c", FROM_THREADS, how]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        arenas[how], blocks[how] = map(int, done.stdout.split())
    assert arenas["tuned"] == 1 < arenas["plain"]
    assert blocks["tuned"] == blocks["plain"] + 1


def test_bfloat16_computes_in_half_the_bits_and_keeps_its_variables_in_all(splits: Splits) -> None:
    """Training goes on as in float32 to the 8 bits of a product; what is kept is float32."""
    result = {}
    for precision in ("float32", "bfloat16"):
        training = TRAINING.model_copy(update={"precision": precision, "dropout": 0.0})
        result[precision] = train(SMALL, splits, training, RuntimeSection(), (0,), lambda report: None).seeds[0]
    assert result["bfloat16"].train_loss != result["float32"].train_loss
    np.testing.assert_allclose(result["bfloat16"].val_loss_curve, result["float32"].val_loss_curve, rtol=0.03)
    program = compiled(splits, SMALL, MemoryPlan(), precision="bfloat16")
    state = program.init(np.array(0, np.uint32))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.weights)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["shift", "native"])
def test_bfloat16_maps_float32_statistics_and_logits(name: Any) -> None:
    network = Network(SPEC, operations=named(name), dropout=0.0, rng=init_generator(0), precision="bfloat16")
    images = jnp.ones((4, 14, 14, 1))
    graphdef, state = nnx.split(network)
    traced = jax.make_jaxpr(lambda images: nnx.merge(graphdef, state)(images, train=True))(images)
    assert traced.out_avals[0].dtype == jnp.float32
    assert "bf16[4,14,14,8]" in str(traced)


def test_studies_from_before_bfloat16_go_on(splits: Splits) -> None:
    del splits
    study = load_study(default_study_path())
    assert "training.precision" not in study.identity()
    changed = study.model_copy(update={"training": study.training.model_copy(update={"precision": "bfloat16"})})
    assert isinstance(changed, Study)
    assert changed.identity()["training.precision"] == "bfloat16"
