"""The command dashboard: Optuna's dashboard of a run, served to this machine only."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scalesearch.cli.arguments import add_storage, port, storage_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run and the port."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run folder")
    parser.add_argument("--port", type=port, default=8080, metavar="N", help="0 takes a free one (default 8080)")
    add_storage(parser)


def main(arguments: argparse.Namespace) -> int:
    """Serve the dashboard until Ctrl-C."""
    from scalesearch.errors import InputError
    from scalesearch.results.live import open_run
    from scalesearch.search.queue import dashboard
    from scalesearch.search.queue.naming import named_parts
    from scalesearch.search.queue.optuna_study import join_study

    if not dashboard.installed():
        raise InputError('Optuna\'s dashboard is not installed: pip install "scalesearch[dashboard]"')
    study, storage = open_run(arguments.folder, storage_of(arguments))
    page = dashboard.page_of(join_study(storage, named_parts(storage, study).first))
    try:
        server = dashboard.serve(storage, arguments.port)
    except OSError as error:
        raise InputError(f"--port {arguments.port}: cannot be used ({error.strerror}); choose another") from None
    with server:
        address = f"http://{dashboard.HOST}:{server.server_port}{page}"
        sys.stdout.write(f"{study.name} in Optuna's dashboard: {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0
