"""The command dashboard: Optuna's dashboard of a run, on this machine's own address."""

from __future__ import annotations

import argparse
import sys

from scalesearch.errors import InputError
from scalesearch.results.load import open_run
from scalesearch.search.queue import dashboard as served
from scalesearch.search.queue import optuna_study as studies


def dashboard(arguments: argparse.Namespace) -> int:
    """Serve the dashboard until Ctrl-C."""
    if not served.installed():
        raise InputError('Optuna\'s dashboard is not installed: pip install "scalesearch[dashboard]"')
    config, storage = open_run(arguments.folder, arguments.storage)
    study = studies.join_study(storage, config.name)
    try:
        server = served.serve(storage, arguments.port)
    except OSError as error:
        raise InputError(f"--port {arguments.port}: cannot be used ({error.strerror}); choose another") from None
    with server:
        address = f"http://{served.HOST}:{server.server_port}{served.page_of(study)}"
        sys.stdout.write(f"{config.name} in Optuna's dashboard: {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        server.serve_forever()
    return 0
