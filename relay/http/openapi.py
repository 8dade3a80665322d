"""The OpenAPI document that is kept beside this module. `python -m relay.http.openapi` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .app import describe
from .responses import PROBLEM, SIGNED

KEPT = Path(__file__).with_name("openapi.json")
_LOG = "/v1/log/{log}"
PUBLIC = {  # asked by anybody, signed by nobody
    "/health", "/ready", "/v1/relay", "/add-checkpoint",
    f"{_LOG}/checkpoint", f"{_LOG}/consistency", f"{_LOG}/tile/{{level}}/{{path}}",
}  # fmt: skip


def schema() -> dict[str, Any]:
    """The application's own schema, what a problem is and how a request is signed, less what FastAPI adds.

    That is a 422, where ours is a 400, and JSON beside the one media type that an answer has.
    """
    found = describe().openapi()
    for path, methods in found["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
            operation["security"] = [] if path in PUBLIC else [{"device": []}]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]
            for content in (response.get("content", {}) for response in responses.values()):
                if len(content) > 1:
                    content.pop("application/json", None)
    schemas = found["components"]["schemas"]
    del schemas["HTTPValidationError"], schemas["ValidationError"]
    schemas["Problem"] = PROBLEM
    found["components"]["securitySchemes"] = {"device": SIGNED}
    return found


def document() -> str:
    """The document as it is kept: sorted, so that a changed route changes its own lines only."""
    return json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    KEPT.write_text(document(), encoding="utf-8")
