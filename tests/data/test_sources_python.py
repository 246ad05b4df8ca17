from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scalesearch.data.pictures import decoded
from scalesearch.data.sources import DataError, Pictures, Source, read_source
from scalesearch.study.load import load_study, located_source
from scalesearch.study.sections import DataSection

HOW_TO = Path(__file__).parents[2] / "docs/how-to/use_your_data.md"
HEAD = """
import numpy as np
from PIL import Image
images = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
labels = [1, 0, 1, 1, 0]
class Set:
    def __init__(self, *items):
        self.items = items
    def __len__(self):
        return len(self.items)
    def __getitem__(self, place):
        return self.items[place]
"""


def at_resolution(images: Pictures, resolution: int) -> np.ndarray:
    places = range(len(images))
    return np.stack([decoded(images.open(place), images.channels, resolution, images.fit) for place in places])


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A name that no other test uses: Python imports a module once."""
    return re.sub(r"\W", "_", f"data_{tmp_path}")


def read(folder: Path, module: str, body: str, **settings: Any) -> Source:
    lines = "\n    ".join(body.splitlines())
    (folder / f"{module}.py").write_text(f"{HEAD}\ndef load():\n    {lines}\n", encoding="utf-8")
    source = located_source(f"{module}:load", [folder])
    assert source == f"python:{folder}/{module}:load"
    return read_source(DataSection(source=source, **settings))


def test_the_example_of_the_how_to(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "spots.py").write_text(code, encoding="utf-8")
    study = tmp_path / "study.toml"
    text = Path("studies/mnist_sample.toml").read_text(encoding="utf-8")
    text = re.sub(r"\[data\]\n(.+\n)+", '[data]\nsource = "spots:load"\n', text)
    study.write_text(text, encoding="utf-8")
    source = read_source(load_study(study).data)
    assert (len(source.train), source.validation and len(source.validation)) == (400, 100)
    assert source.classes == ("one", "two")
    images = source.train.images
    assert isinstance(images, Pictures)
    assert (images.channels, images.sizes[0].tolist()) == (1, [30, 40])
    bright = (at_resolution(images, 30)[:100] > 150).sum((1, 2, 3))
    two = source.train.labels[:100] == 1
    assert 1.5 < bright[two].mean() / bright[~two].mean() < 2.5


@pytest.mark.parametrize(
    ("body", "sizes", "classes"),
    [
        ("return images, labels", [5, 0, 0], ()),
        ("return [images.tolist(), ['b', 'a', 'b', 'b', 'a']]", [5, 0, 0], ("a", "b")),
        ("return (images, labels), None, (images[:2], labels[:2])", [5, 0, 2], ()),
        ("return {'train': (images, labels), 'val': (images[:2], labels[:2])}", [5, 2, 0], ()),
        ("return {'train': (images, labels), 'test': None, 'classes': ['cat', 'dog']}", [5, 0, 0], ("cat", "dog")),
        ("return images / 255, np.eye(2)[labels]", [5, 0, 0], ()),
    ],
)
def test_arrays(
    tmp_path: Path, module: str, capsys: pytest.CaptureFixture[str], body: str, sizes: list[int], classes: Any
) -> None:
    source = read(tmp_path, module, f"print('said')\n{body}")
    assert [len(split) if split else 0 for split in (source.train, source.validation, source.test)] == sizes
    np.testing.assert_array_equal(source.train.images.reshape(-1), np.arange(80))
    assert source.train.labels.tolist() == [1, 0, 1, 1, 0]
    assert source.classes == classes
    assert capsys.readouterr() == ("", "said\n")  # stdout belongs to the command


def test_items_of_any_size_and_kind(tmp_path: Path, module: str) -> None:
    body = """
