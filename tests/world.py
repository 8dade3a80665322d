"""A small world for tests: a real relay on a free loopback port, offices, officers, agreements, a policy.

The relay runs in this process (uvicorn in a thread) so that tests can look into its database; clients speak
real HTTP to it. Building a world costs about a second a device, so most tests share one.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from liaison.authority import Authority
from liaison.client import Client
from liaison.home.founding import found_authority, found_device
from relay.core import Relay
from relay.core.register import register_office
from relay.house import commit_alone, open_relay
from relay.http.app import create_app
from relay.protocol.agreement import Agreement, Party
from relay.protocol.identity import Kind, parse_statement
from relay.protocol.label import Category, Clearance, TagType
from relay.settings import Settings

PASSPHRASE = "correct horse battery"

# A policy of our own, small and complete: a restrictive, a permissive and an informative tag set.
TEST_SPIF = b"""<?xml version="1.0" encoding="UTF-8"?>
<spif:SPIF xmlns:spif="http://www.xmlspif.org/spif" schemaVersion="2.1" version="1" creationDate="20260101000000Z"
           originatorDN="CN=Test" keyIdentifier="00" privilegeId="1.2.3" rbacId="1.2.3">
  <spif:securityPolicyId name="TEST" id="1.3.6.1.4.1.99999.1"/>
  <spif:securityClassifications>
    <spif:securityClassification name="OPEN" lacv="1" hierarchy="1" color="green"/>
    <spif:securityClassification name="CLOSED" lacv="2" hierarchy="2" color="blue"/>
    <spif:securityClassification name="SEALED" lacv="3" hierarchy="3" color="red"/>
  </spif:securityClassifications>
  <spif:securityCategoryTagSets>
    <spif:securityCategoryTagSet name="Codeword" id="1.3.6.1.4.1.99999.2">
      <spif:securityCategoryTag name="Codeword" tagType="restrictive" singleSelection="false">
        <spif:tagCategory name="FOX" lacv="1"><spif:excludedClass>OPEN</spif:excludedClass></spif:tagCategory>
        <spif:tagCategory name="OWL" lacv="2"><spif:excludedClass>OPEN</spif:excludedClass></spif:tagCategory>
      </spif:securityCategoryTag>
    </spif:securityCategoryTagSet>
    <spif:securityCategoryTagSet name="Releasable To" id="1.3.6.1.4.1.99999.3">
      <spif:securityCategoryTag name="Releasable To" tagType="permissive" singleSelection="false">
        <spif:tagCategory name="POL" lacv="1"/><spif:tagCategory name="FRA" lacv="2"/><spif:tagCategory name="NOR" lacv="3"/>
        <spif:markingQualifier markingCode="pageTop">
          <spif:qualifier markingQualifier="RELEASABLE TO " qualifierCode="prefix"/>
          <spif:qualifier markingQualifier=", " qualifierCode="separator"/>
        </spif:markingQualifier>
      </spif:securityCategoryTag>
    </spif:securityCategoryTagSet>
  </spif:securityCategoryTagSets>
</spif:SPIF>
"""
POLICY_NAME, POLICY_OID = "TEST", "1.3.6.1.4.1.99999.1"
LEVELS = ("CLOSED", "OPEN", "SEALED")


def clearance(levels=LEVELS, codewords=(), nations=(), *, days=365) -> Clearance:
    """A clearance under the TEST policy."""
    now = int(time.time())
    categories = []
    if codewords:
        categories.append(Category("Codeword", "1.3.6.1.4.1.99999.2", TagType.RESTRICTIVE, tuple(codewords)))
    if nations:
        categories.append(Category("Releasable To", "1.3.6.1.4.1.99999.3", TagType.PERMISSIVE, tuple(nations)))
    return Clearance(POLICY_NAME, POLICY_OID, tuple(levels), tuple(categories), now - 120, now + days * 86400)


@dataclass
class World:
    """Everything a test may want to touch."""

    folder: Path
    settings: Settings
    relay: Relay
    url: str
    authorities: dict[str, Authority] = field(default_factory=dict)
    statements: dict[str, bytes] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)

    def office(self, office: str, nation: str, *, policy: bytes | None = TEST_SPIF) -> Authority:
        """Found an office, have the operator admit it, publish a policy."""
        folder = self.folder / f"authority-{office}"
        statement = found_authority(folder, office, nation, self.url, self.relay.vkeys, PASSPHRASE)
        commit_alone(self.settings, lambda batch: register_office(batch, statement))
        authority = Authority.open(folder, passphrase=PASSPHRASE)
        authority.sync()
        if policy is not None:
            authority.publish_policy(policy)
        self.authorities[office], self.statements[office] = authority, statement
        return authority

    def device(
        self, address: str, *, clearances=None, kind=Kind.OFFICER, roles=(), scope=(), days=30, name=None
    ) -> Client:
        """Make, enrol and open a device; `name` tells a second device of one address from the first."""
        office, name = address.partition("@")[2], name or address
        statement = self.statements[office]
        folder = self.folder / name
        request = found_device(
            folder, address, self.url, self.relay.vkeys, (statement, parse_statement(statement)), PASSPHRASE
        )
        self.authorities[office].enrol(
            request,
            kind=kind,
            roles=roles,
            clearances=[clearance()] if clearances is None else clearances,
            scope=scope,
            valid_days=days,
        )
        client = Client.open(folder, passphrase=PASSPHRASE)
        client.sync()
        self.clients[name] = client
        return client

    def grant_audit(self, office: str, auditor: Client, days: float = 30) -> None:
        """Let this auditor's device read the office's entries; for no days, end that."""
        self.authorities[office].sync()
        device = self.authorities[office].auditor(auditor.profile.signing.device_id.hex())
        self.authorities[office].grant_audit(device, int(time.time() + days * 86400))

    def agreement(self, *offices: str, levels=LEVELS, categories=(), days=365) -> Agreement:
        """An agreement between these offices, signed by all."""
        now = int(time.time())
        kids = {office: parse_statement(self.statements[office]) for office in offices}
        agreement = Agreement(
            title=" and ".join(offices),
            parties=tuple(Party(office, kids[office].nation, kids[office].kid) for office in sorted(offices)),
            policy_name=POLICY_NAME,
            policy_oid=POLICY_OID,
            classifications=tuple(sorted(levels)),
            categories=tuple(categories),
            communities=(),
            purposes=(),
            onward_release=False,
            not_before=now - 60,
            not_after=now + days * 86400,
            nonce=os.urandom(16),
        )
        for office in offices:
            self.authorities[office].sync()
            self.authorities[office].sign_agreement(agreement)
        return agreement

    def close(self) -> None:
        for one in [*self.clients.values(), *self.authorities.values()]:
            one.close()


@contextmanager
def serving(settings: Settings):
    """A relay serving on a free port: (relay, url)."""
    relay = open_relay(settings)
    config = uvicorn.Config(create_app(relay), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    relay.start()
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield relay, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        relay.close()


@contextmanager
def world(folder: Path, **settings: object):
    """A world with a running relay and nobody in it."""
    chosen = Settings(data=folder / "relay", **settings)
    with serving(chosen) as (relay, url):
        built = World(folder, chosen, relay, url)
        try:
            yield built
        finally:
            built.close()
