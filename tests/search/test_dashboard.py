"""Optuna's own tools on our study: the dashboard opens it, and its plots and ours mean the same."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from scalesearch.records import Failure
from scalesearch.search import study as studies
from scalesearch.search.design import make_plan
from scalesearch.search.storage import open_storage, sqlite_url
from scalesearch.search.worker import work
from tests.planted import PlantedSurface, planted_evaluate, planted_study


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    config = planted_study(metric="val_loss")
    plan = make_plan(config)
    failing = plan.trials[3].candidate.spec
    failure = Failure("diverged", "loss must stay finite")
    evaluate = planted_evaluate(PlantedSurface(), fail=lambda c: failure if c.spec == failing else None)
    made = studies.open_study(open_storage(sqlite_url(tmp_path)), config, "digest")
    studies.enqueue_missing(made, plan.trials)
    work(made, config, plan, evaluate, lambda finished: None, lambda running: None)
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
