"""Warnings about a rule that a command gives before it outputs the rule."""

from __future__ import annotations

import sys

from scalesearch.runtime.text import plural
from scalesearch.scaling.family import off_grid_note
from scalesearch.scaling.rule import ScalingRule


def say_caveats(rule: ScalingRule, *, quiet: bool) -> None:
    """Warn on stderr of what speaks against `rule`: trials missing, doubtful candidates, not resolved, uneven steps.

    With `quiet` nothing is said; the rule holds all of it.
    """
    if quiet:
        return
    trials = rule.provenance.get("trials", {})
    left = trials.get("waiting", 0) + trials.get("running", 0) if isinstance(trials, dict) else 0
    if left:
        sys.stderr.write(f"scalesearch: this rule is provisional: {plural(left, 'trial')} had still to be trained\n")
    standing = rule.provenance.get("standing")
    if isinstance(standing, dict) and standing.get("state") == "doubtful":
        sys.stderr.write(f"scalesearch: {standing.get('answer')}\n")
    if not rule.resolved:
        sys.stderr.write("scalesearch: this rule is not resolved: other splits may be as good\n")
    if note := off_grid_note(rule.baseline):
        sys.stderr.write(f"scalesearch: {note}\n")
