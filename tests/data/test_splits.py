from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.sources import Source
from scalesearch.data.splits import DataError, Split, Splits, load_splits, split_source
from scalesearch.study.sections import DataSection


def numbered(count: int, first: int = 0) -> Split:
    """Images whose four pixels spell their own number, so that a split can be read off them."""
    numbers = np.arange(first, first + count)
    images = np.zeros((count, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers // 256, numbers % 256
    return Split(images, (numbers % 7).astype(np.int32))


def numbers(split: Split) -> list[int]:
    return (split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]).tolist()


def section(**changes: Any) -> DataSection:
    return DataSection(**{"source": "mnist-sample", "validation": 60, "test": 40, "split_seed": 3, **changes})


def split(source: Source | None = None, **changes: Any) -> Splits:
    return split_source(source or Source(numbered(300), None, None), section(**changes))


def test_splits_are_disjoint_and_keep_each_label_with_its_image() -> None:
    splits = split()
    parts = [numbers(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [200, 60, 40]
    assert sorted(number for part in parts for number in part) == list(range(300))
    for part in (splits.train, splits.validation, splits.test):
        np.testing.assert_array_equal(part.labels, np.array(numbers(part)) % 7)
    assert (splits.num_classes, splits.native_resolution, splits.in_channels) == (7, 2, 1)


def test_more_training_images_change_nothing_else() -> None:
    small, large = split(train=50), split()
    assert numbers(small.train) == numbers(large.train)[:50]
    assert numbers(small.validation) == numbers(large.validation)
    assert numbers(small.test) == numbers(large.test)


def test_permutation_is_frozen() -> None:
    # from PCG64's raw output, which numpy promises never to change; another value here makes every
    # recorded digest worthless
    assert numbers(split().test)[:8] == [186, 20, 166, 258, 225, 104, 280, 202]
    assert split().digest == "6d41831737381a18e554f5f8d96e5bf91ab5707f3ec257b7c6ec1097a74a3079"


def test_digest_is_stable_and_sees_every_change() -> None:
    assert split().digest == split().digest
    pool = numbered(300)
    images, labels = pool.images.copy(), pool.labels.copy()
    images[17, 1, 1, 0] = 1
    labels[17] += 1
    changed = {
        "seed": split(split_seed=4),
        "train": split(train=199),
        "validation": split(validation=61),
        "test": split(test=41),
        "pixel": split(Source(Split(images, pool.labels), None, None)),
        "label": split(Source(Split(pool.images, labels), None, None)),
    }
    assert len({split().digest, *(each.digest for each in changed.values())}) == 1 + len(changed)


def test_own_test_set_is_kept() -> None:
    splits = split(Source(numbered(300), None, numbered(50, first=1000)), test=0)
    assert sorted(numbers(splits.test)) == list(range(1000, 1050))
    assert len(splits.train) == 240
    short = split(Source(numbered(300), None, numbered(50, first=1000)), test=20)
    assert numbers(short.test) == numbers(splits.test)[:20]
    assert numbers(short.train) == numbers(splits.train)


def test_own_validation_set_is_kept() -> None:
    splits = split(Source(numbered(300), numbered(80, first=1000), None))
    assert min(numbers(splits.validation)) >= 1000
    assert len(splits.validation) == 60
    assert len(splits.train) == 260


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 261}, "`validation` asks for 261 images, but 260 are left for it"),
        ({"test": 301}, "`test` asks for 301 images, but 300"),
        ({"train": 201}, "`train` asks for 201 images, but 200"),
        ({"validation": 260}, "training needs images, but validation and test take all 300"),
    ],
)
def test_more_than_there_is(changes: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(**changes)


def test_sets_of_different_shapes() -> None:
    other = dataclasses.replace(numbered(50), images=np.zeros((50, 3, 3, 1), np.uint8))
    with pytest.raises(DataError, match="all images must have one shape"):
        split(Source(numbered(300), None, other))


def test_uneven_classes_are_split_in_proportion_and_even_ones_by_the_permutation_alone() -> None:
    pool = numbered(300)
    labels = np.where(np.arange(300) < 240, 0, np.where(np.arange(300) < 290, 1, 2)).astype(np.int32)
    splits = split(Source(Split(pool.images, labels), None, None), test=0, validation=60)
    assert np.bincount(splits.validation.labels).tolist() == [48, 10, 2]
    assert np.bincount(splits.train.labels).tolist() == [192, 40, 8]
    assert splits.uneven
    assert not split().uneven
    frozen = [186, 20, 258, 166, 225, 104, 202, 28]
    assert numbers(splits.validation)[:8] == frozen  # as above: another order makes every recorded digest worthless


def test_validation_is_a_fifth_unless_the_study_or_the_source_says_otherwise() -> None:
    assert len(split(validation=0, test=0).validation) == 60
    assert len(split(Source(numbered(300), numbered(80, first=1000), None), validation=0).validation) == 80


def test_a_test_set_from_elsewhere_is_named_later_without_another_digest(tmp_path: Path) -> None:
    def written(name: str, images: np.ndarray, labels: list[str]) -> str:
        np.savez(tmp_path / f"{name}.npz", train_images=images, train_labels=np.array(labels))
        return f"npz:{tmp_path / name}.npz"

    images = numbered(40).images
    searched = section(source=written("search", images, ["a", "b", "c", "d"] * 10), validation=10, test=0)
    without = load_splits(searched)
    later = searched.model_copy(update={"test_source": written("test", images[:3], ["d", "b", "d"])})
    with_test = load_splits(later)
    assert with_test.test.labels.tolist() == [3, 1, 3]  # by the names of the classes
    assert with_test.digest == without.digest == without.test_digest != with_test.test_digest
    numbers_alone = section(source=f"npz:{tmp_path / 'numbers.npz'}", validation=10, test=0)
    np.savez(tmp_path / "numbers.npz", train_images=images, train_labels=np.arange(40) % 3)
    np.savez(tmp_path / "few.npz", train_images=images[:3], train_labels=np.array([1, 2, 1]))
    few = numbers_alone.model_copy(update={"test_source": f"npz:{tmp_path / 'few.npz'}"})
    assert load_splits(few).test.labels.tolist() == [1, 2, 1]  # not renumbered
    for name, changed, labels, message in (
        ("unknown", images[:2], ["a", "z"], "classes must be among those of .*search.npz, but 'z' is not"),
        ("large", np.zeros((2, 3, 3, 1), np.uint8), ["a", "b"], r"must have the shape \(2, 2, 1\) .*have \(3, 3, 1\)"),
    ):
        wrong = searched.model_copy(update={"test_source": written(name, changed, labels)})
        with pytest.raises(DataError, match=message):
            load_splits(wrong)
