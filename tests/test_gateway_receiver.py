"""What a gateway rings up, and what it makes of what is said there and by the relay. Real sockets; no relay."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest

from gateways import Listening
from liaison.gateway.webhook import Webhook, check_url
from liaison.transport import Receiver
from relay.protocol.errors import Malformed, Unavailable


@pytest.mark.parametrize(
    "url",
    ["http://host.example/", "ftp://127.0.0.1/", "https://user:word@host.example/", "https://", "host", "https://a b/",
     "http://127.0.0.1:0/", "https://host.example/#a", "https://host.example:x/"],
)  # fmt: skip
def test_a_webhook_that_would_tell_others_or_nobody_is_refused(url):
    with pytest.raises(Malformed):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["https://1.2.3.400/", "https://[v1.a]/", "https://host.example/" + "a" * 70000], ids=len
)
def test_a_webhook_that_the_http_client_cannot_read_is_refused(url):
    with pytest.raises(Malformed):
        Receiver(url)


@pytest.fixture
def listening():
    system = Listening()
    system.start()
    yield system
    system.stop()


def test_a_webhook_on_this_machine_goes_by_no_proxy(listening, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    Receiver(listening.url).post(b'{"message_id": "aa"}', {})
    listening.wait_for(b"\xaa")


def test_of_what_a_receiver_answers_no_more_than_a_line_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.getsockname()[1]}/")

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"nonsense " * 5000 + b"\r\n\r\n")
                while connection.recv(4096):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Unavailable, match="nonsense") as found:
            receiver.post(b"{}", {})
    assert len(str(found.value)) < 400


def test_what_a_receiver_answers_comes_back_in_no_cookie(listening):
    receiver = Receiver(listening.url)
    for name in ("aa", "bb"):
        receiver.post(b'{"message_id": "%s"}' % name.encode(), {})
    listening.wait_for(b"\xaa", b"\xbb")
    assert [each.headers.get("Cookie") for each in listening.heard] == [None, None]


def test_a_relay_that_tells_nonsense_stops_no_webhook(monkeypatch):
    """Nothing it says ends the thread: it is told of, and asked again."""
    said, events = [], [{"message_id": "ab", "precedence": each, "cursor": 1} for each in ("FLUSH", [], {}, None)]

    class Asked(Exception):
        pass

    def told(_cursor: int):
        if not events:
            raise Asked
        yield events.pop(0)

    monkeypatch.setattr("liaison.gateway.webhook._SHORTEST", 0)
    turn, relay = SimpleNamespace(take=lambda *_: 0), SimpleNamespace(events=told)
    with pytest.raises(Asked):
        Webhook(Receiver("http://127.0.0.1:9/"), None, turn, relay, said.append).follow()
    assert (len(said), events) == (1, [])
