"""The command doctor: what this machine computes with, and whether it computes correctly."""

from __future__ import annotations

import argparse

from scalesearch.cli.arguments import add_json, add_storage, storage_of
from scalesearch.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A storage to try."""
    add_storage(parser, "also try this storage")
    add_json(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print each finding and whether it is good. Exit code 4 if the storage is not, 1 if anything else is not."""
    from scalesearch.data.cache import examine_images
    from scalesearch.report.terminal import console
    from scalesearch.runtime.doctor import examine_cache, examine_device, examine_machine

    device = examine_device()
    findings = [device, *examine_machine(), examine_cache(), examine_images()]
    if device.good:
        from scalesearch.models.numerics import examine_kernels, examine_numerics

        findings += [examine_kernels(), examine_numerics()]
    storage = storage_of(arguments)
    if storage is not None:
        from scalesearch.search.queue.storage import examine_storage

        findings.append(examine_storage(storage))

    if arguments.json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        out = console()
        for finding in findings:
            mark = "[green]ok[/]   " if finding.good else "[red]wrong[/]"
            out.print(f"{mark} {finding.topic}: {finding.text}", soft_wrap=True)
    bad = {finding.topic for finding in findings if not finding.good}
    return 4 if "storage" in bad else 1 if bad else 0
