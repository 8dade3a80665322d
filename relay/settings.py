"""Everything configurable, with defaults that work on a laptop: flags, then `RELAY_*`, then these."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RELAY_", extra="ignore")

    data: Path = user_data_path("liaison-relay")
    host: str = "127.0.0.1"
    port: int = 8440
    database: str | None = None  # default: SQLite in the data folder
    public_url: str | None = None  # the one address clients use, if a proxy stands in front
    name: str | None = None  # origin of the logs; chosen once, when the database is new
    workers: int = 1
    sweep_every: float = 3600  # seconds between sweeps of what is due for destruction

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data / 'relay.sqlite'}"
