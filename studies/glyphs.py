"""Renders letters in the fonts of this machine as colour pictures: a folder with one sub-folder a class.

    python studies/glyphs.py OUT [--fonts /usr/share/fonts] [--train 300] [--test 60] [--sizes 40 160] [--letters A…Z]
                                 [--format jpg|png|webp] [--seed 0] [--workers N]

OUT/train/A/00000.jpg and so on, and OUT/test/…, whose fonts are of other families than those for training. Each
picture has a shape, colours, a place, an angle and clutter of its own. The same fonts, arguments and release of Pillow
give the same pictures. Needs Pillow only.

A few hundred fonts on Debian 12:

    apt-get install --no-install-recommends fonts-cantarell fonts-comfortaa fonts-crosextra-caladea \
        fonts-crosextra-carlito fonts-dejavu fonts-ebgaramond fonts-firacode fonts-freefont-ttf \
        fonts-hack fonts-inconsolata fonts-junicode fonts-lato fonts-league-spartan fonts-liberation \
        fonts-linuxlibertine fonts-noto-core fonts-noto-mono fonts-oldstandard fonts-open-sans \
        fonts-quicksand fonts-roboto fonts-sil-charis fonts-sil-gentium fonts-urw-base35
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import string
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TEST_FAMILIES = 0.25
BATCH = 100
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Settings:
    """What all pictures have in common."""

    out: Path
    sizes: tuple[int, int]
    format: str
    seed: int


def main() -> None:
    """Render all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="a folder of fonts")
    parser.add_argument("--train", type=int, default=300, help="pictures of a class to train on")
    parser.add_argument("--test", type=int, default=60, help="pictures of a class in the test set")
    parser.add_argument(
        "--sizes", type=int, nargs=2, default=(40, 160), metavar=("MIN", "MAX"), help="pixels of a side"
    )
    parser.add_argument("--letters", default=string.ascii_uppercase, help="the classes")
    parser.add_argument("--format", choices=("jpg", "png", "webp"), default="jpg")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    arguments = parser.parse_args()
    if not 8 <= arguments.sizes[0] <= arguments.sizes[1]:
        parser.error("--sizes must be at least 8, the smaller one first")

    families = families_of(arguments.fonts, arguments.letters)
    if len(families) < 2:
        parser.error(f"--fonts {arguments.fonts}: needs fonts of two families or more, but has {len(families)}")
    names = sorted(families)
    random.Random(arguments.seed).shuffle(names)
    held_out = max(1, round(TEST_FAMILIES * len(names)))
    sets = {"train": (names[held_out:], arguments.train), "test": (names[:held_out], arguments.test)}
    for name, (chosen, _) in sets.items():
        number = sum(len(families[family]) for family in chosen)
        print(f"{name}: {number} fonts of {len(chosen)} families: {', '.join(sorted(chosen))}", file=sys.stderr)

    settings = Settings(arguments.out, tuple(arguments.sizes), arguments.format, arguments.seed)
    jobs = []
    for name, (chosen, pictures) in sets.items():
        fonts = [families[family] for family in sorted(chosen)]
        for letter in arguments.letters:
            (arguments.out / name / letter).mkdir(parents=True, exist_ok=True)
            for first in range(0, pictures, BATCH):
                jobs.append((settings, name, letter, first, min(BATCH, pictures - first), fonts))
    total, done = sum(job[4] for job in jobs), 0
    with ProcessPoolExecutor(arguments.workers) as pool:
        for rendered in pool.map(render_batch, jobs):
            done += rendered
            print(f"\r{done:,} of {total:,} pictures", end="", file=sys.stderr)
    print(file=sys.stderr)


def families_of(folder: Path, letters: str) -> dict[str, list[str]]:
    """The fonts that have the letters, by the first word of their family: its members look alike."""
    families: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".ttf", ".otf") and (family := family_with(path, letters)):
            families.setdefault(family, []).append(str(path))
    return families


