"""Mixtures of images and labels, and trainings with every augmentation."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scalesearch.data.splits import load_splits
from scalesearch.models.network import Network
from scalesearch.models.ops.native import NativeOperations
from scalesearch.scaling.architecture import ArchitectureSpec, StemSpec
from scalesearch.scaling.stage import make_stage
from scalesearch.study.sections import DataSection, RuntimeSection
from scalesearch.study.training import TrainingSection
from scalesearch.training.compile import init_function
from scalesearch.training.loop import train
from scalesearch.training.mix import MixedLabels, label_loss, mix
from scalesearch.training.state import TrainState, layout_of, weights_of
from scalesearch.training.step import train_step

RNG = np.random.default_rng(5)
IMAGES = jnp.asarray(RNG.uniform(0, 255, (3, 8, 8, 2)).astype(np.float32))
LABELS = jnp.array([2, 0, 1])
LOGITS = jnp.asarray(RNG.normal(size=(3, 4)).astype(np.float32))
OPERATIONS = NativeOperations()


@jax.jit
def mixed(
    images: jax.Array, labels: jax.Array, blend: jax.Array | None, box: jax.Array | None
) -> tuple[jax.Array, MixedLabels]:
    """Mixed with the next image, as in an epoch."""
    return mix((images, labels), (jnp.roll(images, -1, axis=0), jnp.roll(labels, -1)), blend, box)


loss_of = jax.jit(partial(label_loss, OPERATIONS, smoothing=0.1))


def test_without_weight_of_the_next_image_it_is_the_plain_loss() -> None:
    images, labels = mixed(IMAGES, LABELS, jnp.zeros(3), jnp.full((3, 4), 0.3))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(loss_of(LOGITS, labels), loss_of(LOGITS, LABELS))


def test_a_mixed_loss_is_that_of_mixed_label_probabilities() -> None:
    weight = jnp.array([0.0, 0.3, 1.0])
    _, labels = mixed(IMAGES, LABELS, weight, None)
    np.testing.assert_array_equal(labels.partners, [0, 1, 2])
    one, next_one = jax.nn.one_hot(LABELS, 4), jax.nn.one_hot(labels.partners, 4)
    target = (1 - weight)[:, None] * one + weight[:, None] * next_one
    expected = optax.softmax_cross_entropy(LOGITS, 0.9 * target + 0.1 / 4)
    np.testing.assert_allclose(loss_of(LOGITS, labels), expected, rtol=1e-5)  # float32


def test_mixup_adds_the_next_image() -> None:
    weight = np.array([0.0, 0.25, 1.0], np.float32)
    images, _ = mixed(IMAGES, LABELS, jnp.asarray(weight), None)
    share = weight[:, None, None, None]
    expected = (1 - share) * IMAGES + share * np.roll(IMAGES, -1, 0)
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-4)  # float32 of grey levels up to 255


def test_cutmix_cuts_whole_pixels_out_of_the_next_image() -> None:
    box = jnp.array([[0.25, 0.0, 0.75, 0.5], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]])
    images, labels = mixed(IMAGES, LABELS, None, box)
    expected = np.array(IMAGES)
    expected[0, 2:6, :4] = IMAGES[1, 2:6, :4]
    expected[1] = IMAGES[2]
    np.testing.assert_allclose(images, expected, atol=1e-4)
    np.testing.assert_allclose(labels.weight, [0.25, 1, 0])


@pytest.mark.parametrize("size", [5, 8])
def test_the_weight_is_the_part_of_the_image_that_the_box_covers(size: int) -> None:
    """At every resolution, whose pixels the box cuts anywhere."""
    pictures = np.zeros((2, size, size, 1), np.float32)
    pictures[1] = 1
    images, labels = mixed(
        jnp.asarray(pictures), jnp.array([0, 1]), None, jnp.tile(jnp.array([0.13, 0.4, 0.9, 0.77]), (2, 1))
    )
    assert float(images[0].mean()) == pytest.approx(float(labels.weight[0]), rel=1e-5)
    assert float(labels.weight[0]) == pytest.approx(0.77 * 0.37, rel=1e-5)


SPEC = ArchitectureSpec(
    8,
    1,
    10,
    StemSpec(4, 3, 2),
    (make_stage("basic", kernel_size=3, stride=2, expand_ratio=1, width=4, depth=1),),
    0,
    "relu",
)
TRAINING = TrainingSection(
    epochs=2,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.05,
    warmup_epochs=0.5,
    label_smoothing=0.1,
    shift=0.1,
    flip=True,
    crop=0.4,
    color_jitter=0.4,
    rand_augment=2,
    mixup=0.4,
    cutmix=1.0,
)


@pytest.mark.long
def test_seeds_side_by_side_train_with_every_augmentation_as_alone() -> None:
    splits = load_splits(DataSection(source="mnist-sample", train=64, validation=32, test=50))

    def losses(*, together: bool) -> list[tuple[float, ...]]:
        runtime = RuntimeSection(convolutions="kernels", seeds_together=together)
        result = train(SPEC, splits, TRAINING, runtime, (0, 1), lambda report: None)
        return [seed.train_loss + seed.val_loss_curve for seed in result.seeds]

    alone, together = losses(together=False), losses(together=True)
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(alone, together, rtol=1e-4)  # sums in another order


def test_parts_of_a_batch_of_mixtures_add_up_to_its_step() -> None:
    """Each half of the batch has the images, the labels and so the statistics of the other."""
    training = TRAINING.model_copy(update={"momentum": 0.0})
    network = Network(SPEC, operations=OPERATIONS, dropout=0.0, rng=np.random.default_rng(0))
    init, _, _ = init_function(SPEC, training, weights_of(network))
    half = RNG.normal(size=(4, 8, 8, 1)).astype(np.float32)
    labels = MixedLabels(*(jnp.tile(jnp.array(each), 2) for each in ([0, 1, 2, 3], [4, 5, 6, 7], [0.1, 0.9, 0.5, 0.0])))

    def step(parts: int) -> tuple[TrainState, jax.Array]:
        batch = (jnp.concatenate([half, half]), labels, None, jnp.float32(0.1))
        function = partial(train_step, training=training, layout=layout_of(network), micro_batches=parts)
        state: TrainState = init(np.uint32(0))
        return jax.jit(function)(state, *batch)

    (whole, loss), (halves, loss_of_parts) = step(1), step(2)
    assert float(loss) == pytest.approx(float(loss_of_parts), rel=1e-6)
    for one, two in zip(jax.tree.leaves(whole.weights), jax.tree.leaves(halves.weights), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)  # sums in another order
