import os
import time

import pytest

from liaison.desk import Desk
from relay.protocol.errors import *
from world import TEST_SPIF, clearance, world


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with world(tmp_path_factory.mktemp("three")) as w:
        for o, n in (("lo-warsaw", "POL"), ("lo-paris", "FRA"), ("lo-oslo", "NOR")):
            w.office(o, n)
        w.agreement("lo-warsaw", "lo-paris")
        w.agreement("lo-paris", "lo-oslo")
        w.agreement("lo-warsaw", "lo-oslo")
        w.device("anna@lo-warsaw", clearances=[clearance(nations=["POL"])])
        w.device("piotr@lo-warsaw", clearances=[clearance(nations=["POL"])], roles=["release"])
        w.device("ola@lo-warsaw", clearances=[clearance(nations=["POL"])], roles=["release"])
        w.device("jean@lo-paris", clearances=[clearance(nations=["FRA"])])
        w.device("kari@lo-oslo", clearances=[clearance(nations=["NOR"])])
        yield w


def test_forward_needs_consent(three):
    anna, jean, kari = (three.clients[x] for x in ("anna@lo-warsaw", "jean@lo-paris", "kari@lo-oslo"))
    sent = anna.release(
        anna.plan(["jean@lo-paris"], label="TEST CLOSED", body="orcon text", subject="s", originator_controlled=True)
    )
    jean.inbox()
    jean.read(sent.message_id)
    plan = Desk(jean).plan_forward(sent.message_id, ["kari@lo-oslo"], "fyi", label=None)
    assert plan.verdicts[0].rules == ("handling",), plan.verdicts[0].reasons
    ask = Desk(jean).ask_consent(sent.message_id, "lo-oslo", "please")
    anna.inbox()
    anna.read(ask.message_id)
    give = Desk(anna).give_consent(ask.message_id, 3)
    jean.inbox()
    jean.read(give.message_id)
    plan = Desk(jean).plan_forward(sent.message_id, ["kari@lo-oslo"], "fyi", label=None)
    assert plan.verdicts[0].is_released, plan.verdicts[0].reasons
    fwd = jean.release(plan)
    kari.inbox()
    rec = kari.read(fwd.message_id)
    assert "orcon text" in [p.text for p in rec.portions.values()]


def test_reply_derives(three):
    anna, jean = three.clients["anna@lo-warsaw"], three.clients["jean@lo-paris"]
    sent = anna.send(["jean@lo-paris"], label="TEST SEALED", body="q", subject="s")
    jean.read(sent.message_id)
    with pytest.raises(Refused):
        Desk(jean).plan_reply(sent.message_id, "a", label="TEST OPEN", quote=False)
    plan = Desk(jean).plan_reply(sent.message_id, "a", label=None, quote=True)
    assert plan.draft.label.classification == "SEALED"
    jean.release(plan)


def test_downgrade_takes_two_others(three):
    anna, piotr, ola, jean = (
        three.clients[x] for x in ("anna@lo-warsaw", "piotr@lo-warsaw", "ola@lo-warsaw", "jean@lo-paris")
    )
    sent = anna.send(["jean@lo-paris"], label="TEST SEALED", body="text", subject="s")
    drafted = Desk(anna).draft_downgrade(sent.message_id, "TEST OPEN", "no longer sensitive", [], None)
    d = Desk(piotr).open_draft(drafted.sent.message_id)
    needed, _ = Desk(piotr).release_draft(d)
    assert needed == 1
    newest = max(ola.inbox(), key=lambda i: (i.message.core.created, i.message.core.seq))
    todo = [i for i in ola.inbox() if i.state == "unread" and i.message.core.sender == "piotr@lo-warsaw"]
    d2 = Desk(ola).open_draft(todo[-1].message_id)
    needed, index = Desk(ola).release_draft(d2)
    assert needed == 0 and index > 0
    rec = jean.read(drafted.message_id)
    assert rec.released_by
    with pytest.raises(Refused):
        Desk(piotr).release_draft(d2)


def test_blind(three):
    anna, jean, kari = (three.clients[x] for x in ("anna@lo-warsaw", "jean@lo-paris", "kari@lo-oslo"))
    plan = anna.plan(["jean@lo-paris"], label="TEST OPEN", body="b")
    sent = anna.release(plan)
    copies = Desk(anna).send_blind(plan, sent, ["kari@lo-oslo"])
    assert kari.read(copies[0].message_id).portions[0].text == "b"


