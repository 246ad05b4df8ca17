"""Draw `terminal.svg`: the terminal while a search runs, from the real output of the program.

    python docs/terminal_picture.py --when "trial (9|10) of 16" -- scalesearch run --budget 2 --out /tmp/picture

The command runs in a pseudo-terminal. The last screen that matches the expression of `--when` becomes the picture;
without it, the last screen of all. An SVG inside `<img>` cannot load a font from the net, so the file carries the
glyphs that it uses (DejaVu Sans Mono, which matplotlib ships).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from matplotlib import get_data_path
from rich.console import Console
from rich.text import Text

ASPECT_RATIO = 0.602  # width of a glyph of DejaVu Sans Mono over the size of the font
TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def record(command: list[str], columns: int, rows: int) -> str:
    """Everything that `command` writes into a pseudo-terminal of that size."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS=str(columns), LINES=str(rows), TERM="xterm-256color")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    output = b""
    with contextlib.suppress(OSError):  # how Linux says that the command has ended
        while chunk := os.read(terminal, 1 << 16):
            output += chunk
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{' '.join(command)}: exit code {code}\n{output.decode()[-2000:]}")
    return output.decode()


def replay(output: str) -> list[str]:
    """Every screen that `output` showed before it erased something, and the last one.

    Knows as much of a terminal as rich's live display uses: new line, cursor up, erase line, colours.
    """
    lines, row, drawn = [""], 0, False
    screens: list[str] = []
    for parameters, command, control, text in TOKEN.findall(output):
        if command == "K":
            if drawn:
                screens.append("\n".join(lines).rstrip())
            lines[row], drawn = "", False
        elif command == "A":
            row = max(0, row - int(parameters or 1))
        elif command == "m":
            lines[row] += f"\x1b[{parameters}m"
        elif control == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif text:
            lines[row] += text
            drawn = True
    return [*screens, "\n".join(lines).rstrip()]


def font_face(style: str, weight: int, characters: str) -> str:
    """A CSS rule with the glyphs of `characters` inside."""
    options = Options(flavor="woff", layout_features=[], hinting=False, drop_tables=["FFTM"])
    font = TTFont(Path(get_data_path()) / "fonts" / "ttf" / f"DejaVuSansMono{style}.ttf")
    subsetter = Subsetter(options)
    subsetter.populate(text=characters)
    subsetter.subset(font)
    font.flavor = "woff"
    file = io.BytesIO()
    font.save(file)
    encoded = base64.b64encode(file.getvalue()).decode()
    source = f'url("data:font/woff;base64,{encoded}") format("woff")'
    return f'@font-face {{ font-family: "Terminal"; src: {source}; font-weight: {weight}; }}'


def picture(screen: str, columns: int, title: str) -> str:
    """The SVG of a screen."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen), crop=False, no_wrap=True, overflow="ignore")
    characters = "".join(sorted(set(screen + title) | {" "}))
    faces = f"{font_face('', 400, characters)}\n{font_face('-Bold', 700, characters)}"
    svg = console.export_svg(title=title, font_aspect_ratio=ASPECT_RATIO, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # rich's, which loads from the net
    return svg.replace("<style>", f"<style>\n{faces}", 1).replace("Fira Code", "Terminal")


def main() -> None:
    """Record, choose a screen, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "terminal.svg")
    parser.add_argument("--when", default="", help="draw the last screen that this expression matches")
    parser.add_argument("--title", default="scalesearch run --budget 2")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    screens = replay(record(arguments.command, arguments.columns, arguments.rows))
    if arguments.when:
        screens = [screen for screen in screens if re.search(arguments.when, screen)]
        if not screens:
            raise SystemExit(f"no screen matches {arguments.when!r}")
    arguments.output.write_text(picture(screens[-1], arguments.columns, arguments.title), encoding="utf-8")
    sys.stderr.write(f"wrote {arguments.output}, {arguments.output.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
