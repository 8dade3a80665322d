"""A server of the tests' own that speaks S3."""

from __future__ import annotations

from contextlib import contextmanager

import httpx2
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_bucket():
    """A bucket over HTTP as RELAY_PARTS names it, and in the environment how to reach it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in endpoint.items():
            patch.setenv(name, value)
        httpx2.put(f"http://{host}:{port}/liaison").raise_for_status()
        yield "s3://liaison/parts"
    server.stop()
