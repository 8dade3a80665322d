"""Two relay hosts and their database in network namespaces of their own; one host loses its link to the database."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest

from forge import Forge, call
from liaison.authority import Authority
from liaison.home.founding import found_authority
from logcheck import verify_all_consistent, verify_receipt
from postgres import _account, _binaries
from processes import RELAY, Serving
from relay.protocol.armor import armor
from relay.protocol.entry import parse_logged_entry
from world import PASSPHRASE, TEST_SPIF

pytestmark = pytest.mark.netns
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@contextmanager
def namespaces():
    """db, a, b: each host has one link to the database (10.213.x) and one to this test (10.214.x)."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    tag = secrets.token_hex(3)
    names = {each: f"relay-{tag}-{each}" for each in ("db", "a", "b")}
    made = []
    try:
        for name in names.values():
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as problem:
                pytest.skip(f"no network namespaces here: {problem.stderr.strip()}")
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        for number, host in enumerate("ab", 1):
            connect(
                f"d{tag}{host}",
                f"10.213.{number}.1/24",
                names["db"],
                f"e{tag}{host}",
                f"10.213.{number}.2/24",
                names[host],
            )
            connect(
                f"t{tag}{host}", f"10.214.{number}.1/24", None, f"u{tag}{host}", f"10.214.{number}.2/24", names[host]
            )
        yield tag, names
    finally:
        for name in made:
            ip("netns", "del", name)


def connect(one: str, address: str, space: str | None, other: str, its_address: str, its_space: str) -> None:
    ip("link", "add", one, "type", "veth", "peer", "name", other)
    for link, at, where in ((one, address, space), (other, its_address, its_space)):
        if where is not None:
            ip("link", "set", link, "netns", where)
        inside = ["-n", where] if where is not None else []
        ip(*inside, "address", "add", at, "dev", link)
        ip(*inside, "link", "set", link, "up")


@contextmanager
def database_in(name: str):
    """A PostgreSQL that listens in this namespace only."""
    binaries, account = _binaries(), _account()
    if binaries is None or account is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs psycopg, a system PostgreSQL, and an account other than root to run it")
    folder = Path(tempfile.mkdtemp(prefix="relay-pg-"))
    os.chown(folder, account.pw_uid, account.pw_gid)
    cluster = folder / "cluster"

    def run(program: str, *words: str) -> None:
        within = [
            "ip",
            "netns",
            "exec",
            name,
            "setpriv",
            f"--reuid={account.pw_uid}",
            f"--regid={account.pw_gid}",
            "--clear-groups",
        ]
        with (folder / "said").open("a") as said:
            command = [*within, str(binaries / program), "-D", str(cluster), *words]
            subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=True)

    try:
        run("initdb", "--username=relay", "--auth=trust", "--encoding=UTF8", "--locale=C")
        with (cluster / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.213.0.0/16 trust\n")
        run("pg_ctl", "-w", "-t", "60", "-l", f"{folder}/log", "-o", f"-k {folder} -c listen_addresses=*", "start")
        yield
    finally:
        if (cluster / "postmaster.pid").exists():
            run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def post_all(client, bodies, receipts) -> None:
    """The same bytes until they are acknowledged; whether the host answers 503 or nothing is the network's affair."""
    for body in bodies:
        while True:
            try:
                answer = call(client, "POST", "/v1/messages", body, timeout=30)
            except httpx2.HTTPError:
                continue
            if answer.status_code == 201:
                receipts.append(answer.content)
                break
            assert answer.status_code == 503, answer.content
            time.sleep(0.2)


def until(url: str, status: int) -> None:
    for _ in range(100):
        if httpx2.get(f"{url}/ready", timeout=30).status_code == status:
            return
        time.sleep(0.2)
    raise AssertionError(f"{url} never became {status}")


def test_a_host_cut_off_from_the_database_says_so_and_the_other_serves_on(tmp_path):
    with ExitStack() as stack:
        tag, names = stack.enter_context(namespaces())
        stack.enter_context(database_in(names["db"]))
        folders = {host: tmp_path / host for host in "ab"}
        within = {host: ["ip", "netns", "exec", names[host]] for host in "ab"}
        urls = {host: f"postgresql://relay@10.213.{number}.1/postgres" for number, host in enumerate("ab", 1)}
        subprocess.run([*within["a"], RELAY, "migrate", "--data", folders["a"], "--database", urls["a"]], check=True)
        folders["b"].mkdir()
        shutil.copy(folders["a"] / "log-keys.json", folders["b"])
        hosts = {
            host: stack.enter_context(
                Serving(folders[host], urls[host], host=f"10.214.{number}.2", port=8440, prefix=within[host])
            )
            for number, host in enumerate("ab", 1)
        }
        # operator and clients sit with this test: host a by the first link, host b by the second
        worlds = {host: hosts[host].world(tmp_path) for host in "ab"}
        office = stack.enter_context(closing(worlds["b"]))
        admit(within["b"], office, folders["b"], urls["b"])
        anna, jean = office.device(ANNA), office.device(JEAN)
        anna.sync()
        forge = Forge(anna).prepare(JEAN, label="TEST OPEN")
        bodies = [forge.seal(readers=forge.claim()).encoded() for _ in range(40)]
        receipts: list[bytes] = []
        to_a = redirected(anna, hosts["a"].url)
        posting = [
            threading.Thread(target=post_all, args=(to_a, bodies[:20], receipts)),
            threading.Thread(target=post_all, args=(anna, bodies[20:], receipts)),
        ]
        for thread in posting:
            thread.start()
        while len(receipts) < 10:
            time.sleep(0.01)
        ip("-n", names["db"], "link", "set", f"d{tag}a", "down")
        posting[1].join(60)
        assert not posting[1].is_alive()
        until(hosts["a"].url, 503)
        assert httpx2.get(f"{hosts['b'].url}/ready").status_code == 200
        ip("-n", names["db"], "link", "set", f"d{tag}a", "up")
        posting[0].join(60)
        until(hosts["a"].url, 200)
        assert len(receipts) == len(bodies)
        logged, keys = [parse_logged_entry(each) for each in receipts], office.relay.vkeys
        assert len({each.index for each in logged}) == len(bodies)
        for host in hosts.values():
            verify_all_consistent(host.url, keys, [verify_receipt(keys, each) for each in logged])
        for item in jean.inbox():
            assert call(jean, "POST", f"/v1/messages/{item.message_id.hex()}/open").status_code == 200
        told = subprocess.run(
            [*within["b"], RELAY, "check", "--data", folders["b"], "--database", urls["b"]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr


def admit(within, office, data, database) -> None:
    """An office of the world's, admitted by `relay office add` where the database can be reached."""
    folder = office.folder / "authority"
    statement = found_authority(folder, "lo-warsaw", "POL", office.url, office.relay.vkeys, PASSPHRASE)
    (office.folder / "statement").write_text(armor(statement, "STATEMENT"))
    command = [*within, RELAY, "office", "add", office.folder / "statement", "--data", data, "--database", database]
    subprocess.run(command, check=True, capture_output=True)
    authority = Authority.open(folder, passphrase=PASSPHRASE)
    authority.sync()
    authority.publish_policy(TEST_SPIF)
    office.authorities["lo-warsaw"], office.statements["lo-warsaw"] = authority, statement


def redirected(client, url):
    """The same device, calling another host of the same relay."""
    pins = replace(client.profile.pins, relay_url=url)
    return SimpleNamespace(
        profile=SimpleNamespace(pins=pins, request=client.profile.request, keyid=client.profile.keyid)
    )
