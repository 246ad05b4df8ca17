"""The rule that a command is given: a coefficients.json, or the run folder that holds it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scalesearch.errors import InputError
from scalesearch.scaling.rule import ScalingRule


def read_rule(path: Path) -> ScalingRule:
    """The rule at `path`. Raises `InputError` naming file and key."""
    if path.is_dir():
        path = path / "coefficients.json"
    try:
        return ScalingRule.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def say_caveats(rule: ScalingRule) -> None:
    """Say on stderr why not to build on `rule` yet: trials were missing when it was written, or it is not resolved."""
    trials = rule.provenance.get("trials", {})
    left = trials.get("waiting", 0) + trials.get("running", 0) if isinstance(trials, dict) else 0
    if left:
        sys.stderr.write(f"scalesearch: this rule is provisional: {left} trials were still to be trained\n")
    if not rule.resolved:
        sys.stderr.write("scalesearch: this rule is not resolved: other splits may be as good\n")
