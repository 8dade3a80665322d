"""A gateway for a system that cannot do cryptography: HTTP and JSON on this machine, webhooks to its own URL."""

from __future__ import annotations

import json
from threading import Thread

import click

from liaison.client import Client
from liaison.gateway.calls import Calls
from liaison.gateway.door import ADDRESS, bind, shared_secret
from liaison.gateway.turn import Turn
from liaison.gateway.webhook import Webhook, WebhookKey, check_url
from liaison.transport import HttpTransport, Receiver
from relay.protocol.errors import TooMany, Unavailable

from .common import Session, json_option, pass_session
from .saying import put, say


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8442, show_default=True, help="0 for a free one.")
@click.option("--webhook", metavar="URL", help="Rung up, signed, for each new message; https, or on this machine.")
@json_option
@pass_session
def gateway(session: Session, port: int, webhook: str | None, *, as_json: bool) -> None:
    """Send and read for a system on this machine that cannot: HTTP and JSON on 127.0.0.1, until interrupted.

    Callers show the secret from the file that is named. Each message to be sent has a key of the caller's
    (Idempotency-Key) and is sent once, however often it is asked.
    """
    if webhook is not None:
        check_url(webhook)
    with session.client() as client:
        try:
            client.sync()
        except (Unavailable, TooMany) as problem:
            say(f"{problem}; serving all the same")
        turn = Turn(client)
        rung = _webhook(client, turn, webhook) if webhook is not None else None
        secret_file = client.profile.folder / "gateway.secret"
        secret = shared_secret(secret_file)
        door = bind(port, secret, Calls(turn, client.profile.pins.address, rung).answer, say)
        told = {"serving": f"http://{ADDRESS}:{door.port}", "secret_file": str(secret_file)}
        key = rung.key.as_jwk() if rung is not None else None
        if as_json:
            put({**told, "webhook_key": key})
        else:
            click.echo(f"gateway: {client.profile.pins.address} on {told['serving']}; secret in {secret_file}")
            if key is not None:
                click.echo(f"webhook key: {json.dumps(key)}")
        for target in (door.serve_forever, *((rung.follow,) if rung is not None else ())):
            Thread(target=target, daemon=True).start()
        turn.serve()


def _webhook(client: Client, turn: Turn, url: str) -> Webhook:
    profile = client.profile
    transport = HttpTransport(profile.pins.relay_url, profile.keyid, profile.request)
    return Webhook(Receiver(url), WebhookKey.of(client), turn, transport, say)
