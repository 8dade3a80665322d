"""Posts what a partner system has to say: one message per line of standard input, one receipt per line of output.

A line is a JSON object,

    {"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "subject": "Track 4711", "body": "54.5N 018.6E"}

or plain text, which is then the body of a message to --to under --label. The receipt has what `liaison send --json`
has. LIAISON_HOME is the system's profile, LIAISON_PASSPHRASE_FILE the file with its passphrase.

Exit codes are those of `liaison`; the first line that fails ends the run, and its number is said on standard error.
0 done, 1 failed, 2 wrong usage, 4 not enrolled, 5 verification failed, 6 refused by policy, 7 relay unreachable.
Only 7 is worth trying again, from the line that was named. A line whose receipt has "state": "waiting" is sealed, goes
with the next run, and is not posted again. What becomes of it then is said on standard error; where it does not go that
run ends with 1, or with the code of a line that failed.
"""

# ruff: noqa: INP001, T201 - a program of its own, for pipes

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from liaison import Client, Waiting
from liaison.waiting import Sent
from relay.protocol.errors import LiaisonError, Malformed, Refused, TooMany, Unauthenticated, Unavailable, Unverified

EXIT = {Unauthenticated: 4, Unverified: 5, Refused: 6, TooMany: 7, Unavailable: 7}
KEYS = {"to", "label", "subject", "body"}


def read_message(octets: bytes, to: list[str], label: str | None) -> dict[str, Any]:
    """What a line asks to be sent. Raises Malformed."""
    try:
        line = octets.decode().removesuffix("\n").removesuffix("\r")
        given = json.loads(line) if line.startswith("{") else {"body": line}
    except UnicodeDecodeError as problem:
        raise Malformed(f"not UTF-8 (octet {problem.start})") from None
    except ValueError as problem:
        raise Malformed(f"not JSON: {problem}") from None
    message: dict[str, Any] = {"to": to, "label": label, "subject": "", **given}
    if message.keys() != KEYS or not message["to"] or not message["label"]:
        raise Malformed("a message has to, label, body and perhaps subject, and nothing else")
    if type(message["to"]) is not list or any(type(each) is not str for each in _texts(message)):
        raise Malformed("to is a list of texts; label, subject and body are texts")
    return message


def _texts(message: dict[str, Any]) -> list[Any]:
    return [*message["to"], message["label"], message["subject"], message["body"]]


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


def put(receipt: dict[str, Any]) -> None:
    try:
        print(json.dumps(receipt), flush=True)
    except OSError as problem:
        with suppress(OSError):  # nor is it tried again at the exit
            sys.stdout.close()
        why = f"sealed, but its receipt cannot be written ({problem.strerror}); do not post it again"
        raise LiaisonError(why) from problem


def main() -> int:
    parser = argparse.ArgumentParser(description="Post one message per line of standard input.")
    parser.add_argument("--to", action="append", default=[], metavar="ADDR", help="for lines that do not say")
    parser.add_argument("--label", help="for lines that do not say")
    given = parser.parse_args()
    number = 0
    try:
        passphrase = Path(os.environ["LIAISON_PASSPHRASE_FILE"]).read_text().removesuffix("\n")
    except (KeyError, OSError, UnicodeDecodeError) as problem:
        print(f"post: LIAISON_PASSPHRASE_FILE: {problem}", file=sys.stderr)
        return 4
    try:
        with Client.open(passphrase=passphrase) as client:
            client.tell = lambda line: print(f"post: {line}", file=sys.stderr)
            for number, line in enumerate(sys.stdin.buffer, 1):
                try:
                    put(post(client, read_message(line, given.to, given.label)))
                except Waiting as waiting:
                    put({**receipt_of(waiting.sent), "state": "waiting"})
                    print(f"post: line {number + 1}: go on from here; the one before waits: {waiting}", file=sys.stderr)
                    return 7
    except (LiaisonError, OSError, UnicodeEncodeError) as error:  # the last for half a character in JSON
        print(f"post: line {number}: {error}", file=sys.stderr)
        return next((EXIT[kind] for kind in type(error).__mro__ if kind in EXIT), 1)
    return 1 if client.given_up else 0


if __name__ == "__main__":
    sys.exit(main())
