"""cyclonedx-py's SBOM from standard input to standard output, with what only pip's reports know, and valid.

    sbom.py REPORT... < SBOM

That is each archive's SHA-256, as it was downloaded, and the version of the root component, which pyproject.toml does
not hold. A package that no report has, and a document that is no valid CycloneDX 1.6, are an error.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def complete(sbom: dict[str, Any], reports: list[dict[str, Any]]) -> None:
    installed = {each["metadata"]["name"]: each for report in reports for each in report["install"]}
    root = sbom["metadata"]["component"]
    root["version"] = installed[root["name"]]["metadata"]["version"]
    root["purl"] = f"pkg:pypi/{root['name']}@{root['version']}"
    for component in sbom["components"]:
        archive = installed[component["name"]]["download_info"]["archive_info"]
        component["hashes"] = [{"alg": "SHA-256", "content": archive["hashes"]["sha256"]}]


def main(reports: list[str]) -> str | None:
    sbom = json.load(sys.stdin)
    complete(sbom, [json.loads(Path(report).read_text()) for report in reports])
    text = json.dumps(sbom, indent=2)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        return f"sbom.py: not valid: {fault}"
    print(text)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
