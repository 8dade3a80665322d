"""Under which names a relay is reached: as clients spell them, who leave away the port that goes without saying."""

from __future__ import annotations

import httpx2
import pytest

from liaison.transport import HttpTransport
from relay.http.serve import reached_as
from relay.settings import Settings

SPELLED = {
    "https://relay.example": "https://relay.example",
    "https://relay.example:443": "https://relay.example",
    "HTTPS://Relay.Example:443/": "https://relay.example",
    "http://relay.example:80/": "http://relay.example",
    "http://relay.example:443": "http://relay.example:443",
    "https://relay.example:8443/": "https://relay.example:8443",
    "https://[2001:DB8::5]:443": "https://[2001:db8::5]",
    "http://relay_1:8440": "http://relay_1:8440",
}


def host_header(url: str) -> str:
    return httpx2.Request("GET", url).headers["host"]


@pytest.mark.parametrize(("stated", "spelled"), SPELLED.items())
def test_a_relay_answers_under_its_public_address_as_clients_spell_it(stated, spelled):
    scheme, authorities = reached_as(Settings(public_url=stated), 8440)
    host = host_header(stated.lower())
    assert (f"{scheme}://{host}", authorities) == (spelled, {host})


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7", "Relay.Internal", "2001:db8::5", "::1"])
@pytest.mark.parametrize("port", [80, 443, 8440])
def test_without_one_it_answers_under_what_it_listens_on(host, port):
    _scheme, authorities = reached_as(Settings(host=host), port)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    assert host_header(url.lower()) in authorities


@pytest.mark.parametrize("stated", SPELLED)
def test_a_client_signs_the_address_that_it_sends(stated):
    transport = HttpTransport(stated, "", None)
    host = host_header(f"{transport._url}/v1/relay")
    scheme = stated.partition("://")[0].lower()
    assert (transport._authority, transport._url) == (host, f"{scheme}://{host}")
    transport.close()
