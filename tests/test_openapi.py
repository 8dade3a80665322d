"""The OpenAPI document: kept in the repository, true of the running application, and nothing of it is served."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from forge import signed_headers
from relay.http.app import describe
from relay.http.openapi import KEPT, document
from relay.protocol.problem import STATUS
from test_relay_authorization import TABLE


def operations(schema):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_in_the_repository_is_the_applications():
    assert KEPT.read_text(encoding="utf-8") == document(), "run: python -m relay.http.openapi"


def test_every_operation_declares_its_success_and_its_problems_from_the_one_table():
    for name, operation in operations(json.loads(document())):
        statuses = {int(status) for status in operation["responses"]}
        assert statuses & {200, 201}, name
        assert statuses - {200, 201} <= set(STATUS.values()), name
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                problem = {"application/problem+json"}
                # The one answer whose form C2SP tlog-witness prescribes.
                prescribed = {"text/x.tlog.size"} if (name, status) == ("POST /add-checkpoint", "409") else problem
                assert set(response["content"]) == prescribed, (name, status)


def test_every_operation_that_needs_the_writer_or_the_database_may_be_unavailable():
    for name, operation in operations(json.loads(document())):
        of_memory = name in {"GET /health", "GET /v1/relay"}
        assert ("503" in operation["responses"]) is not of_memory, name


def test_an_answer_has_one_media_type_and_the_document_says_where_the_rest_is_written():
    schema = json.loads(document())
    for name, operation in operations(schema):
        for status in operation["responses"].keys() & {"200", "201"}:
            assert len(operation["responses"][status]["content"]) == 1, name
    assert "SPEC.md" in schema["info"]["description"]


def test_signed_bodies_are_declared_as_bytes():
    for name, operation in operations(json.loads(document())):
        body = operation.get("requestBody")
        if body is not None:
            # The one body whose form C2SP tlog-witness prescribes: lines, with a signed note.
            media = "text/plain" if name == "POST /add-checkpoint" else "application/cbor"
            assert body["content"] == {media: {"schema": {"type": "string", "format": "binary"}}}, name


def test_which_requests_are_signed_is_what_the_authorization_matrix_says():
    kept = json.loads(document())
    assert kept["components"]["securitySchemes"].keys() == {"device"}
    signed = {name for name, (_path, (anonymous, *_others)) in TABLE.items() if anonymous == 401}
    assert {name for name, operation in operations(kept) if operation["security"]} == {
        name.replace(":path", "") for name in signed
    }


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_no_description_is_served(two_offices, path):
    assert httpx2.get(two_offices.url + path).status_code == 404


def test_schemathesis_finds_no_undocumented_answer_and_no_crash(two_offices):
    """A few examples per operation, signed as an officer, from the document as it is kept."""
    schemathesis.serializer("application/cbor")(lambda _context, value: value)
    anna = two_offices.clients["anna.nowak@lo-warsaw"]
    loaded = schemathesis.openapi.from_dict(json.loads(KEPT.read_text(encoding="utf-8")))
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    tried = 0
    for result in loaded.get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/events":
            continue  # a stream does not end; what it answers is seen in test_relay_waiting

        @seed(1)
        @settings(
            max_examples=6,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            nonlocal tried
            tried += 1
            if "wait" in (case.query or {}):
                case.query["wait"] = 0
            prepared = httpx2.Request(**request_of(case, two_offices.url))
            signed = signed_headers(anna, case.method, prepared.url.raw_path.decode(), prepared.content or None)
            response = case.call(base_url=two_offices.url, headers=signed)
            case.validate_response(response, checks=checks)

        ask()
    assert tried > 50


def request_of(case, url):
    made = case.as_transport_kwargs(base_url=url)
    return {
        "method": made["method"],
        "url": made["url"],
        "params": made.get("params"),
        "content": made.get("data") if isinstance(made.get("data"), bytes) else None,
    }


RECORDER = """
import os, sys
os.environ["FASTAPI_OTEL_AUTO_CONFIGURE"] = "true"
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
from opentelemetry import metrics, trace

made = []

class Tracers(trace.TracerProvider):
    def get_tracer(self, *names, **more):
        made.append(("tracer", names))
        return trace.NoOpTracer()

class Meters(metrics.MeterProvider):
    def get_meter(self, *names, **more):
        made.append(("meter", names))
        return metrics.NoOpMeter("none")

class Spying(Tracers):
    def get_tracer(self, *names, **more):
        tracer = super().get_tracer(*names, **more)
        for name in ("start_span", "start_as_current_span"):
            ordinary = getattr(tracer, name)
            def spy(*a, _ordinary=ordinary, **k):
                made.append(("span", a))
                return _ordinary(*a, **k)
            setattr(tracer, name, spy)
        return tracer

trace.set_tracer_provider(Spying())
metrics.set_meter_provider(Meters())
from fastapi.testclient import TestClient
import fastapi
if sys.argv[1] == "ordinary":
    app = fastapi.FastAPI()
    app.get("/health")(lambda: {})
else:
    from relay.http.app import describe
    app = describe()
with TestClient(app) as client:
    assert client.get("/health").status_code == 200
    client.get("/v1/nothing")
print(sorted({kind for kind, _ in made}))
"""


@pytest.mark.parametrize("app", ["ordinary", "relay"])
def test_no_span_and_no_metric_leaves_by_way_of_a_global_telemetry_provider(app):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RECORDER, app], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    if app == "relay":
        assert ran.stdout.strip() == "[]"
    else:
        assert "span" in ran.stdout  # the recorder does record, where an application does not switch it off


def test_describing_needs_no_relay():
    assert describe().openapi()["info"]["title"] == "Liaison Relay"
