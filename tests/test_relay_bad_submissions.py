"""What the relay does not accept: each with the right status and a reason, and nothing of it stored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge import Forge, call, problem, stored, with_signature
from liaison.keys import SigningKey
from octets import flipped
from relay.core.limits import MAX_SUBMISSION
from relay.protocol.access import Judge
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import parse_logged_entry
from relay.protocol.envelope import format_slot, parse_message
from relay.protocol.suite import SUITE_1

JEAN, LUC, ANNA = "jean.petit@lo-paris", "luc.bas@lo-paris", "anna.nowak@lo-warsaw"
LATTICE, CURVE = 0, SUITE_1.signature.mldsa_signature


@pytest.fixture(scope="module")
def sound(forge):
    """A submission that would be accepted; nothing in this module posts it unchanged."""
    return forge.seal()


def set_field(number, value):
    return lambda fields: fields.__setitem__(number, value)


def set_portion(place, value):
    return lambda fields: fields[8][0].__setitem__(place, value)


MALFORMED = {
    "an unknown suite": set_field(1, 9),
    "a message id of 15 octets": set_field(2, bytes(15)),
    "a sender that is no address": lambda f: f[3].__setitem__(0, "Anna Nowak"),
    "a lifetime that ends before it begins": lambda f: f.__setitem__(5, f[4]),
    "a lifetime of two years": lambda f: f.__setitem__(5, f[4] + 2 * 366 * 86400),
    "a creation two weeks ago": lambda f: f.__setitem__(4, f[4] - 14 * 86400),
    "a creation in the future": lambda f: f.__setitem__(4, f[4] + 3600),
    "no label": set_field(6, b""),
    "a label that is text": set_field(6, "TEST SEALED"),
    "a label that is CBOR but no label": set_field(6, encode({1: "TEST"})),
    "no addressee": set_field(7, []),
    "an addressee twice": lambda f: f[7].append(f[7][0]),
    "an addressee of an unknown kind": lambda f: f[7][0].__setitem__(0, 4),
    "nobody but exempted": lambda f: f[7][0].__setitem__(0, 3),
    "no portion": set_field(8, []),
    "a portion of no length": set_portion(0, 0),
    "a portion without a label": set_portion(2, b""),
    "an unknown content algorithm": set_field(9, "AES-128-GCM"),
    "a sequence number that is text": set_field(10, "1"),
    "a directory whose name clears the screen": lambda f: f[12].__setitem__(0, "\x1b[2J"),
    "a missing field": lambda f: f.pop(11),
    "an unknown field": set_field(17, 1),
    "an alternative that is no label": set_field(14, [[b"\0", b"\xff"]]),
    "an unknown precedence": lambda f: f[13].__setitem__(1, 6),
    "an info precedence above the action precedence": lambda f: f[13].__setitem__(2, 4),
    "a DTG that is no full minute": lambda f: f[13].__setitem__(3, f[13][3] + 1),
    "a DTG that no calendar has": lambda f: f[13].__setitem__(3, 60 << 55),
    "an unknown message type": lambda f: f[13].__setitem__(4, "joke"),
    "a part that is not the signed one": set_portion(1, bytes(32)),
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_header_is_refused_with_a_reason_and_leaves_no_trace(two_offices, forge, sound, what):
    with stored(two_offices):
        response = forge.post(forge.alter(sound, MALFORMED[what]))
    assert (response.status_code, problem(response)["type"][-9:]) == (400, "malformed")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f[13].pop(9), "handling: field 9 is missing"),
        (lambda f: f[13].__setitem__(10, ""), "handling: field 10 is unknown"),
        (lambda f: f[8][0].__setitem__(0, f[8][0][0] + 1), "octets, not the"),
        (set_portion(1, bytes(32)), "another digest"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(two_offices, forge, sound, change, told):
    with stored(two_offices):
        assert told in problem(forge.post(forge.alter(sound, change)))["detail"]


def test_bytes_that_are_not_the_one_encoding_of_a_submission_are_refused(two_offices, forge, sound):
    whole = sound.encoded()
    head, slots, parts = whole[:1], sound.slots, sound.parts
    long_integer = encode([sound.message, list(slots), list(parts)]).replace(
        encode(list(slots))[:1], b"\x98" + bytes([len(slots)]), 1
    )
    indefinite = b"\x9f" + whole[1:] + b"\xff"
    bad = [whole[:-1], whole[: len(whole) // 2], whole + b"\0", long_integer, indefinite, head, b"", b"\xff", b"hello"]
    with stored(two_offices):
        assert [problem(forge.post(each))["status"] for each in bad] == [400] * len(bad)


def test_another_type_or_algorithm_in_the_signed_object_is_refused(two_offices, forge, sound):
    protected, header, payload, signature = decode(sound.message)

    def posted(**changes):
        fields = {**decode(protected), **{int(key[1:]): value for key, value in changes.items()}}
        message = encode([encode(fields), header, payload, signature])
        return problem(forge.post(encode([message, list(sound.slots), list(sound.parts)])))["status"]

    with stored(two_offices):
        assert posted(_16="application/relay-receipt+cose") == 400
        assert posted(_1=-8) == 400  # Ed25519 alone
        assert posted(_4=bytes(32)) == 400


@pytest.mark.parametrize(("half", "name"), [(LATTICE, "ML-DSA"), (CURVE, "Ed25519")], ids=["lattice", "curve"])
def test_either_half_of_the_signature_broken_breaks_the_whole_and_is_named(two_offices, forge, sound, half, name):
    with stored(two_offices):
        response = forge.post(with_signature(sound, lambda signature: flipped(signature, half + 5)))
    assert problem(response)["type"].endswith("unverified")
    assert name in problem(response)["detail"]
    assert response.status_code == 422


def test_a_signature_without_one_half_is_no_signature(two_offices, forge, sound):
    with stored(two_offices):
        for cut in (lambda s: s[:CURVE], lambda s: s[CURVE:], lambda s: b"", lambda s: s + b"\0"):
            assert problem(forge.post(with_signature(sound, cut)))["status"] == 422


def test_a_message_signed_by_a_key_that_is_not_the_senders_is_refused(two_offices, forge, sound):
    with stored(two_offices):
        assert problem(forge.post(forge.alter(sound, key=SigningKey.generate())))["status"] == 400


def test_a_device_cannot_post_another_devices_message(two_offices, forge, sound):
    jean = two_offices.clients[JEAN]
    with stored(two_offices):
        assert problem(call(jean, "POST", "/v1/messages", sound.encoded()))["status"] == 401


def test_slots_and_parts_that_were_not_signed_are_refused(two_offices, forge, sound):
    other = forge.seal()
    swapped = [
        encode([sound.message, list(other.slots), list(sound.parts)]),
        encode([sound.message, [], list(sound.parts)]),
        encode([sound.message, list(sound.slots) * 2, list(sound.parts)]),
        encode([sound.message, list(sound.slots), list(other.parts)]),
        encode([sound.message, list(sound.slots), []]),
        encode([sound.message, list(sound.slots), list(sound.parts) * 2]),
        encode([sound.message, list(sound.slots), [flipped(sound.parts[0], 40)]]),
    ]
    with stored(two_offices):
        assert [problem(forge.post(each))["status"] for each in swapped] == [400] * len(swapped)


def test_a_slot_that_grants_nothing_or_too_much_or_under_another_algorithm_is_refused(two_offices, forge, sound):
    device, ref, granted, wrap = decode(sound.slots[0])
    protected, header, wrapped = wrap
    bad = [
        [device, ref, [], wrap],
        [device, ref, [0, 1], wrap],
        [device, ref, [0, 0], wrap],
        [device, ref, granted, [encode({1: -1, 4: ref}), header, wrapped]],
        [device, ref, granted, [protected, header, wrapped + b"\0"]],
        [device[:15], ref, granted, wrap],
    ]
    with stored(two_offices):
        for each in bad:
            assert problem(forge.post(forge.alter(sound, slots=[encode(each)])))["status"] == 400, each


def test_a_request_over_the_limit_is_refused_before_anything_is_read(two_offices, forge):
    with stored(two_offices):
        response = forge.post(bytes(MAX_SUBMISSION + 1))
    assert (response.status_code, problem(response)["type"][-9:]) == (413, "too-large")


def test_slots_that_grant_more_than_one_list_can_name_are_refused(two_offices, forge, sound, monkeypatch):
    monkeypatch.setattr("relay.core.submission.MAX_GRANTED", 0)
    with stored(two_offices):
        response = forge.post(sound.encoded())
    assert (response.status_code, "grant more than 0" in problem(response)["detail"]) == (413, True)


def test_no_more_labels_are_decided_about_than_the_log_can_wait_for(two_offices, forge, sound, monkeypatch):
    monkeypatch.setattr("relay.core.submission.MAX_JUDGED", 0)
    with stored(two_offices):
        response = forge.post(sound.encoded())
    assert (response.status_code, "more than 0 labels" in problem(response)["detail"]) == (413, True)


def test_a_label_is_decided_about_once_for_each_device(two_offices, forge, monkeypatch):
    judged, judge = [], Judge.judge
    monkeypatch.setattr(Judge, "judge", lambda *given: judged.append(given[3:5]) or judge(*given))
    draft = forge.plan.draft
    every = [replace(reader, granted=(0, 1, 2)) for reader in forge.claim()]
    three = Forge(forge.client, every, replace(forge.plan, draft=replace(draft, portions=draft.portions * 3)))
    assert three.post(three.seal().encoded()).status_code == 201
    assert len(judged) == len(every)


# -- the same message, and the same numbers, again ----------------------------------------------------------------


def test_the_same_bytes_again_get_the_very_same_receipt(two_offices, forge):
    body = forge.seal(readers=forge.claim()).encoded()
    with stored(two_offices, message=1, slot=1, part=1, log_entry=1):
        first = forge.post(body, seen=3)
    with stored(two_offices):
        assert [forge.post(body, seen=3).content for _ in range(2)] == [first.content] * 2
        moved = parse_logged_entry(forge.post(body, seen=4).content)
    assert first.status_code == 201
    assert moved.entry == parse_logged_entry(first.content).entry


def test_an_id_or_a_sequence_number_stands_for_one_message_only(two_offices, forge):
    submission = forge.seal(readers=forge.claim())
    core = parse_message(submission.message).core
    assert forge.post(submission.encoded()).status_code == 201
    readers = forge.claim()
    with stored(two_offices):
        same_id = forge.post(forge.seal(readers=readers, message_id=core.message_id).encoded())
        same_seq = forge.post(forge.seal(readers=readers, seq=core.seq).encoded())
        resigned = forge.post(forge.alter(submission))  # the same content under a new signature is other bytes
    assert [problem(each)["status"] for each in (same_id, same_seq, resigned)] == [409, 409, 409]


# -- key packages -------------------------------------------------------------------------------------------------


def test_a_one_time_key_serves_one_message(two_offices, forge):
    readers = forge.claim()
    assert readers[0].package.one_time
    assert forge.post(forge.seal(readers=readers).encoded()).status_code == 201
    with stored(two_offices):
        again = forge.post(forge.seal(readers=readers).encoded())
    assert "one-time" in problem(again)["detail"]
    assert again.status_code == 409


def test_a_key_that_somebody_else_claimed_or_that_is_nobodys_is_refused(two_offices, forge, sound):
    luc = Forge(two_offices.clients[LUC]).prepare(JEAN, label="TEST OPEN")
    with stored(two_offices):
        stolen = forge.post(forge.seal(readers=luc.readers).encoded())
    device, _ref, granted, (_, header, wrapped) = decode(sound.slots[0])
    unknown = bytes(32)
    forged = format_slot(
        device, unknown, tuple(granted), encode({1: SUITE_1.kem_alg, 4: unknown}), header[-4] + wrapped, SUITE_1
    )
    with stored(two_offices):
        nobodys = forge.post(forge.alter(sound, slots=[forged]))
    assert [problem(stolen)["status"], problem(nobodys)["status"]] == [409, 409]


def test_a_slot_sealed_to_another_devices_key_is_refused(two_offices, forge, sound):
    luc_id = two_offices.clients[LUC].profile.signing.device_id
    _device, *rest = decode(sound.slots[0])
    with stored(two_offices):
        alone = forge.post(forge.alter(sound, slots=[encode([luc_id, *rest])]))
        both = forge.post(forge.alter(sound, slots=sorted([sound.slots[0], encode([luc_id, *rest])])))
    assert [problem(alone)["status"], problem(both)["status"]] == [409, 409]
