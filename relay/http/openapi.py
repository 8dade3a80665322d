"""The OpenAPI document that is kept beside this module. `python -m relay.http.openapi` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from .app import describe

KEPT = Path(__file__).with_name("openapi.json")


def document() -> str:
    """The document as it is kept: sorted, so that a changed route changes its own lines only."""
    return json.dumps(describe().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    KEPT.write_text(document(), encoding="utf-8")
