"""Everything configurable, with defaults that work on a laptop: flags, then `RELAY_*`, then these."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Files named like the variables, relay_database: where systemd's credentials and containers' secrets are mounted.
_SECRETS = next((d for d in (os.environ.get("CREDENTIALS_DIRECTORY"), "/run/secrets") if d and Path(d).is_dir()), None)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RELAY_", extra="ignore", secrets_dir=_SECRETS)

    data: Path = user_data_path("liaison-relay")
    host: str = "127.0.0.1"
    port: int = 8440
    database: str | None = None  # default: SQLite in the data folder
    public_url: str | None = None  # the one address clients use, if a proxy stands in front
    name: str | None = None  # origin of the logs; chosen once, when the database is new
    workers: int = 1
    one_core: bool = True  # for all threads of a worker; see relay/cores.py
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # default: no metrics; worker n has this port + n
    log_level: Literal["debug", "info", "warning", "error"] = "info"  # debug: a line per request
    proxies: str = "127.0.0.1,::1"  # whose X-Forwarded-For is believed, comma-separated addresses and networks
    drain_seconds: int = Field(20, ge=0)  # for what is in flight when told to stop
    drain_notice: float = Field(0, ge=0)  # seconds of serving on while /ready says no, for a balancer to notice
    # A minute each, and at once after a pause; 0 is no limit. Per principal, and per office where it says so.
    quota_messages: int = Field(6_000, ge=0)
    quota_burst: int = Field(12_000, ge=1)
    quota_office_messages: int = Field(60_000, ge=0)
    quota_office_burst: int = Field(120_000, ge=1)
    quota_opens: int = Field(12_000, ge=0)
    quota_claims: int = Field(60_000, ge=0)  # devices' keys
    quota_key_batches: int = Field(60, ge=0)  # of one's own keys: each is in the directory for good
    quota_office_octets: int = Field(10 * 1024**3, ge=0)  # of large parts stored
    quota_failures: int = Field(600, ge=0)  # requests that fail authentication, per peer address
    parts: str | None = None  # where large parts lie: a folder or s3://BUCKET/PREFIX; default: in the data folder
    witness_policy: Path | None = None  # C2SP tlog-policy: who cosigns our checkpoints, with URLs
    witness_logs: Path | None = None  # verifier keys of the logs whose checkpoints we cosign
    partition_days: int = Field(28, ge=1)  # of messages in a partition; PostgreSQL only, of partitions yet to be made
    partition_entries: int = Field(1 << 24, ge=1)  # of the access log, likewise
    sweep_every: float = 3600  # seconds between sweeps of what is due for destruction

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'relay.sqlite'}"

    @property
    def parts_place(self) -> str:
        return self.parts or str(self.data / "parts")
