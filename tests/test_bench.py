"""The benchmark's own arithmetic, and that its smallest run works. What it measures is no matter of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import audit  # noqa: E402
from bench.claims import claims  # noqa: E402
from bench.figures import Claim, Measured, line_fit, middle, quantile  # noqa: E402
from bench.report import picture, put_between, table  # noqa: E402


def test_figures_are_per_unit_and_medians_of_rounds():
    rounds = [Measured(4, seconds, (0.1, 0.2, 0.3, 0.4), 1.0, 2.0, 4.0).figures() for seconds in (1.0, 8.0, 2.0)]
    found = middle(rounds)
    assert found["rate"] == 2.0
    assert (found["p50_ms"], found["p99_ms"]) == (300.0, 400.0)
    assert (found["server_us"], found["database_us"], found["generator_share"]) == (500_000, 1_000_000, 0.5)
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_a_claim_says_whether_it_holds():
    assert Claim("a / b", 2.0, 1.5, at_least=True).line() == "a / b · 2.00 (≥ 1.5) · holds"
    assert Claim("a / b", 2.0, 1.5, at_least=False).line() == "a / b · 2.00 (≤ 1.5) · does not hold"


def test_a_straight_line_is_found_and_a_bent_one_is_told():
    fixed, slope, deviation = line_fit([(1, 5.0), (10, 14.0), (100, 104.0)])
    assert (round(fixed, 6), round(slope, 6), round(deviation, 6)) == (4.0, 1.0, 0.0)
    assert line_fit([(1, 1.0), (10, 100.0), (100, 10_000.0)])[2] > 0.5


def test_ratios_are_of_the_same_run_only():
    figures = {"rate": 30.0, "p50_ms": 6.0, "p99_ms": 9.0, "server_us": 500.0, "database_us": 0.0}
    half = {"rate": 60.0, "p50_ms": 3.0, "p99_ms": 4.0, "server_us": 100.0, "database_us": 100.0}
    side = {"relay SQLite": {"accept": {"1": figures, "64": figures}}, "nats": {"send": {"1": half, "64": half}}}
    (only,) = claims({"side_by_side": side})
    assert (only.ratio, only.holds) == (0.5, True)
    found = claims({"side_by_side": {**side, "floor SQLite": {"accept": {"1": half, "64": half}}}})
    assert [each.ratio for each in found] == [0.5, 2.0, 2.5]


def test_the_audit_at_scale_claims_flat_memory_and_logarithmic_proofs():
    ran = {f"{name}_{unit}": 100.0 for name in audit.PROGRAMS for unit in ("s", "mib")}
    figures = ran | {"fill_rate": 1.0, "append_ms": 5.0, "consistency_ms": 5.0, "proof_ms": 5.0, "proof_tiles": 2.0}
    sizes = {
        str(size): figures | {"proof_hashes": height, "consistency_hashes": height + 1, "relay_mib": 70.0}
        for size, height in ((1000, 10), (10_000, 14), (1_000_000, 20))
    }
    assert all(claim.holds for claim in claims({"audit": {"claims": audit._claims(sizes)}}))
    sizes["1000000"] |= {"pull_mib": 130.0, "proof_hashes": 40}
    failed = [claim.words for claim in claims({"audit": {"claims": audit._claims(sizes)}}) if not claim.holds]
    assert [words.partition(" at ")[0] for words in failed] == ["proof of one, hashes", "memory of audit pull"]
    assert audit.table({"sizes": sizes})[-1].startswith("| 1,000,000 | 1 |")


def test_the_table_goes_between_its_markers_and_nowhere_else():
    assert put_between("a<!-- bench -->old<!-- /bench -->b", "new") == "a<!-- bench -->\nnew\n<!-- /bench -->b"
    with pytest.raises(ValueError, match="no <!-- bench -->"):
        put_between("no markers", "new")


def test_the_smallest_run_works(tmp_path):
    command = [sys.executable, "-m", "bench", "--smallest", "work", "floor", "--out", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "latest.json").read_text())
    assert {"relay SQLite", "floor SQLite"} == results["side_by_side"].keys()
    assert results["claims"]
    assert ET.fromstring(picture(results)).tag.endswith("svg")
    assert "| relay SQLite | accept, 4 clients |" in table(results)
