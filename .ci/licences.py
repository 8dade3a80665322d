"""Every licence in the CycloneDX SBOMs that are named, against licences.toml; exit 1 names each that is not allowed.

A licence is what the package's own metadata declares, word for word. What declares none is refused, and so is what is
written as no one has read it yet: an expression with brackets, or a classifier in the place of an SPDX identifier.
"""

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """SPDX without brackets: AND binds closer than OR, of which one side is enough."""
    return any(all(term in allowed for term in side.split(" AND ")) for side in expression.split(" OR "))


def declared(component: dict[str, Any]) -> list[str]:
    entries = [each.get("license", each) for each in component.get("licenses", [])]
    return [entry.get("id") or entry.get("expression") or entry.get("name", "") for entry in entries]


def refused(sbom: dict[str, Any], known: dict[str, Any]) -> Iterator[str]:
    """A line for each package whose licence is missing or not allowed."""
    for component in sbom["components"]:
        allowed = {*known["allowed"], *known["of"].get(component["name"], [])}
        licences = declared(component)
        if not licences:
            yield f"{component['name']} {component['version']}: no licence"
        for licence in licences:
            if not is_allowed(licence, allowed):
                yield f"{component['name']} {component['version']}: {licence!r:.80} is not allowed"


def main(paths: list[str]) -> int:
    known = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    faults = 0
    for path in paths:
        sbom = json.loads(Path(path).read_text())
        lines = [*refused(sbom, known)] if sbom["components"] else ["no package in it"]
        faults += len(lines)
        for line in lines or [f"{len(sbom['components'])} packages, each licence allowed"]:
            print(f"{path}: {line}")
    return 1 if faults or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
