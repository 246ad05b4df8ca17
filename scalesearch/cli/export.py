"""The command export: hands over a rule, a network of its family, or a trained model."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scalesearch.cli.arguments import CKPT
from scalesearch.export.formats import FORMATS

_EPILOG = "formats:\n" + "\n".join(f"  {name:13}{each.summary}" for name, each in FORMATS.items())
STDOUT = Path("-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to export, the format, and where to write it."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    source = f"coefficients.json, a run folder, or {CKPT}"
    parser.add_argument("source", type=Path, metavar="RULE|CKPT", help=source)
    parser.add_argument("--to", choices=tuple(FORMATS), default="json", help="format (default: json)")
    phi = "which network of the rule's family (default 1; json: the rule itself)"
    parser.add_argument("--phi", type=float, metavar="PHI", help=phi)
    output = "the file or the new folder to write; - is stdout, the default for files"
    parser.add_argument("--output", type=Path, default=STDOUT, metavar="PATH", help=output)


def main(arguments: argparse.Namespace) -> int:
    """Export a rule or a model to stdout, to a file or to a folder."""
    from scalesearch.cli.caveats import say_caveats
    from scalesearch.errors import InputError
    from scalesearch.export import write
    from scalesearch.export.rule_json import read_rule

    source, to, output = arguments.source, arguments.to, arguments.output
    chosen = FORMATS[to]
    if output == STDOUT:
        if chosen.folder:
            raise InputError(f"--to {to} writes a folder: name it with --output DIR")
        if not chosen.text and sys.stdout.isatty():
            raise InputError(f"--to {to} is no text for a terminal: use --output FILE, or redirect stdout")
    if not write.is_trained(source):
        if not source.exists():
            raise InputError(f"{source}: no such file or folder")
        rule = read_rule(source)
        say_caveats(rule, quiet=arguments.quiet)
        source = rule
    if output == STDOUT:
        _to_stdout(write.writer(source, to, arguments.phi), text=chosen.text)
        return 0
    write.export(source, to=to, path=output, phi=arguments.phi)
    if not arguments.quiet:
        sys.stderr.write(f"wrote {output}\n")
    return 0


def _to_stdout(fill: Callable[[Path], None], *, text: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="scalesearch-") as folder:
        file = Path(folder) / "export"
        fill(file)
        if text:  # by the encoding of a terminal
            sys.stdout.write(file.read_text(encoding="utf-8"))
        else:
            sys.stdout.buffer.write(file.read_bytes())
