"""Optuna's dashboard: the note and figures that a study shows there, and a server on the loopback address."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from scalesearch.errors import StorageError
from scalesearch.runtime.text import first_line
from scalesearch.search.queue.optuna_study import join_study
from scalesearch.search.queue.storage import Storage, open_storage
from scalesearch.search.queue.stored_study import StoredStudy

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost", "[::1]")
_HTTP_PORT = "80"  # which browsers leave out
# The last line of our part of a note. A reader may write below it in the dashboard.
KEPT = "*Written by scalesearch. What you write below this line is kept.*"

# Attribute of a study: digest of the note and figures, saved last.
_DIGEST = "shown"
_READING = ("GET", "HEAD")


def installed() -> bool:
    """Whether the extra `dashboard` is installed."""
    return importlib.util.find_spec("optuna_dashboard") is not None


def save(url: str, name: str, note: str, figures: Mapping[str, Any]) -> None:
    """Save a note and figures into a stored study; they replace those of an earlier call.

    Nothing is written if they are there already. Text that a reader wrote below `KEPT`, or before our first note,
    stays. A storage that cannot be written gives a warning.

    Args:
        url: SQLAlchemy URL of the storage.
        name: the study's name there.
        note: markdown.
        figures: plotly figures by id.
    """
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    try:
        # What is there.
        optuna_study = join_study(open_storage(url), name)
        before = get_note(optuna_study)
        ours, line, theirs = before.partition(KEPT)
        theirs = theirs if line else f"\n\n{before}" if before else ""
        digest = hashlib.sha256("".join([note, *(each.to_json() for each in figures.values())]).encode()).hexdigest()
        if ours == f"{note}\n\n" and optuna_study.user_attrs.get(_DIGEST) == digest:
            return

        # What is new.
        for figure_id, figure in figures.items():
            save_plotly_graph_object(optuna_study, figure, graph_object_id=figure_id)
        save_note(optuna_study, f"{note}\n\n{KEPT}{theirs}")
        optuna_study.set_user_attr(_DIGEST, digest)
    except (StorageError, StorageInternalError, SQLAlchemyError) as error:
        warnings.warn(f"this result is not saved for Optuna's dashboard: {first_line(error)}", stacklevel=2)


def page_of(optuna_study: StoredStudy) -> str:
    """The path of the study's page."""
    return f"/dashboard/studies/{optuna_study.study_id}"


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread; none of them keeps the process alive."""

    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        del format, args


def serve(storage: Storage, port: int) -> Server:
    """A server of the dashboard at `HOST`, which answers while its `serve_forever` runs.

    Only notes can be changed through it, neither studies nor trials. It answers only pages of its own: another site's
    page in the same browser could read and write here otherwise, by a host name that leads to the loopback address.

    Args:
        storage: the storage to show.
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    from optuna_dashboard import wsgi

    return make_server(HOST, port, _from_here_only(_only_notes_change(wsgi(storage))), Server, _Silent)


Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _from_here_only(application: Application) -> Application:
    """Refuse requests that were meant for another host, or that a page of another site makes."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        port = environ["SERVER_PORT"]
        hosts = [f"{name}:{port}" for name in _NAMES] + ([*_NAMES] if port == _HTTP_PORT else [])
        pages = [f"http://{host}/" for host in hosts]
        asking = [environ[name].lower() for name in ("HTTP_ORIGIN", "HTTP_REFERER") if name in environ]
        is_ours = all(f"{page}/".startswith(tuple(pages)) for page in asking)
        if is_ours and environ.get("HTTP_HOST", "").lower() in hosts:
            return application(environ, start)
        return _refuse(start, "scalesearch answers only its own pages on this machine")

    return answer


def _only_notes_change(application: Application) -> Application:
    """Refuse all other changes: a study whose trials were deleted or ended by hand could not be resumed."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method in _READING or (method == "PUT" and path.endswith("/note")):
            return application(environ, start)
        return _refuse(start, "scalesearch shows this study; only its notes can be changed here")

    return answer


def _refuse(start: Callable[..., Any], reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