def family_with(path: Path, letters: str) -> str | None:
    """The first word of the family of a font that shows each of the letters, and no two alike; else None."""
    try:
        font = ImageFont.truetype(str(path), 24)
        name = font.getname()[0] or ""
        shapes = {bytes(font.getmask(letter)) for letter in [*letters, "\N{OBJECT REPLACEMENT CHARACTER}"]}
    except (OSError, ValueError):
        return None
    strange = any(word in name.lower() for word in ("symbol", "dingbat", "emoji", "math", "d050000l"))
    return None if strange or not name or len(shapes) <= len(letters) else name.split()[0]


def render_batch(job: tuple[Settings, str, str, int, int, Sequence[Sequence[str]]]) -> int:
    """Some pictures of a letter; how many."""
    settings, name, letter, first, count, fonts = job
    for number in range(first, first + count):
        path = settings.out / name / letter / f"{number:05}.{settings.format}"
        draws = random.Random(f"{settings.seed} {name} {letter} {number}")
        picture = render(letter, draws.choice(draws.choice(fonts)), settings.sizes, draws)
        picture.save(path, quality=88)
    return count


def render(letter: str, font: str, sizes: tuple[int, int], draws: random.Random) -> Image.Image:
    """A letter on a background with clutter."""
    width, height = draws.randint(*sizes), draws.randint(*sizes)
    side = min(width, height)

    # The letter is dark on light or light on dark; the background's colours flow into one another.
    dark, light = (0, 100), (140, 255)
    ink, paper = (dark, light) if draws.random() < 0.5 else (light, dark)
    background = Image.new("RGB", (3, 3))
    background.putdata([color(draws, paper) for _ in range(9)])
    picture = background.resize((width, height), Image.Resampling.BICUBIC)
    clutter(picture, draws, paper)

    # The letter, turned, somewhere in the square in the middle, which is all that a crop keeps.
    glyph = mask_of(letter, font, round(side * draws.uniform(0.6, 1.0)))
    glyph = glyph.rotate(draws.uniform(-20, 20), Image.Resampling.BILINEAR, expand=True)
    glyph.thumbnail((round(0.95 * side), round(0.95 * side)), Image.Resampling.BILINEAR)
    left = (width - side) // 2 + draws.randint(0, side - glyph.width)
    top = (height - side) // 2 + draws.randint(0, side - glyph.height)
    picture.paste(color(draws, ink), (left, top, left + glyph.width, top + glyph.height), glyph)
    return picture


def clutter(picture: Image.Image, draws: random.Random, levels: tuple[int, int]) -> None:
    """Lines and outlines in colours near those of the background."""
    canvas, side = ImageDraw.Draw(picture), min(picture.size)
    for _ in range(draws.randint(3, 9)):
        corners = [draws.randint(-side // 4, size + side // 4) for size in picture.size * 2]
        box = (min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))
        thick = max(1, round(side * draws.uniform(0.01, 0.06)))
        shade = color(draws, levels)
        draw = draws.choice((canvas.ellipse, canvas.rectangle, None))
        if draw is None:
            canvas.line(corners, shade, thick)
        else:
            draw(box, outline=shade, width=thick)


def color(draws: random.Random, levels: tuple[int, int]) -> Color:
    """A colour whose channels lie in a range."""
    return (draws.randint(*levels), draws.randint(*levels), draws.randint(*levels))


def mask_of(letter: str, font: str, height: int) -> Image.Image:
    """The letter alone, so many pixels high, in grey levels."""
    mask = large_mask(letter, font, height > 200)
    return mask.resize((max(1, round(mask.width * height / mask.height)), height), Image.Resampling.BILINEAR)


@functools.lru_cache(maxsize=1000)
def large_mask(letter: str, font: str, huge: bool) -> Image.Image:
    """The letter as large as it is ever needed, cut to its ink."""
    face = ImageFont.truetype(font, 1200 if huge else 200)
    left, top, right, bottom = face.getbbox(letter)
    mask = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(mask).text((-left, -top), letter, 255, face)
    return mask


if __name__ == "__main__":
    main()
