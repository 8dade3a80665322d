"""The authority's keys among named people: enough shares make it anew, too few, mixed or altered ones do not."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from liaison.authority import Authority
from liaison.cli import main
from liaison.home.founding import found_authority
from liaison.home.profile import open_profile
from liaison.home.quorum import combine_shares, drill_shares, split_authority
from liaison.home.vault import open_vault
from relay.protocol.canonical import encode
from relay.protocol.errors import Conflict, Malformed, Refused, Unauthenticated, Unverified
from world import PASSPHRASE, world

NAMES = ("anna", "ewa", "jan")


def holders(folder):
    return [(folder / f"{name}.share", f"own words of {name}") for name in NAMES]


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    found_authority(folder, "lo-warsaw", "POL", "http://127.0.0.1:1", [], PASSPHRASE)
    opened = open_profile(folder, PASSPHRASE)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shares(profile, tmp_path_factory):
    found = holders(tmp_path_factory.mktemp("shares"))
    split_authority(profile, 2, found)
    return found


@pytest.mark.parametrize("who", [(0, 1), (2, 0), (0, 1, 2)])
def test_any_two_of_three_make_the_very_keys(profile, shares, who):
    rebuilt = combine_shares([shares[each] for each in who])
    assert (rebuilt.signing.seeds, rebuilt.pins) == (profile.signing.seeds, profile.pins)


def test_one_alone_or_twice_makes_nothing(shares):
    for too_few in ([shares[0]], [shares[0], shares[0]]):
        with pytest.raises(Refused, match="1 different shares; it takes 2"):
            combine_shares(too_few)


def test_a_wrong_passphrase_is_named_with_its_share(shares):
    with pytest.raises(Unauthenticated, match=r"jan\.share"):
        combine_shares([shares[0], (shares[2][0], "guessed words")])


def test_shares_of_two_splittings_are_found(profile, shares, tmp_path):
    other = holders(tmp_path)
    split_authority(profile, 2, other)
    with pytest.raises(Unverified, match=r"ewa\.share is a share of another"):
        combine_shares([shares[0], other[1]])


def test_an_altered_share_is_found_by_the_digest_inside(profile, tmp_path):
    mine = holders(tmp_path)
    split_authority(profile, 2, mine)
    vault = open_vault(*mine[1])
    words = vault.secrets["share"].decode().split()
    vault.secrets["share"] = " ".join([*words[:8], words[9], words[8], *words[10:]]).encode()
    vault.store()
    with pytest.raises(Unverified, match="one of them was altered"):
        combine_shares(mine[:2])


@pytest.mark.parametrize("use", [combine_shares, drill_shares])
@pytest.mark.parametrize("threshold", [9, 1, -1])
def test_a_share_with_another_threshold_is_found_wherever_it_lies(profile, tmp_path, use, threshold):
    mine = holders(tmp_path)
    split_authority(profile, 2, mine)
    spoil(mine[2], encode(threshold), "threshold")
    for order in (mine, mine[::-1]):
        with pytest.raises(Unverified, match=r"of another splitting"):
            use(order)
    for holder in mine[:2]:
        spoil(holder, encode(threshold), "threshold")
    with pytest.raises((Refused, Malformed)):
        use(mine)


def drilled(folder, monkeypatch):
    (folder / "words").mkdir(exist_ok=True)
    for name, (_path, passphrase) in zip(NAMES, holders(folder), strict=True):
        (folder / "words" / name).write_text(passphrase)
    monkeypatch.chdir(folder)
    shares = [f"{name}.share" for name in NAMES]
    return CliRunner().invoke(main, ["--no-input", "authority", "drill", *shares, "--passphrases", "words"])


def spoil(holder, content, name="share"):
    vault = open_vault(*holder)
    vault.secrets[name] = content
    vault.store()


@pytest.mark.parametrize("who", range(3))
@pytest.mark.parametrize("share", [b"zzzz not a share", b"\xff"])
def test_a_drill_tries_every_share_and_names_the_one_that_recovers_nothing(profile, tmp_path, monkeypatch, who, share):
    mine = holders(tmp_path)
    split_authority(profile, 2, mine)
    assert "recovered from anna, ewa, jan" in drilled(tmp_path, monkeypatch).stdout
    spoil(mine[who], share)
    told = drilled(tmp_path, monkeypatch)
    assert (told.exit_code, told.stdout) == (5, "")
    assert f"nothing is recovered with {NAMES[who]}.share: " in told.stderr


def test_a_drill_of_a_share_that_two_people_have_says_so_and_one_that_nothing_holds_names_nobody(
    profile, tmp_path, monkeypatch
):
    mine = holders(tmp_path)
    split_authority(profile, 2, mine)
    spoil(mine[2], open_vault(*mine[0]).secrets["share"])
    assert "jan.share is the same share as anna.share" in drilled(tmp_path, monkeypatch).stderr
    for holder in mine[1:]:
        spoil(holder, b"none of %b" % holder[1].encode())
    told = drilled(tmp_path, monkeypatch)
    assert (told.exit_code, "no choice of these shares" in told.stderr) == (5, True)


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_one_of_many_and_more_than_there_are_is_no_quorum(profile, tmp_path, threshold):
    with pytest.raises(Refused, match="no quorum"):
        split_authority(profile, threshold, holders(tmp_path))


def test_a_splitting_that_cannot_be_written_whole_leaves_no_share(profile, tmp_path):
    mine = holders(tmp_path)
    mine[1][0].write_bytes(b"another's")
    with pytest.raises(Conflict, match=r"ewa\.share"):
        split_authority(profile, 2, mine)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("ewa.share", b"another's")]


@pytest.mark.parametrize("folder", [[], ["--passphrases", "words"]])
def test_where_nobody_can_be_asked_the_persons_own_way_is_named(shares, tmp_path, monkeypatch, folder):
    (tmp_path / "words").mkdir()
    monkeypatch.chdir(tmp_path)
    told = {"LIAISON_HOME": str(tmp_path / "new"), "LIAISON_PASSPHRASE_FILE": str(tmp_path / "passphrase")}
    words = ["--no-input", "authority", "drill", str(shares[0][0]), *folder]
    said = CliRunner().invoke(main, words, env=told)
    assert said.exit_code == 4
    assert ("words/anna" if folder else "--passphrases DIR") in said.stderr
    assert "LIAISON_PASSPHRASE_FILE" not in said.stderr


def test_an_authority_is_split_drilled_lost_and_recovered_on_another_machine(tmp_path, monkeypatch):
    with world(tmp_path / "world") as built:
        built.office("lo-warsaw", "POL")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "words").mkdir()
        for name in NAMES:
            (tmp_path / "words" / name).write_text(f"own words of {name}")
        (tmp_path / "passphrase").write_text(PASSPHRASE)

        def run(home, *words):
            told = {"LIAISON_HOME": str(home), "LIAISON_PASSPHRASE_FILE": str(tmp_path / "passphrase")}
            given = ["--no-input", "authority", *words, "--passphrases", "words"]
            return CliRunner().invoke(main, given, env=told)

        old, new = built.authorities["lo-warsaw"].profile.folder, tmp_path / "new"
        names = [word for name in NAMES for word in ("--name", name)]
        assert run(old, "split", "--threshold", "2", *names).stdout.split() == [f"{name}.share" for name in NAMES]
        drilled = run(new, "drill", "anna.share", "jan.share")
        assert "lo-warsaw: recovered from anna, jan" in drilled.stdout
        assert not new.exists()
        assert run(new, "drill", "anna.share").exit_code == 6
        assert run(new, "recover", "jan.share", "ewa.share").exit_code == 0
        with Authority.open(new, passphrase=PASSPHRASE) as authority:
            authority.sync()
            assert authority.office == "lo-warsaw"
        assert isinstance(run(new, "recover", "jan.share", "ewa.share").exception, SystemExit | Conflict)
