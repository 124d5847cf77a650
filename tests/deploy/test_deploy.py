"""The files for operators: alerts fire when they should, and name only what a real server has."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import serving
from tests.server.test_http import call

FOLDER = Path(__file__).parents[2] / "docs" / "deploy"
PROMTOOL = shutil.which("promtool")


@pytest.fixture
def promtool():
    if PROMTOOL is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed: apt-get install prometheus")
    assert PROMTOOL is not None
    return lambda *args: subprocess.run([PROMTOOL, *map(str, args)], capture_output=True, text=True, check=False)


def expressions():
    """Every expression of the dashboard, with values in place of Grafana's variables."""
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(found) > 40
    return [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in found]


def test_each_alert_fires_on_a_made_series_and_none_on_a_healthy_one(promtool):
    done = promtool("test", "rules", FOLDER / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    names = set(re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text()))
    assert names == set(re.findall(r'alertname="(\w+)"', (FOLDER / "alerts_test.yml").read_text()))


def test_an_alert_that_never_fires_would_be_found(promtool, tmp_path):
    rules = (FOLDER / "alerts.yml").read_text()
    changed = rules.replace("expr: harmonia_ready == 0", "expr: harmonia_ready == 2")
    assert changed != rules
    (tmp_path / "alerts.yml").write_text(changed)
    shutil.copy(FOLDER / "alerts_test.yml", tmp_path)
    assert promtool("test", "rules", tmp_path / "alerts_test.yml").returncode != 0


def test_prometheus_takes_the_rules_the_configuration_and_every_expression_of_the_dashboard(promtool, tmp_path):
    for what, file in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = promtool("check", what, FOLDER / file)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions())]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "panels.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_an_alert_or_the_dashboard_names_is_in_the_metrics_of_a_server(tmp_path):
    with serving(tmp_path) as server:
        text = call(server, "GET", "/metrics", user=None)[2].decode()
    kinds = dict(re.findall(r"# TYPE harmonia_(\w+) (\w+)", text))
    parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    known = {f"harmonia_{name}{part}" for name, kind in kinds.items() for part in parts.get(kind, ("",))}
    alerts = "\n".join(line for line in (FOLDER / "alerts.yml").read_text().splitlines() if "description" not in line)
    named = set(re.findall(r"harmonia_\w+", "\n".join([alerts, *expressions()])))
    assert named - known == set()
    shown = {name for name in kinds if any(name in each for each in expressions())}
    assert set(kinds) - shown <= {"success_ratio"}  # the dashboard computes it from counters, over a day


def test_what_it_plots_is_said_to_be_imported_into_grafana():
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    for panel in panels:  # 24 columns
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
