from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from liaison.home.private_file import create_private, read_private, replace_private
from liaison.home.vault import COST, Vault, create_vault, open_vault
from relay.protocol import canonical
from relay.protocol.errors import Conflict, LiaisonError, Malformed, TooLarge, Unauthenticated, Unverified

PASSPHRASE = "correct horse battery"
SECRETS = {"signing": b"S" * 64, "request": b"CANARY-" + b"R" * 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Vault]:
    """One vault for the module: every argon2id costs a third of a second."""
    path = tmp_path_factory.mktemp("profile") / "vault"
    vault = create_vault(path, PASSPHRASE, SECRETS)
    return path.read_bytes(), vault


@pytest.fixture
def path(tmp_path: Path, made: tuple[bytes, Vault]) -> Path:
    return plant(tmp_path / "vault", made[0])


def plant(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def rewrap(content: bytes, field: int, value: object) -> bytes:
    """The file of someone who knows the format but not the passphrase."""
    body = canonical.decode(canonical.decode(content)[0])
    body[field] = value
    forged = canonical.encode(body)
    return canonical.encode([forged, hashlib.sha256(forged).digest()])


def header(
    *, memory: int = COST.memory_kib, iterations: int = 3, lanes: int = 4, name: str = "liaison-vault/1"
) -> bytes:
    return canonical.encode([name, "argon2id", memory, iterations, lanes, bytes(16)])


def test_the_right_passphrase_gives_back_the_secrets_and_the_state_key(path: Path, made: tuple[bytes, Vault]) -> None:
    vault = open_vault(path, PASSPHRASE)
    assert vault.secrets == SECRETS
    assert vault.state_key == made[1].state_key
    assert len(vault.state_key) == 32


def test_a_wrong_passphrase_is_told_apart_from_a_damaged_file(path: Path) -> None:
    with pytest.raises(Unauthenticated, match="wrong passphrase") as caught:
        open_vault(path, "incorrect horse battery")
    assert caught.value.hint


def test_the_file_and_the_traceback_show_no_secret(path: Path, made: tuple[bytes, Vault]) -> None:
    content, vault = made
    assert path.stat().st_mode & 0o777 == 0o600
    for hidden in (b"CANARY", b"signing", b"request", vault.state_key):
        assert hidden not in content
    assert "CANARY" not in repr(vault)


def test_a_flipped_bit_anywhere_is_damage(tmp_path: Path, made: tuple[bytes, Vault]) -> None:
    content = made[0]
    for place in range(len(content)):
        damaged = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        with pytest.raises(Malformed):
            open_vault(plant(tmp_path / "vault", damaged), PASSPHRASE)
    for length in (0, 1, len(content) - 1):
        with pytest.raises(Malformed):
            open_vault(plant(tmp_path / "vault", content[:length]), PASSPHRASE)


def test_secrets_put_in_the_place_of_the_sealed_ones_are_refused(tmp_path: Path, made: tuple[bytes, Vault]) -> None:
    with pytest.raises(Unverified, match="secrets"):
        open_vault(plant(tmp_path / "vault", rewrap(made[0], 5, bytes(200))), PASSPHRASE)


@pytest.mark.parametrize(
    "planted",
    [
        header(memory=COST.memory_kib - 1),
        header(memory=1 << 30),
        header(iterations=2),
        header(iterations=1 << 20),
        header(lanes=3),
        header(lanes=255),
        header(name="liaison-vault/2"),
        canonical.encode(["liaison-vault/1", "argon2id", True, 3, 4, bytes(16)]),
        canonical.encode(["liaison-vault/1", "argon2id", COST.memory_kib, 3, 4, bytes(8)]),
    ],
)
def test_a_planted_header_neither_weakens_nor_exhausts(
    tmp_path: Path, made: tuple[bytes, Vault], planted: bytes
) -> None:
    with pytest.raises(Malformed, match="vault header"):
        open_vault(plant(tmp_path / "vault", rewrap(made[0], 1, planted)), PASSPHRASE)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o610])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(Unauthenticated, match="open to others"):
        open_vault(path, PASSPHRASE)


def test_neither_a_link_nor_a_pipe_nor_nothing_is_a_vault(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Exception, match="cannot open"):
        open_vault(tmp_path / "link", PASSPHRASE)
    with pytest.raises(Malformed, match="not a regular file"):
        open_vault(tmp_path / "pipe", PASSPHRASE)
    with pytest.raises(Unauthenticated, match="there is no"):
        open_vault(tmp_path / "absent", PASSPHRASE)


def test_an_existing_file_is_never_overwritten_by_a_new_vault(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(Conflict):
        create_vault(path, PASSPHRASE, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["vault"]


def test_stored_secrets_are_there_next_time_and_nothing_lies_beside(path: Path) -> None:
    vault = open_vault(path, PASSPHRASE)
    vault.secrets["ożywiony"] = b"new"
    del vault.secrets["signing"]
    vault.store()
    vault.store()
    assert open_vault(path, PASSPHRASE).secrets == {"request": SECRETS["request"], "ożywiony": b"new"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["vault"]


def test_a_process_that_would_lose_the_keys_of_another_is_stopped(path: Path) -> None:
    first, second = open_vault(path, PASSPHRASE), open_vault(path, PASSPHRASE)
    first.secrets["device"] = b"only here"
    first.store()
    with pytest.raises(Conflict, match="another process"):
        second.store()
    assert open_vault(path, PASSPHRASE).secrets["device"] == b"only here"


def test_what_could_not_be_read_back_is_not_written(path: Path) -> None:
    vault = open_vault(path, PASSPHRASE)
    vault.secrets["huge"] = bytes(1 << 20)
    before = path.read_bytes()
    with pytest.raises(TooLarge):
        vault.store()
    assert path.read_bytes() == before


def test_a_changed_passphrase_replaces_the_old_one_and_keeps_the_state_key(path: Path) -> None:
    vault = open_vault(path, PASSPHRASE)
    vault.change_passphrase("zażółć gęślą jaźń")
    decomposed = "zaz\u0307o\u0301łc\u0301 ge\u0328s\u0301la\u0328 jaz\u0301n\u0301"
    assert open_vault(path, decomposed).state_key == vault.state_key
    with pytest.raises(Unauthenticated):
        open_vault(path, PASSPHRASE)


def test_an_empty_passphrase_locks_nothing(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="empty"):
        create_vault(tmp_path / "vault", "", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [create_private, replace_private])
def test_a_file_that_cannot_be_written_is_no_relay_that_is_down(write, tmp_path: Path) -> None:
    place = tmp_path / "nowhere" / "file"
    with pytest.raises(LiaisonError, match=str(place)) as caught:
        write(place, b"content", "package")
    assert type(caught.value) is LiaisonError  # exit code 1: trying again does not help


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling"])
def test_what_is_no_regular_file_is_not_replaced_by_one(kind, tmp_path: Path) -> None:
    place, target = tmp_path / "place", tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(target)
    if kind == "link":
        target.write_bytes(b"before")
    mode = place.lstat().st_mode
    with pytest.raises(Conflict, match="no regular file"):
        replace_private(place, b"content", "package")
    assert place.lstat().st_mode == mode
    assert not target.exists() or target.read_bytes() == b"before"


def test_a_file_that_cannot_be_opened_is_no_relay_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LiaisonError, match="cannot open") as caught:
        read_private(tmp_path / "file", 9, "vault")
    assert type(caught.value) is LiaisonError
