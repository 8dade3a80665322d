"""Everything configurable, with defaults that work on a laptop: flags, then `RELAY_*`, then these."""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, FilePath, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.tlog import check_origin

if TYPE_CHECKING:
    from sqlalchemy import URL

# Files named like the variables, relay_database: where systemd's credentials and containers' secrets are mounted.
_SECRETS = next((d for d in (os.environ.get("CREDENTIALS_DIRECTORY"), "/run/secrets") if d and Path(d).is_dir()), None)

_Text = Annotated[str, Field(min_length=1)]  # a variable that is set to nothing is a mistake, not the default
_RATE = 10**9
_URL = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?/?")
_PORTS = {"http": 80, "https": 443}


def _own_folder() -> Path:
    """Of this account. Raises LiaisonError if it has no home, as systemd's dynamic users may have none."""
    try:
        return user_data_path("liaison-relay")
    except RuntimeError:
        raise LiaisonError("this account has no home for a data folder", hint="give --data or RELAY_DATA") from None


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RELAY_", extra="ignore", secrets_dir=_SECRETS)

    data: Path = Field(default_factory=_own_folder)
    host: _Text = "127.0.0.1"
    port: int = Field(8440, ge=0, le=65535)
    database: _Text | None = None  # default: SQLite in the data folder
    public_url: str | None = None  # the one address clients use, if a proxy stands in front
    name: _Text | None = None  # origin of the logs; chosen once, when the database is new
    workers: int = Field(1, ge=1, le=64)
    one_core: bool = True  # for all threads of a worker; see relay/pipeline/cores.py
    metrics_host: _Text = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=1, le=65535)  # default: no metrics; worker n has this port + n
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # debug: a line per request
    proxies: str = "127.0.0.1,::1"  # whose X-Forwarded-For is believed, comma-separated addresses and networks
    drain_seconds: int = Field(20, ge=0, le=3600)  # for what is in flight when told to stop
    # seconds of serving on while /ready says no, for a balancer to notice
    drain_notice: float = Field(0, ge=0, le=3600, allow_inf_nan=False)
    # A minute each, and at once after a pause; 0 is no limit. Per principal, and per office where it says so.
    quota_messages: int = Field(6_000, ge=0, le=_RATE)
    quota_burst: int = Field(12_000, ge=1, le=_RATE)
    quota_office_messages: int = Field(60_000, ge=0, le=_RATE)
    quota_office_burst: int = Field(120_000, ge=1, le=_RATE)
    quota_opens: int = Field(12_000, ge=0, le=_RATE)
    quota_claims: int = Field(60_000, ge=0, le=_RATE)  # devices' keys
    quota_key_batches: int = Field(60, ge=0, le=_RATE)  # of one's own keys: each is in the directory for good
    quota_publications: int = Field(60, ge=0, le=_RATE)  # of an office, and as many revocations; words on holds
    quota_publications_burst: int = Field(10_000, ge=1, le=_RATE)  # an office that is set up
    quota_office_octets: int = Field(10 * 1024**3, ge=0, le=1 << 60)  # of large parts stored
    quota_failures: int = Field(600, ge=0, le=_RATE)  # requests that fail authentication, per peer address
    parts: _Text | None = None  # where large parts lie: a folder or s3://BUCKET/PREFIX; default: in the data folder
    witness_policy: FilePath | None = None  # C2SP tlog-policy: who cosigns our checkpoints, with URLs
    witness_logs: FilePath | None = None  # verifier keys of the logs whose checkpoints we cosign
    # of messages in a partition; PostgreSQL only, of partitions yet to be made
    partition_days: int = Field(28, ge=1, le=36_500)
    partition_entries: int = Field(1 << 24, ge=1, le=1 << 40)  # of the access log, likewise
    # seconds between sweeps of what is due for destruction
    sweep_every: float = Field(3600, ge=0.1, le=3 * 86400, allow_inf_nan=False)

    @field_validator("database")
    @classmethod
    def _read_database(cls, url: str | None) -> str | None:
        from sqlalchemy import make_url  # noqa: PLC0415 - keeps `relay --help` quick
        from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

        try:
            known = url is None or _is_known(make_url(url))
        except (ArgumentError, ValueError):  # another port than a number
            known = False
        if not known:  # without the URL: a password may be in it
            raise ValueError("no database's URL, such as sqlite:////FOLDER/FILE or postgresql://USER@HOST/NAME")
        return url

    @field_validator("name")
    @classmethod
    def _read_name(cls, name: str | None) -> str | None:
        try:
            fits = name is None or len(check_origin(f"{name}/directory", "name").encode()) <= 255  # the longest of it
        except Malformed:
            fits = False
        if not fits:
            raise ValueError("no origin of a log, such as relay.example: printable, no space, no plus, 245 octets")
        return name

    @field_validator("public_url")
    @classmethod
    def _read_public_url(cls, url: str | None) -> str | None:
        """As clients spell it in Host: lower case, without the port that goes without saying."""
        if url is None:
            return None
        found = _URL.fullmatch(url.lower())
        if found is None or int(found[3] or 0) > 65535:
            raise ValueError("not the one address of the relay, such as https://relay.example: no path, no user, ASCII")
        scheme, host, port = found.groups()
        return f"{scheme}://{host_and_port(scheme, host, int(port or _PORTS[scheme]))}"

    @field_validator("proxies")
    @classmethod
    def _read_proxies(cls, proxies: str) -> str:
        for each in proxies.split(","):
            try:
                ip_network(each.strip())
            except ValueError:  # uvicorn would take it for a name that no peer has, and "*" for everybody
                raise ValueError("not addresses and networks with commas between, such as 10.0.0.0/8,::1") from None
        return proxies

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'relay.sqlite'}"

    @property
    def parts_place(self) -> str:
        return self.parts or str(self.data / "parts")


def host_and_port(scheme: str, host: str, port: int) -> str:
    """What a client's Host header says, who leaves away the port that goes without saying."""
    return host if port == _PORTS[scheme] else f"{host}:{port}"


def _is_known(url: URL) -> bool:
    """A file by Python's own driver, or a server by psycopg. What lies in memory is each connection's own."""
    if url.get_backend_name() == "sqlite":
        return url.drivername in {"sqlite", "sqlite+pysqlite"} and url.database not in {None, "", ":memory:"}
    return url.drivername in {"postgresql", "postgresql+psycopg"}