return {
    "train": Set(
        (images[0], 0), (Image.new("RGB", (8, 6), "red"), np.int64(1)), (images[1, :3] > 0, np.array([2])),
        (np.full((4, 4), 65535, np.uint16), 0), (np.zeros((5, 7, 3), np.uint8), 1),
    ),
    "test": Set((images[2], 2)),
}"""
    source = read(tmp_path, module, body.strip())
    images = source.train.images
    assert isinstance(images, Pictures)
    assert images.channels == 3
    assert images.sizes.tolist() == [[4, 4], [6, 8], [3, 4], [4, 4], [5, 7]]
    assert at_resolution(images, 1).reshape(5, 3).tolist() == [[8] * 3, [255, 0, 0], [255] * 3, [255] * 3, [0] * 3]
    assert source.train.labels.tolist() == [0, 1, 2, 0, 1]
    assert len(np.unique(images.hashes, axis=0)) == 5
    again = read_source(DataSection(source=f"python:{tmp_path}/{module}:load")).train.images
    assert isinstance(again, Pictures)
    np.testing.assert_array_equal(images.hashes, again.hashes)


def test_items_with_channels_first(tmp_path: Path, module: str) -> None:
    body = "return Set((np.zeros((3, 4, 6), np.uint8), 0), (np.zeros((3, 4, 6), np.uint8), 1))"
    with pytest.raises(
        DataError, match=r"item 0: .* but got uint8 \(3, 4, 6\); if channels come first, set `channels_"
    ):
        read(tmp_path, module, body)
    images = read(tmp_path, module, body, channels_first=True).train.images
    assert isinstance(images, Pictures)
    assert images.sizes.tolist() == [[4, 6]] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", r"load: raised ZeroDivisionError: division by zero \(\w+\.py, line 15\)"),
        ("raise SystemExit('enough')", "load: raised SystemExit: enough"),
        ("raise OSError('first\\nsecond')", r"load: raised OSError: first \("),
        ("return None", r"train: must be a pair of arrays .* but got None"),
        ("return images", "train: must be a pair of arrays .* but got ndarray array"),
        ("return images, [[1], [2, 3]]", "train: must be a pair of arrays, but cannot be made one"),
        ("return images, labels[:2]", "train labels: every image needs a label, but there are 5 and 2"),
        ("return images - 0.5, labels", "train images: float64 images must be in"),
        ("return (images, labels), (images, labels)", "must return two sets by name"),
        ("return {'training_set': (images, labels)}", "keys must be train, .* but got 'training_set'"),
        ("return {'test': (images, labels)}", r"must return a set called train, but returned \['test'\]"),
        ("return {'train': (images, labels), 'classes': 'ab'}", "`classes` must be a list of names, but got 'ab'"),
        ("return {'train': (images, labels), 'classes': ['a']}", "labels must be from 0 to 0, the places of `classes`"),
        ("return Set()", "train: must have items, but its length is 0"),
        ("return Set((images[0], 0), (images[0] / 2, 0))", r"item 1: an image must be .* but got float64 \(4, 4\)$"),
        ("return Set((images[0], 0), images[0])", r"item 1: must be a pair \(image, label\), but got array"),
        ("return Set((images[0], 0), (images[0], 0.5))", "item 1: a label must be a whole number or .* got 0.5"),
        ("return Set((images[0], 0), (images[0], 'a'))", "labels must all be whole numbers or all be strings"),
        ("return {'train': Set((images[0], 3)), 'classes': ['a']}", "item 0: labels must be from 0 to 0, .* but got 3"),
        ("x = Set()\nx.__class__.__len__ = lambda self: 2\nreturn x", "item 0: raised IndexError: tuple index"),
    ],
)  # fmt: skip
def test_what_a_function_does_wrong(tmp_path: Path, module: str, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, module, body)
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_module:load",
            "names no_such_module:load, but there is no module `no_such_module`.*; other sources are mnist-sample",
        ),
        ("math:load", r"but `math` \(.*\) has no `load`"),
        ("math:pi", "must be a function, but got 3.14"),
        ("python:math.load", "must be of the form package.module:function"),
    ],
)
def test_no_such_function(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_source(DataSection(source=name))


def test_a_module_that_cannot_be_imported(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("import no_such_library\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"importing `{module}` raised ModuleNotFoundError: No module named 'no_such_l"):
        read_source(DataSection(source=f"python:{tmp_path}/{module}:load"))


def test_modules_are_found_beside_the_study_first(tmp_path: Path) -> None:
    for place in ("study/my_data.py", "here/my_data.py", "here/other/__init__.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    folders = [tmp_path / "study", tmp_path / "here"]
    assert located_source("my_data:load", folders) == f"python:{tmp_path}/study/my_data:load"
    assert located_source("other.part:load", folders) == f"python:{tmp_path}/here/other.part:load"
    assert located_source("installed:load", folders) == "python:installed:load"
    assert located_source(f"python:{tmp_path}/here/other:load", folders) == f"python:{tmp_path}/here/other:load"
