"""Optuna's dashboard: what a study shows there beside its trials, and the server on this machine's own address."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from scalesearch.errors import StorageError
from scalesearch.runtime.text import first_line
from scalesearch.search.queue.optuna_study import join_study
from scalesearch.search.queue.storage import Storage, open_storage

HOST = "127.0.0.1"
# The last line of a note that is ours. A reader may write below it in the dashboard.
KEPT = "*Written by scalesearch. What you write below this line is kept.*"

# Attribute of a study: the digest of what is shown, saved last.
_SHOWN = "shown"
_READING = ("GET", "HEAD")


def installed() -> bool:
    """Whether the extra `dashboard` is there."""
    return importlib.util.find_spec("optuna_dashboard") is not None


def save(url: str, name: str, note: str, figures: Mapping[str, Any]) -> None:
    """Save `note` (markdown) and plotly `figures` into the study `name` of a storage, in place of those before.

    Nothing is written where the same is there already. What a reader wrote below `KEPT`, or before there was a note of
    ours, stays. A storage that may only be read is told by a warning.
    """
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    try:
        study = join_study(open_storage(url), name)
        old = get_note(study)
        above, ours, theirs = old.partition(KEPT)
        theirs = theirs if ours else f"\n\n{old}" if old else ""
        shown = "".join([note, *(figure.to_json() for figure in figures.values())])
        digest = hashlib.sha256(shown.encode()).hexdigest()
        if above == f"{note}\n\n" and study.user_attrs.get(_SHOWN) == digest:
            return
        for figure_id, figure in figures.items():
            save_plotly_graph_object(study, figure, graph_object_id=figure_id)
        save_note(study, f"{note}\n\n{KEPT}{theirs}")
        study.set_user_attr(_SHOWN, digest)
    except (SQLAlchemyError, StorageInternalError, StorageError) as error:
        warnings.warn(f"this result is not saved for Optuna's dashboard: {first_line(error)}", stacklevel=2)


def page_of(study: optuna.Study) -> str:
    """The path of the study's page."""
    return f"/dashboard/studies/{study._study_id}"


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, none of which keeps the process alive."""

    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        del format, args


def serve(storage: Storage, port: int) -> Server:
    """A server of the dashboard at `HOST`; port 0 takes a free one. Raises `OSError` where the port is taken.

    It answers until `serve_forever` is interrupted. Trials and studies cannot be changed through it, only notes.
    """
    from optuna_dashboard import wsgi

    return make_server(HOST, port, _only_notes_change(wsgi(storage)), Server, _Silent)


Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _only_notes_change(application: Application) -> Application:
    """A study whose trials were deleted or told by hand could not be resumed."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method in _READING or (method == "PUT" and path.endswith("/note")):
            return application(environ, start)
        start("403 Forbidden", [("Content-Type", "application/json")])
        return [json.dumps({"reason": "scalesearch shows this study; only its notes can be changed here"}).encode()]

    return answer
