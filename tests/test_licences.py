"""What the continuous integration says of the licences in an SBOM. The real ones are made by .ci/run itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / ".ci" / "licences.py"


def check(folder, *components):
    sbom = folder / "relay.cdx.json"
    sbom.write_text(json.dumps({"bomFormat": "CycloneDX", "components": list(components)}))
    done = subprocess.run([sys.executable, CHECK, sbom], capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def package(name, *licences):
    return {"name": name, "version": "1.2", "licenses": list(licences)}


def spdx(identifier):
    return {"license": {"id": identifier, "acknowledgement": "declared"}}


def expression(text):
    return {"expression": text, "acknowledgement": "declared"}


def test_allowed_licences_pass(tmp_path):
    code, said = check(
        tmp_path,
        package("one", spdx("MIT")),
        package("two", expression("MIT OR GPL-2.0-only AND SSPL-1.0")),
        package("three", expression("Apache-2.0 AND BSD-2-Clause")),
        package("psycopg", spdx("LGPL-3.0-only")),
    )
    assert code == 0
    assert "4 packages, each licence allowed" in said


@pytest.mark.parametrize(
    ("licence", "named"),
    [
        (spdx("AGPL-3.0-only"), "AGPL-3.0-only"),
        (spdx("LGPL-3.0-only"), "LGPL-3.0-only"),  # psycopg's, and no other's
        (expression("MIT AND GPL-3.0-only"), "MIT AND GPL-3.0-only"),
        (expression("(MIT)"), "(MIT)"),
        ({"license": {"name": "as in LICENSE"}}, "as in LICENSE"),
    ],
)
def test_a_licence_that_is_not_allowed_is_named_with_its_package(tmp_path, licence, named):
    code, said = check(tmp_path, package("good", spdx("MIT")), package("stranger", licence))
    assert code == 1
    assert f"stranger 1.2: '{named}' is not allowed" in said
    assert "good" not in said


def test_each_of_several_declared_licences_counts(tmp_path):
    code, said = check(tmp_path, package("stranger", spdx("MIT"), spdx("SSPL-1.0")))
    assert code == 1
    assert "stranger 1.2: 'SSPL-1.0' is not allowed" in said


@pytest.mark.parametrize("nothing", [package("stranger"), {"name": "stranger", "version": "1.2"}])
def test_a_package_without_a_licence_is_refused(tmp_path, nothing):
    code, said = check(tmp_path, package("good", spdx("MIT")), nothing)
    assert code == 1
    assert "stranger 1.2: no licence" in said


def test_a_licence_entry_that_says_nothing_is_refused(tmp_path):
    assert check(tmp_path, package("stranger", {"license": {}}))[0] == 1


def test_an_sbom_of_nothing_proves_nothing(tmp_path):
    code, said = check(tmp_path)
    assert code == 1
    assert "no package in it" in said
