"""The files that are shipped to run a relay: they parse, and what they name exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import relay
from relay.http.app import create_app
from relay.observe import REGISTRY
from relay.protocol.entry import Event
from relay.settings import Settings
from served import Served

DEPLOY = Path(relay.__file__).parent / "deploy"


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def expressions():
    for group in documents("alerts.yaml")[0]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_every_metric_that_an_alert_or_the_dashboard_names_is_scraped_from_a_relay(tmp_path):
    served = Served(tmp_path / "relay").start()
    try:
        httpx2.get(f"{served.url}/v1/inbox")
        families = list(text_string_to_metric_families(served.metrics()))
    finally:
        served.kill()
    offered = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    offered |= {
        f"{each.name}_{part}" for each in families if each.type == "histogram" for part in ("bucket", "sum", "count")
    }
    named = {name for each in expressions() for name in re.findall(r"\b(?:relay|process)_[a-z_]+", each)}
    assert len(named) > 10
    assert named <= offered


def selected():
    """(metric, label, pattern or None) of every label that an expression picks or sums by."""
    for each in expressions():
        for name, selectors in re.findall(r"(relay_[a-z_]+)\{([^}]*)\}", each):
            yield from ((name, *found) for found in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', selectors))
        for names, name in re.findall(r"by \(([^)]*)\) \((?:\w+\()?(relay_[a-z_]+)", each):
            yield from ((name, label, None) for label in names.split(", "))


def test_every_label_that_an_alert_or_the_dashboard_picks_by_is_the_metrics_and_takes_that_value():
    values = {
        "event": {event.value for event in Event},
        "route": set(create_app(None).openapi()["paths"]),
        "status": {"401", "403", "404", "429", "500", "503"},
        "method": {"GET", "POST", "PUT"},
    }
    labels = {
        metric._name: {*metric._labelnames, *(["le"] if metric._type == "histogram" else [])}
        for metric in set(REGISTRY._names_to_collectors.values())
        if hasattr(metric, "_labelnames")
    }
    picked = [
        (re.sub(r"_(total|bucket|sum|count)$", "", name), label, pattern)
        for name, label, pattern in selected()
        if label not in {"job", "instance"}
    ]
    assert sum(pattern is not None for _, _, pattern in picked) >= 5
    assert sum(pattern is None for _, _, pattern in picked) >= 10
    assert [one for one in picked if one[1] not in labels[one[0]]] == []
    asked = [(label, pattern) for _, label, pattern in picked if pattern is not None]
    assert [one for one in asked if not any(re.fullmatch(one[1], value) for value in values[one[0]])] == []


def test_every_setting_that_the_files_name_exists():
    known = {f"RELAY_{name.upper()}" for name in Settings.model_fields} | {"RELAY_HOST"}  # Compose's own
    for file in DEPLOY.iterdir():
        named = set(re.findall(r"RELAY_[A-Z_]+[A-Z]", file.read_text()))
        assert named <= known, file.name
    assert "relay_database" in (DEPLOY / "compose.yaml").read_text()


def test_the_manifests_are_whole():
    kinds = [document["kind"] for document in documents("kubernetes.yaml")]
    assert kinds == ["Deployment", "PersistentVolumeClaim", "Service", "Service", "PodDisruptionBudget"]
    deployment = documents("kubernetes.yaml")[0]["spec"]
    assert deployment["replicas"] == 2
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    services = documents("compose.yaml")[0]["services"]
    assert set(services) == {"postgres", "migrate", "relay", "caddy"}
    assert services["relay"]["read_only"]


def test_the_probes_are_content_with_a_relay_that_serves_and_with_no_other(tmp_path):
    (container,) = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert {ports[each["port"]] for each in probes} == {Settings().port}
    healthcheck = documents("compose.yaml")[0]["services"]["relay"]["healthcheck"]["test"]
    assert healthcheck[:3] == ["CMD", "python", "-c"]
    served = Served(tmp_path / "relay").start()
    try:
        assert {httpx2.get(served.url + each["path"]).status_code for each in probes} == {200}
        asked = [sys.executable, "-c", healthcheck[3].replace(":8440/", f":{served.port}/")]
        assert subprocess.run(asked, check=False).returncode == 0
    finally:
        served.kill()
    assert subprocess.run(asked, check=False, capture_output=True).returncode != 0


def test_the_api_takes_the_manifests():
    api = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate: pip install it")
    for document in documents("kubernetes.yaml"):
        api.validate(document, api.latest_version(), strict=True)


def test_a_relay_writes_to_nothing_that_the_manifest_mounts_to_be_read(tmp_path):
    pod = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {each["name"]: each.get("value") for each in container["env"]}
    writable = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    assert given["RELAY_PARTS"] in writable
    assert pod["enableServiceLinks"] is False  # or the service would set RELAY_PORT to an address
    data, database = tmp_path / "data", f"sqlite:///{tmp_path / 'relay.sqlite'}"
    migrate = [Path(sys.executable).parent / "relay", "migrate", "--data", data, "--database", database]
    subprocess.run(migrate, check=True, capture_output=True)
    (data / "..data").mkdir()  # as a secret is mounted: a link, and the group may read
    (data / "log-keys.json").rename(data / "..data/log-keys.json").chmod(0o440)
    (data / "log-keys.json").symlink_to("..data/log-keys.json")
    served = Served(data, database=database, parts=tmp_path / "parts").start()
    assert served.stop() == 0
    assert {path.name for path in data.iterdir()} == {"log-keys.json", "..data"}


def test_a_relay_has_the_time_to_drain_before_it_is_killed():
    drain = Settings().drain_seconds
    assert int(re.search(r"TimeoutStopSec=(\d+)", (DEPLOY / "relay.service").read_text())[1]) > drain
    assert documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain + 8
    assert int(documents("compose.yaml")[0]["services"]["relay"]["stop_grace_period"].removesuffix("s")) > drain


def test_promtool_takes_the_rules():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt install prometheus")
    subprocess.run([promtool, "check", "rules", DEPLOY / "alerts.yaml"], check=True, capture_output=True)


FIRST = """
rule_files: [RULES]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series: [{series: 'relay_requests_total{job="relay",route="/v1/messages",status="500"}', values: "_x5 1x30"}]
    promql_expr_test:
      - {expr: 'ALERTS{alertname="RelayFaults"}', eval_time: 4m, exp_samples: []}
      - expr: ALERTS{alertname="RelayFaults"}
        eval_time: 7m
        exp_samples: [{labels: 'ALERTS{alertname="RelayFaults",alertstate="firing",severity="page"}', value: 1}]
      - {expr: 'ALERTS{alertname="RelayFaults"}', eval_time: 25m, exp_samples: []}
