"""What the operator sees: metrics to scrape, and one JSON object a line on stderr.

The rules:
  - No metric and no log line has a name, an address, an office, a label or the id of anything in it. A route is its
    template, an error its type and the places in our own code that it passed; never its text.
  - A field that is not in FIELDS is dropped, and so is the text of every line that another library logs: its place
    in the code is enough to look it up.
  - Metrics belong to the process; several workers have a port each.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client import Counter as Count

from relay.protocol.errors import LiaisonError

FIELDS = frozenset({"reference", "method", "route", "status", "seconds", "reason", "error", "at", "logger", "worker"})
_ROOT = Path(__file__).parent
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

log = logging.getLogger("relay")

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
REQUESTS = Count("relay_requests", "Answered requests", ["method", "route", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "relay_request_seconds", "Until the answer was complete", ["route"], buckets=_BUCKETS, registry=REGISTRY
)
IN_FLIGHT = Gauge("relay_requests_in_flight", "Requests being answered", registry=REGISTRY)
ENTRIES = Count(
    "relay_access_entries", "Entries of the access log by event; a denial is two", ["event"], registry=REGISTRY
)
JOBS = Histogram("relay_batch_jobs", "Jobs in one commit", buckets=[2**n for n in range(11)], registry=REGISTRY)
COMMIT = Histogram("relay_commit_seconds", "One batch, from lock to disk", buckets=_BUCKETS, registry=REGISTRY)
QUEUE = Gauge("relay_queue_jobs", "Jobs that wait for a commit", registry=REGISTRY)
LOG_SIZE = Gauge("relay_log_entries", "Size of a log as of this process's last commit", ["log"], registry=REGISTRY)
STORED = Gauge("relay_messages_stored", "Messages in the database, counted once a minute", registry=REGISTRY)
DATABASE_ERRORS = Count("relay_database_errors", "Batches that the database did not take", registry=REGISTRY)
LIMITED = Count("relay_limited", "Requests refused with 429", ["route"], registry=REGISTRY)
DISAGREED = Count(
    "relay_witness_disagreements", "Answers of witnesses that saw another history of our logs", registry=REGISTRY
)
DRAINING = Gauge("relay_draining", "1 while the relay finishes what it has begun", registry=REGISTRY)
SWEPT = Gauge("relay_swept_time_seconds", "When this process last ended a whole sweep, since 1970", registry=REGISTRY)


def serve_metrics(host: str, port: int, count_messages: Callable[[], int]) -> None:
    """Answer scrapes on a port of their own, from a thread of their own. Raises LiaisonError if it is taken."""
    STORED.set_function(_now_and_then(count_messages))
    with _binding(host, port):
        start_http_server(port, host, registry=REGISTRY)


def check_ports(host: str, first: int, workers: int) -> None:
    """Raises LiaisonError unless each worker finds its port free: one that does not would be replaced for ever."""
    for port in range(first, first + workers):
        with _binding(host, port):
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()


@contextmanager
def _binding(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as problem:  # beyond 65535 there is no port
        raise LiaisonError(
            f"cannot bind {host}:{port} for metrics: {getattr(problem, 'strerror', None) or problem}",
            hint="each worker has a port: N, N+1, ...",
        ) from problem


def _now_and_then(count: Callable[[], int], every: float = 60.0) -> Callable[[], float]:
    counted, due = float("nan"), 0.0

    def value() -> float:
        nonlocal counted, due
        if time.monotonic() >= due:
            try:
                counted = count()
            except Exception:  # noqa: BLE001 - a scrape says what it knows, whatever the database does
                counted = float("nan")
            due = time.monotonic() + every
        return counted

    return value


def committed(jobs: int, seconds: float, events: Counter[str], sizes: dict[str, int]) -> None:
    """A batch is durable."""
    JOBS.observe(jobs)
    COMMIT.observe(seconds)
    for event, count in events.items():
        ENTRIES.labels(event).inc(count)
    for name, size in sizes.items():
        LOG_SIZE.labels(name).set(size)


# -- requests ---------------------------------------------------------------------------------------------------------

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Watched:
    """An ASGI application whose requests are counted, timed and, at level debug, logged."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(event: MutableMapping[str, Any]) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        IN_FLIGHT.inc()
        try:
            await self._application(scope, receive, noting)
        finally:
            IN_FLIGHT.dec()
            _count(scope, status, time.perf_counter() - began)


def _count(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = template(scope)
    requests, answered = _series(method, route, status)
    requests.inc()
    answered.observe(seconds)
    if status == 429:
        LIMITED.labels(route).inc()
    if log.isEnabledFor(logging.DEBUG):
        tell(logging.DEBUG, "request", method=method, route=route, status=status, seconds=round(seconds, 6))


@cache  # routes, methods and statuses are few, and finding a series costs more than counting in it
def _series(method: str, route: str, status: int) -> tuple[Count, Histogram]:
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(route)


def template(scope: Scope) -> str:
    """The route as it is declared; a path would name what was asked for."""
    return getattr(scope.get("route"), "path", "none")


# -- lines ------------------------------------------------------------------------------------------------------------


def tell(level: int, event: str, **fields: object) -> None:
    """One line. What is not in FIELDS is not said."""
    error = fields.get("error")
    exc_info = error if isinstance(error, BaseException) else None
    log.log(level, event, exc_info=exc_info, extra={"told": {k: v for k, v in fields.items() if v is not exc_info}})


@contextmanager
def going_on(failed: str) -> Iterator[None]:
    """For what is done again and again with no caller behind it: whatever fails is told, and done the next time."""
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - one fault that nobody thought of would end it for good
        tell(logging.ERROR, failed, error=problem)


class JsonLines(logging.Formatter):
    """The one way in which this process says anything on stderr."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "v": 1,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        if record.name == log.name:
            told = getattr(record, "told", {})
            line |= {"event": record.msg} | {k: v for k, v in told.items() if k in FIELDS and v is not None}
        else:
            line |= {"event": "library", "logger": record.name, "at": f"{record.filename}:{record.lineno}"}
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"error": name_of(record.exc_info[1]), "at": places(record.exc_info[1])}
        return json.dumps(line, default=lambda value: type(value).__name__)


def name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def places(error: BaseException) -> list[str]:
    """Where in our own code it passed, outermost first; where it was raised, if that is elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if _ROOT in Path(f.filename).parents]
    shown = [f"{Path(f.filename).relative_to(_ROOT.parent)}:{f.lineno}" for f in own]
    return shown or [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-1:]]


def log_as_json(level: str) -> None:
    """From here on everything on stderr is a JSON line: our events, other libraries, warnings, uncaught exceptions."""
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[to_stderr], force=True)
    logging.raiseExceptions = False  # a line that cannot be written is lost, and not shown another way
    log.setLevel(level.upper())
    warnings.showwarning = lambda _message, category, filename, lineno, *_: tell(
        logging.WARNING, "warning", reason=category.__name__, at=f"{Path(filename).name}:{lineno}"
    )
    sys.excepthook = lambda _kind, error, _frames: tell(logging.CRITICAL, "uncaught", error=error)
    threading.excepthook = lambda failed: tell(logging.CRITICAL, "uncaught", error=failed.exc_value)
    sys.unraisablehook = lambda failed: tell(logging.ERROR, "uncaught", error=failed.exc_value)
