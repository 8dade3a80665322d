"""Being a witness: remember each log's last tree, cosign only what grew from it."""

from __future__ import annotations

from typing import Any

import click

from liaison.home.profile import home_folder
from liaison.witness import Witness, create_witness
from liaison.witness import serve as bind
from relay.protocol.errors import LiaisonError
from relay.protocol.words import words_for

from .common import Commands, json_option, text_in
from .saying import put, say


@click.group(cls=Commands)
def witness() -> None:
    """Cosign the checkpoints of logs (C2SP tlog-witness)."""


@witness.command("init")
@click.argument("name")
@click.option("--logs", required=True, type=click.File("r"), metavar="FILE", help="The logs' keys, from `relay key`.")
@json_option
def init(name: str, logs: Any, *, as_json: bool) -> None:
    """Make the keys of a witness called NAME; prints them as lines of a witness policy."""
    vkeys = create_witness(home_folder(), name, text_in(logs)).vkeys()
    if as_json:
        put({"name": name, "keys": list(vkeys)})
    else:
        for kind, vkey in zip(("ed25519", "mldsa44"), vkeys, strict=True):
            click.echo(f"witness {name}-{kind} {vkey}")
    say(f"words to compare: {words_for(vkeys)}")


@witness.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8441, show_default=True, help="0 for a free one.")
@json_option
def serve(host: str, port: int, *, as_json: bool) -> None:
    """Answer logs until interrupted."""
    opened = Witness.open(home_folder())
    try:
        bound = bind(opened, host, port)
    except OSError as problem:
        hint = "is another witness running? try --port 0"
        raise LiaisonError(f"cannot bind {host}:{port}: {problem.strerror}", hint=hint) from problem
    with bound as server:
        url = f"http://{host}:{server.server_address[1]}"
        if as_json:
            put({"serving": url, "name": opened.keys.name})
        else:
            click.echo(f"witness: serving as {opened.keys.name} on {url}")
        server.serve_forever()