"""


def test_the_first_fault_of_a_route_is_an_alert(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt install prometheus")
    (tmp_path / "first.yaml").write_text(FIRST.replace("RULES", str(DEPLOY / "alerts.yaml")))
    subprocess.run([promtool, "test", "rules", tmp_path / "first.yaml"], check=True, capture_output=True)


def test_systemd_takes_the_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    for name in ("relay.service", "relay.socket"):
        unit = (DEPLOY / name).read_text().replace("/opt/relay/bin/relay", "/bin/true")
        (tmp_path / name).write_text(unit)
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "relay.service", tmp_path / "relay.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "relay." not in ran.stderr, ran.stderr
    assert ran.returncode == 0, ran.stderr


def named(group):
    """The system calls of a group, and of the groups in it; one that is none is itself."""
    if not group.startswith("@"):
        return {group}
    told = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    return set().union(*(named(line) for line in lines if line and not line.startswith("#")))


def test_the_unit_leaves_a_relay_its_own_core_and_its_own_memory_to_tell_of():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit, allowed = (DEPLOY / "relay.service").read_text(), set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        calls = set().union(*map(named, line.removeprefix("~").split()))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    assert {"sched_setaffinity", "sched_getaffinity", "execve"} <= allowed
    assert "setrlimit" not in allowed
    assert "ProcSubset=pid" not in unit  # without /proc/stat there is no process_resident_memory_bytes


def test_the_unit_tries_again_for_as_long_as_the_database_is_away():
    assert "StartLimitIntervalSec=0" in (DEPLOY / "relay.service").read_text()


def test_a_secret_is_read_from_a_file(tmp_path):
    (tmp_path / "relay_database").write_text("postgresql://relay@postgres/relay")
    assert Settings(_secrets_dir=tmp_path).database == "postgresql://relay@postgres/relay"


HOMELESS = "import pwd; pwd.getpwuid = {}.__getitem__; from relay.cli import main; main()"


@pytest.mark.parametrize("given", [["--data", "DATA"], []])
def test_an_account_without_a_home_as_systemd_makes_has_the_data_folder_that_it_is_given(tmp_path, given):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HOME", "XDG_", "RELAY_"))}
    command = [sys.executable, "-c", HOMELESS, "migrate", *(word.replace("DATA", str(tmp_path)) for word in given)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ("no home" in ran.stderr, ran.returncode) == ((False, 0) if given else (True, 1)), ran.stderr
