"""Types of arguments that several commands share: each parses one string, or says what is allowed."""

from __future__ import annotations

import argparse
import math
import os
import warnings
from pathlib import Path

CKPT = "the folder of a trained model, or weights of another library (timm:FILE, torchvision:FILE, keras:FILE)"
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, on stdout")


def add_patience(parser: argparse.ArgumentParser) -> None:
    """The flag --patience."""
    text = "how long to wait for a storage that is away (default 30m)"
    parser.add_argument("--patience", type=seconds, metavar="T", help=text)


def add_members(parser: argparse.ArgumentParser, phis: str) -> None:
    """The flags of commands that show a family: --phi, by default `phis`, --tolerance and --nominal."""
    phi = f"2, 0,1,2.5 or 0:7 (both included; default {phis})"
    parser.add_argument("--phi", type=phi_list, default=phis, metavar="PHI", help=phi)
    tolerance = "how far from B^φ a member may cost, as a fraction (default: the study's)"
    parser.add_argument("--tolerance", type=fraction, metavar="FRACTION", help=tolerance)
    nominal = "round each of α^φ, β^φ, γ^φ by itself, whatever the network then costs"
    parser.add_argument("--nominal", action="store_true", help=nominal)


def add_storage(parser: argparse.ArgumentParser, meaning: str = "storage to read instead of DIR/study.db") -> None:
    """The flag --storage, which `storage_of` reads."""
    parser.add_argument("--storage", metavar="URL", help=f"{meaning}: URL, @FILE, or $SCALESEARCH_STORAGE")


def storage_of(arguments: argparse.Namespace) -> str | None:
    """The URL of the storage: of --storage, or else of the environment variable; None if neither is given.

    A note says so if the flag holds a password: other users can read the command line of a process.
    """
    from scalesearch.search.queue.storage_url import VARIABLE, has_password, storage_url

    given = arguments.storage
    if given is None:
        given = os.environ.get(VARIABLE) or None
        return given and storage_url(given)
    url = storage_url(given)
    if not given.startswith("@") and has_password(url):
        warnings.warn(
            "the password in --storage is visible to every user of this machine (ps); leave it out, and put it into "
            f"~/.pgpass or PGPASSWORD, or put the whole URL into {VARIABLE} or a file (--storage @FILE)",
            stacklevel=2,
        )
    return url


def shared_storage_of(arguments: argparse.Namespace) -> str:
    """As `storage_of`, of a command that has no run folder; raises `InputError` if no storage is given."""
    from scalesearch.errors import InputError

    storage = storage_of(arguments)
    if storage is None:
        raise InputError("which storage? Give --storage, or set SCALESEARCH_STORAGE")
    return storage


def folder(text: str) -> Path:
    """A path that is not empty, as that of an unset variable would be."""
    if not text:
        raise argparse.ArgumentTypeError("must be a folder, but got nothing")
    return Path(text)


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, but got {text!r}")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1, both excluded."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must be a fraction above 0 and below 1 (0.02 is 2 %), but got {text}")
    return value


def multiplier(text: str) -> float:
    """A number above 0 and at most a million."""
    value = number(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1,000,000, but got {text}")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    return [number(part) for part in text.split(",")]


def epoch_list(text: str) -> list[int]:
    """Rising numbers of epochs separated by commas."""
    epochs = [count(part) for part in text.split(",")]
    if epochs != sorted(set(epochs)):
        raise argparse.ArgumentTypeError(f"must be rising numbers of epochs (2,5,12), but got {text!r}")
    return epochs


def phi_list(text: str) -> tuple[float, ...]:
    """Levels φ of a family: 2, or 0,1,2.5, or 0:7 with both ends."""
    from scalesearch.scaling.phis import parse_phis

    try:
        return parse_phis(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """A time such as 90s, 30m or 1.5h, in seconds."""
    try:
        value = float(text[:-1]) * _SECONDS.get(text[-1:], 0)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 30m or 2h, but got {text!r}")
    return value


def core_list(text: str) -> list[int]:
    """Core numbers separated by commas."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise argparse.ArgumentTypeError(f"must be core numbers separated by commas (0,1), but got {text!r}")
    return [int(part) for part in parts]


def port(text: str) -> int:
    """A port: 0 to 65535."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, but got {text!r}")
    return int(text)
