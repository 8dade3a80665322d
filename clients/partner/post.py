"""Posts what a partner system has to say: one message per line of standard input, one receipt per line of output.

A line is a JSON object,

    {"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "subject": "Track 4711", "body": "54.5N 018.6E"}

or plain text, which is then the body of a message to --to under --label. The receipt has what `liaison send --json`
has. LIAISON_HOME is the system's profile, LIAISON_PASSPHRASE_FILE the file with its passphrase.

Exit codes are those of `liaison`; the first line that fails ends the run, and its number is said on standard error.
0 done, 1 failed, 2 wrong usage, 4 not enrolled, 5 verification failed, 6 refused by policy, 7 relay unreachable.
Only 7 is worth trying again, from the line that was named. A line whose receipt has "state": "waiting" is sealed, goes
with the next run, and is not posted again.
"""

# ruff: noqa: INP001, T201 - a program of its own, for pipes

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from liaison import Client, Waiting
from liaison.outgoing import Sent
from relay.protocol.errors import LiaisonError, Malformed, Refused, TooMany, Unauthenticated, Unavailable, Unverified

EXIT = {Unauthenticated: 4, Unverified: 5, Refused: 6, TooMany: 7, Unavailable: 7}
KEYS = {"to", "label", "subject", "body"}


def read_message(line: str, to: list[str], label: str | None) -> dict[str, Any]:
    """What a line asks to be sent. Raises Malformed."""
    try:
        given = json.loads(line) if line.startswith("{") else {"body": line}
    except ValueError as problem:
        raise Malformed(f"not JSON: {problem}") from None
    message: dict[str, Any] = {"to": to, "label": label, "subject": "", **given}
    if message.keys() != KEYS or not message["to"] or not message["label"]:
        raise Malformed("a message has to, label, body and perhaps subject, and nothing else")
    return message


def post(client: Client, message: dict[str, Any]) -> dict[str, Any]:
    """Send one message; the receipt. Raises LiaisonError."""
    sent = client.send(message["to"], label=message["label"], subject=message["subject"], body=message["body"])
    return receipt_of(sent)


def receipt_of(sent: Sent) -> dict[str, Any]:
    return {
        "v": 1,
        "message_id": sent.message_id.hex(),
        "released_to": list(sent.released_to),
        "refused": [{"address": each.addressee.address, "rules": list(each.rules)} for each in sent.refused],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Post one message per line of standard input.")
    parser.add_argument("--to", action="append", default=[], metavar="ADDR", help="for lines that do not say")
    parser.add_argument("--label", help="for lines that do not say")
    given = parser.parse_args()
    number = 0
    try:
        passphrase = Path(os.environ["LIAISON_PASSPHRASE_FILE"]).read_text().removesuffix("\n")
        with Client.open(passphrase=passphrase) as client:
            for line in sys.stdin:
                number += 1
                receipt = post(client, read_message(line.removesuffix("\n"), given.to, given.label))
                print(json.dumps(receipt), flush=True)
    except Waiting as waiting:
        print(json.dumps({**receipt_of(waiting.sent), "state": "waiting"}), flush=True)
        print(f"post: line {number + 1}: go on from here; the one before waits: {waiting}", file=sys.stderr)
        return 7
    except LiaisonError as error:
        print(f"post: line {number}: {error}", file=sys.stderr)
        return next((EXIT[kind] for kind in type(error).__mro__ if kind in EXIT), 1)
    except (KeyError, OSError) as problem:
        print(f"post: LIAISON_PASSPHRASE_FILE: {problem}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