MOCK = (
    TEST_SPIF.replace(b'name="TEST"', b'name="MOCK"')
    .replace(b"99999.1", b"88888.1")
    .replace(b"99999.2", b"88888.2")
    .replace(b"99999.3", b"88888.3")
    .replace(b'name="OPEN"', b'name="OFFEN"')
    .replace(b'name="CLOSED"', b'name="VS"')
    .replace(b'name="SEALED"', b'name="GEHEIM"')
    .replace(b"<spif:excludedClass>OPEN</spif:excludedClass>", b"")
)
MAPPED = (
    TEST_SPIF.replace(
        b'name="OPEN" lacv="1" hierarchy="1" color="green"/>',
        b'name="OPEN" lacv="1" hierarchy="1"><spif:equivalentClassification applied="both" policyRef="MOCK" lacv="1"/></spif:securityClassification>',
    )
    .replace(
        b'name="CLOSED" lacv="2" hierarchy="2" color="blue"/>',
        b'name="CLOSED" lacv="2" hierarchy="2"><spif:equivalentClassification applied="both" policyRef="MOCK" lacv="2"/></spif:securityClassification>',
    )
    .replace(
        b"</spif:SPIF>",
        b'<spif:equivalentPolicies><spif:equivalentPolicy name="MOCK" id="1.3.6.1.4.1.88888.1"/></spif:equivalentPolicies></spif:SPIF>',
    )
)


def test_equivalence(tmp_path):
    import hashlib
    from dataclasses import replace

    from relay.protocol.agreement import Agreement, Party
    from relay.protocol.identity import parse_statement
    from relay.protocol.label import Clearance

    with world(tmp_path) as w:
        w.office("lo-warsaw", "POL", policy=MAPPED)
        w.office("lo-berlin", "DEU", policy=MOCK)
        now = int(time.time())
        german = Clearance("MOCK", "1.3.6.1.4.1.88888.1", ("OFFEN", "VS"), (), now - 60, now + 10**6)
        anna = w.device("anna@lo-warsaw", clearances=[clearance()])
        kurt = w.device("kurt@lo-berlin", clearances=[german])
        kids = {o: parse_statement(w.statements[o]) for o in w.statements}
        ag = Agreement(
            "x",
            tuple(Party(o, kids[o].nation, kids[o].kid) for o in sorted(kids)),
            "TEST",
            "1.3.6.1.4.1.99999.1",
            ("CLOSED", "OPEN"),
            (),
            (),
            (),
            False,
            now - 60,
            now + 10**6,
            os.urandom(16),
        )
        for o in kids:
            w.authorities[o].sync()
            w.authorities[o].sign_agreement(ag)
        plan = anna.plan(["kurt@lo-berlin"], label="TEST CLOSED", body="x")
        assert not plan.released, "no table agreed"
        print(plan.verdicts[0].reasons)
        ag2 = replace(
            ag, nonce=os.urandom(16), mappings=((hashlib.sha256(MAPPED).digest(), hashlib.sha256(MOCK).digest()),)
        )
        for o in kids:
            w.authorities[o].sync()
            w.authorities[o].sign_agreement(ag2)
        plan = anna.plan(["kurt@lo-berlin"], label="TEST CLOSED", body="hallo")
        assert plan.released, plan.verdicts[0].reasons
        sent = anna.release(plan)
        kurt.inbox()
        rec = kurt.read(sent.message_id)
        assert rec.portions[0].text == "hallo"
        assert not anna.plan(["kurt@lo-berlin"], label="TEST SEALED", body="hallo").released


def test_two_person_and_coi(tmp_path):
    with world(tmp_path) as w:
        for o, n in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            a = w.office(o, n, policy=None)
            a.publish_policy(TEST_SPIF, b'two_person_release_from = "SEALED"\none_time_key_from = "SEALED"\n')
        now = int(time.time())
        anna = w.device("anna@lo-warsaw")
        piotr = w.device("piotr@lo-warsaw", roles=["release"])
        jean = w.device("jean@lo-paris")
        luc = w.device("luc@lo-paris")

        w.agreement("lo-warsaw", "lo-paris")
        plan = anna.plan(["jean@lo-paris"], label="TEST SEALED", body="b")
        with pytest.raises(Refused):
            anna.release(plan)
        drafted = Desk(anna).draft(plan)
        with pytest.raises(Refused):
            Desk(anna).release_draft(Desk(piotr).open_draft(drafted.sent.message_id))
        d = Desk(piotr).open_draft(drafted.sent.message_id)
        assert d.portions[0].text == "b"
        assert Desk(piotr).release_draft(d)[0] == 0
        jean.inbox()
        assert jean.read(drafted.message_id).released_by == ("piotr@lo-warsaw",)
        # coi
        w.authorities["lo-warsaw"].sync()
        w.authorities["lo-warsaw"].found_community("baltic@lo-warsaw", "anna@lo-warsaw", "Baltic")
        plan = anna.plan(["baltic@lo-warsaw"], label="TEST OPEN", body="b")
        assert plan.verdicts[0].rules == ("empty-community",)
        Desk(anna).keep_roster("baltic@lo-warsaw", ["piotr@lo-warsaw", "jean@lo-paris"])
        plan = anna.plan(["baltic@lo-warsaw"], label="TEST OPEN", body="coi text")
        assert {g.device.address for g in plan.verdicts[0].grants} == {"piotr@lo-warsaw"}
        sent = anna.release(plan)
        assert piotr.read(sent.message_id).portions[0].text == "coi text"
