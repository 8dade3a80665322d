"""The main job, end to end over real HTTP."""

from __future__ import annotations

import os

from liaison import Attachment


def test_a_message_with_an_attachment_arrives_bit_exact_and_is_acknowledged(two_offices):
    anna, jean = two_offices.clients["anna.nowak@lo-warsaw"], two_offices.clients["jean.petit@lo-paris"]
    content = os.urandom(300_000)
    sent = anna.send(
        ["jean.petit@lo-paris", "luc.bas@lo-paris", "nobody@lo-paris"],
        label="TEST SEALED RELEASABLE TO FRA, POL",
        subject="Zażółć gęślą jaźń",
        body="The body.\n",
        attachments=[Attachment("plan.bin", content)],
    )
    assert sent.released_to == ("jean.petit@lo-paris",)
    assert {verdict.addressee.address: verdict.rules for verdict in sent.refused} == {
        "luc.bas@lo-paris": ("classification",),
        "nobody@lo-paris": ("unknown-address",),
    }
    (item,) = [item for item in jean.inbox() if item.message_id == sent.message_id]
    assert (item.state, item.problem, item.marking) == ("unread", "", "TEST SEALED RELEASABLE TO POL, FRA")
    record = jean.read(sent.message_id)
    assert record.portions[0].name == "Zażółć gęślą jaźń"
    assert record.portions[0].text == "The body.\n"
    assert record.portions[1].content == content
    jean.acknowledge(sent.message_id)
    assert [item.state for item in jean.inbox() if item.message_id == sent.message_id] == ["handled"]
