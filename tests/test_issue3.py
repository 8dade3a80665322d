import os, time
import pytest
from world import world, clearance, TEST_SPIF
from liaison import Attachment
from liaison.desk import Desk
from relay.protocol.errors import *

@pytest.fixture(scope="module")
def three(tmp_path_factory):
    with world(tmp_path_factory.mktemp("three")) as w:
        for o,n in (("lo-warsaw","POL"),("lo-paris","FRA"),("lo-oslo","NOR")): w.office(o,n)
        w.agreement("lo-warsaw","lo-paris"); w.agreement("lo-paris","lo-oslo"); w.agreement("lo-warsaw","lo-oslo")
        w.device("anna@lo-warsaw", clearances=[clearance(nations=["POL"])])
        w.device("piotr@lo-warsaw", clearances=[clearance(nations=["POL"])], roles=["release"])
        w.device("ola@lo-warsaw", clearances=[clearance(nations=["POL"])], roles=["release"])
        w.device("jean@lo-paris", clearances=[clearance(nations=["FRA"])])
        w.device("kari@lo-oslo", clearances=[clearance(nations=["NOR"])])
        yield w

def test_forward_needs_consent(three):
    anna, jean, kari = (three.clients[x] for x in ("anna@lo-warsaw","jean@lo-paris","kari@lo-oslo"))
    sent = anna.release(anna.plan(["jean@lo-paris"], label="TEST CLOSED", body="orcon text", subject="s", originator_controlled=True))
    jean.inbox(); jean.read(sent.message_id)
    plan = Desk(jean).plan_forward(sent.message_id, ["kari@lo-oslo"], "fyi", label=None)
    assert plan.verdicts[0].rules == ("handling",), plan.verdicts[0].reasons
    ask = Desk(jean).ask_consent(sent.message_id, "lo-oslo", "please")
    anna.inbox(); anna.read(ask.message_id)
    give = Desk(anna).give_consent(ask.message_id, 3)
    jean.inbox(); jean.read(give.message_id)
    plan = Desk(jean).plan_forward(sent.message_id, ["kari@lo-oslo"], "fyi", label=None)
    assert plan.verdicts[0].is_released, plan.verdicts[0].reasons
    fwd = jean.release(plan)
    kari.inbox(); rec = kari.read(fwd.message_id)
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
    anna, piotr, ola, jean = (three.clients[x] for x in ("anna@lo-warsaw","piotr@lo-warsaw","ola@lo-warsaw","jean@lo-paris"))
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
    anna, jean, kari = (three.clients[x] for x in ("anna@lo-warsaw","jean@lo-paris","kari@lo-oslo"))
    plan = anna.plan(["jean@lo-paris"], label="TEST OPEN", body="b")
    sent = anna.release(plan)
    copies = Desk(anna).send_blind(plan, sent, ["kari@lo-oslo"])
    assert kari.read(copies[0].message_id).portions[0].text == "b"
