"""A label that has no equivalent where it should go is refused, and lands on the security officer's desk."""

from __future__ import annotations

import time

from liaison.desk import Desk
from relay.protocol.label import Clearance
from world import world


def test_an_unmapped_office_becomes_a_work_item_for_the_security_officer(tmp_path):
    now = int(time.time())
    german = Clearance("MOCK", "1.3.6.1.4.1.88888.1", ("VS",), (), now - 60, now + 86400)
    with world(tmp_path) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-berlin", "DEU")
        built.agreement("lo-warsaw", "lo-berlin")
        anna = built.device("anna.nowak@lo-warsaw")
        officer = built.device("ewa.sowa@lo-warsaw", roles=["security"])
        built.device("kurt.falk@lo-berlin", clearances=[german])
        plan = anna.plan(["kurt.falk@lo-berlin"], label="TEST CLOSED", body="Not for a foreign policy yet.")
        assert not plan.released
        assert Desk(anna).ask_for_mapping(plan) == ["lo-berlin"]
        (item,) = officer.inbox()
        assert officer.read(item.message_id).portions[0].name == "Mapping wanted: lo-berlin"
