"""The doctor command."""

from __future__ import annotations

import argparse
import dataclasses

from scalesearch.cli.scaling import print_json
from scalesearch.report.terminal import console
from scalesearch.runtime.doctor import examine


def doctor(arguments: argparse.Namespace) -> int:
    """Print device, versions, cache, numerics and storage. Exit code 1 where something is wrong, 4 for the storage."""
    findings = examine(arguments.storage)
    if arguments.json:
        print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        out = console()
        for finding in findings:
            mark = "[green]ok[/]   " if finding.good else "[red]wrong[/]"
            out.print(f"{mark} {finding.topic}: {finding.found}", soft_wrap=True)
    bad = {finding.topic for finding in findings if not finding.good}
    return 4 if "storage" in bad else 1 if bad else 0
