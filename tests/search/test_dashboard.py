"""Optuna's own tools on our study: the dashboard opens it and shows the result; its plots and ours mean the same."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import sqlalchemy

from scalesearch.analysis.validation import Validation
from scalesearch.results.load import Run, load
from scalesearch.results.records import Failure
from scalesearch.results.save import finish, publish
from scalesearch.search.plan.design import make_plan
from scalesearch.search.queue import dashboard
from scalesearch.search.queue import optuna_study as studies
from scalesearch.search.queue.storage import open_storage, sqlite_url
from scalesearch.search.queue.work import work
from tests.fixtures import without_the_dashboard
from tests.planted import PlantedSurface, planted_evaluate, planted_run, planted_study


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    config = planted_study(metric="val_loss")
    plan = make_plan(config)
    failing = plan.trials[3].candidate.spec
    failure = Failure("diverged", "loss must stay finite")
    evaluate = planted_evaluate(PlantedSurface(), fail=lambda c: failure if c.spec == failing else None)
    made = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(made, plan.trials)
    work(made, config, plan, evaluate)
    return made


def get(app: Any, path: str) -> Any:
    """The JSON that the WSGI application answers a GET with."""
    answered: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], *rest: object) -> None:
        answered["status"] = status

    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.multithread": False,
        "wsgi.multiprocess": False, "wsgi.run_once": False,
    }  # fmt: skip
    body = b"".join(app(environ, start))
    assert answered["status"] == "200 OK", body
    return json.loads(body)


@pytest.mark.filterwarnings("default")  # the dashboard's own; ours are errors in all other tests
def test_the_dashboard_opens_the_study(study: optuna.Study, tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    app = wsgi(optuna.storages.get_storage(sqlite_url(tmp_path)))
    (summary,) = get(app, "/api/studies")["study_summaries"]
    assert summary["study_name"] == "planted"
    detail = get(app, f"/api/studies/{summary['study_id']}")
    assert detail["objective_names"] == ["val_loss"]
    assert detail["directions"] == ["minimize"]
    assert [space["name"] for space in detail["intersection_search_space"]] == ["depth_share", "width_fraction"]
    assert detail["union_search_space"] == detail["intersection_search_space"]
    assert len(detail["trials"]) == 15
    for shown, trial in zip(detail["trials"], study.trials, strict=True):
        assert {p["name"]: float(p["param_external_value"]) for p in shown["params"]} == trial.params
        attributes = {attribute["key"] for attribute in shown["user_attrs"]}
        assert {"alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations", "shares"} <= attributes
    plotted = {attribute["key"] for attribute in detail["union_user_attrs"] if attribute["sortable"]}
    assert {"alpha", "beta", "gamma", "macs", "macs_ratio", "params", "activations"} <= plotted
    assert [shown["state"] for shown in detail["trials"]].count("Fail") == 1


def test_optunas_plots_run_and_find_the_parameter_that_matters(study: optuna.Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plotly's and optuna's own
        importance = optuna.visualization.plot_param_importances(study)
        contour = optuna.visualization.plot_contour(study, params=["depth_share", "width_fraction"])
        history = optuna.visualization.plot_optimization_history(study)
    assert sorted(importance.data[0].y) == ["depth_share", "width_fraction"]
    assert contour.data[0].type == "contour"
    values = [record.mean("val_loss") for record in studies.records(study) if record.failure is None]
    assert list(history.data[0].y) == values


def opened(run: Run, url: str | None = None) -> optuna.Study:
    return studies.join_study(open_storage(url or sqlite_url(run.folder)), run.study.name)


def test_a_result_is_saved_as_a_note_and_figures_for_the_dashboard(tmp_path: Path) -> None:
    from optuna_dashboard import get_note, wsgi

    run = planted_run(tmp_path)
    finish(run)
    note = get_note(opened(run))
    for sentence in (run.choice.signal.verdict, run.choice.basis, run.choice.certainty, f"α = {run.rule.alpha:.4f}"):
        assert sentence in note
    tables = [line for line in note.splitlines() if line.startswith("|")]
    assert len(tables) == (2 + 10) + (2 + 4)  # ten candidates and four members, each below two lines of heading
    assert {line.count("|") for line in tables[:12]} == {16}
    assert "5 more in candidates.csv." in note
    app = wsgi(optuna.storages.get_storage(sqlite_url(tmp_path)))
    detail = get(app, "/api/studies/1")
    assert detail["note"]["body"] == note
    figures = {figure["id"]: json.loads(figure["graph_object"]) for figure in detail["plotly_graph_objects"]}
    assert set(figures) == {"triangle", "leaderboard"}
    assert [trace["name"] for trace in figures["triangle"]["data"]] == [trace.name for trace in run.triangle().data]
    assert len(json.dumps(figures["triangle"])) < 120_000
    assert "triangle" not in json.dumps(dict(opened(run).user_attrs))
    assert load(tmp_path).to_json() == run.to_json()


def test_the_note_tells_what_rungs_and_validations_say(tmp_path: Path) -> None:
    from scalesearch.report.note import note

    run = planted_run(tmp_path)
    order = sorted(run.records, key=lambda record: record.mean("val_loss"))
    backwards = (
        dataclasses.replace(record, candidate=other.candidate)
        for record, other in zip(order, reversed(order), strict=True)
    )
    rungs = dataclasses.replace(run, rungs={1: tuple(backwards)})
    validation = Validation(2.0, 4.0, "2026-11-24", "digest", "It holds.", pd.DataFrame())
    plain, full = note(run), note(rungs, [validation])
    added = [line for line in full.splitlines() if line not in plain.splitlines()]
    assert added == [rungs.schedule_warning, "Validation at φ = 2: It holds."]
    assert "differs from the full schedule's after" in rungs.schedule_warning


def test_a_surface_on_fewer_points_keeps_its_edges_and_values(tmp_path: Path) -> None:
    from scalesearch.report.note import card

    run = planted_run(tmp_path)
    whole, small = run.triangle(), card(run.triangle())
    (a,), (b,) = (list(figure.select_traces({"type": "contour"})) for figure in (whole, small))
    assert len(b.x) == len(b.y) == 54 < len(a.x)
    assert (b.x[0], b.x[-1], b.y[0], b.y[-1]) == (a.x[0], a.x[-1], a.y[0], a.y[-1])
    columns, rows = ({value: place for place, value in enumerate(values)} for values in (a.x, a.y))
    for y, line in zip(b.y, b.z, strict=True):
        assert [a.z[rows[y]][columns[x]] for x in b.x] == list(line)


def test_what_a_reader_wrote_is_kept(tmp_path: Path) -> None:
    from optuna_dashboard import get_note, save_note

    run = planted_run(tmp_path)
    save_note(opened(run), "Looked at on Monday.")
    publish(run)
    note = get_note(opened(run))
    assert note.startswith("# planted\n")
    assert note.endswith(f"{dashboard.KEPT}\n\nLooked at on Monday.")
    save_note(opened(run), note.replace("Spend", "Do not spend") + " And on Tuesday.")
    publish(run)
    assert get_note(opened(run)) == f"{note} And on Tuesday."


def test_a_result_is_saved_in_the_folder_and_on_the_server(tmp_path: Path) -> None:
    from optuna_dashboard import get_note

    run = planted_run(tmp_path)
    shutil.copy(tmp_path / "study.db", tmp_path / "server.db")
    server = f"sqlite:///{tmp_path}/server.db"
    finish(run, server)
    assert get_note(opened(run, server)) == get_note(opened(run)) != ""
    (tmp_path / "study.db").unlink()
    finish(load(tmp_path, server), server)
    assert not (tmp_path / "study.db").exists()
    open_storage(sqlite_url(tmp_path))
    with pytest.warns(UserWarning, match="not saved for Optuna's dashboard: no study called 'planted'"):
        publish(load(tmp_path, server), server)


def test_nothing_is_saved_without_a_result_or_without_the_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna_dashboard import get_note

    (tmp_path / "empty").mkdir()
    run = planted_run(tmp_path / "empty", most=0)
    finish(run)
    assert get_note(opened(run)) == ""
    run = planted_run(tmp_path)
    without_the_dashboard(monkeypatch)
    finish(run)
    assert get_note(opened(run)) == ""
    assert (tmp_path / "report.html").is_file()


def test_a_storage_that_may_only_be_read_gives_a_warning_and_harms_nothing(tmp_path: Path) -> None:
    def only_read(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    run = planted_run(tmp_path)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", only_read)
    try:
        with pytest.warns(UserWarning, match="not saved for Optuna's dashboard: .*readonly database"):
            finish(run)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", only_read)
    assert (tmp_path / "report.html").is_file()
