"""The directions of imports, as facts: by the contracts, and by what a fresh interpreter has loaded."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import relay

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients")])}
SERVER = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "pydantic", "pydantic_settings"}


def run(*command: str) -> str:
    ran = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    return set(run(sys.executable, "-c", code).split())


def every_module(package) -> list[str]:
    return [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def test_the_import_contracts_hold():
    pytest.importorskip("importlinter")
    said = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert " 0 broken" in said


def test_the_relay_loads_nothing_that_could_decrypt():
    # relay.demo plays both sides, and runs the other side as programs of their own
    modules = [name for name in every_module(relay) if name != "relay.demo"]
    assert {"relay.http.app", "relay.core.relay", "relay.cli", "relay.house"} <= set(modules)
    loaded = loaded_by(*modules)
    assert not {name for name in loaded if name.partition(".")[0] == "liaison"}


def test_a_client_loads_no_server():
    loaded = loaded_by("liaison", "liaison.client", "liaison.authority", "liaison.audit.pull", "liaison.cli.gateway")
    assert not {name.partition(".")[0] for name in loaded} & SERVER
    ours = {name for name in loaded if name.startswith("relay.")}
    assert {name for name in ours if not f"{name}.".startswith("relay.protocol.")} == set()


def test_importing_the_relay_costs_nothing():
    assert {name for name in loaded_by("relay") if name.startswith("relay.")} == set()


def test_the_protocol_loads_no_framework_and_no_database():
    modules = [name for name in every_module(relay) if name.startswith("relay.protocol")]
    assert not {name.partition(".")[0] for name in loaded_by(*modules)} & {*SERVER, "httpx2", "sqlite3"}
