"""What each test said, directly and through the mesh, and what of it is the mesh's doing."""
import fnmatch
import pathlib
import tomllib
from dataclasses import dataclass, field

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass
class Outcome:
    """Of one test; `why` says what went wrong."""

    status: str
    why: str = ""


@dataclass
class Measured:
    """One row: a suite over one way."""

    suite: str
    version: str
    way: str
    # Test name to outcome; None where it was not asked for.
    direct: dict | None
    mesh: dict | None
    # Version that is pinned, so that the page can be held to it; that of a Debian package moves by itself.
    pinned: bool = True


@dataclass
class Verdict:
    """What a row comes to."""

    row: Measured
    compared: int = 0
    passed_directly: int = 0
    passed_through: int = 0
    # (test, why) of the suite's own, without the mesh too.
    own: list = field(default_factory=list)
    # (test, why) that only the mesh has and nobody expects.
    broken: list = field(default_factory=list)
    # (test, reason) that is expected to differ, and does.
    differs: list = field(default_factory=list)
    # Expected to differ, and does not.
    stale: list = field(default_factory=list)


class Expectations:
    """expected.toml: differences that have a reason, and tests that say now this, now that without the mesh."""

    def __init__(self, path=pathlib.Path(__file__).parent / "expected.toml"):
        told = tomllib.loads(path.read_text())
        self.differs, self.unsteady = told.get("differs", []), told.get("unsteady", [])

    @staticmethod
    def find(entries, row, test):
        for entry in entries:
            way = entry.get("way", "*")
            if entry["suite"] == row.suite and fnmatch.fnmatch(row.way, way) and fnmatch.fnmatchcase(test, entry["test"]):
                return entry
        return None


def compare(row, expectations):
    """Test by test. Nothing is judged where only one side ran."""
    verdict = Verdict(row)
    judged = None not in (row.direct, row.mesh)
    for test in sorted({**(row.direct or {}), **(row.mesh or {})}):
        if expectations.find(expectations.unsteady, row, test):
            continue
        there, here = status(row.direct, test), status(row.mesh, test)
        if {there, here} <= {SKIPPED, None}:
            continue
        verdict.compared += 1
        verdict.passed_directly += there == PASSED
        verdict.passed_through += here == PASSED
        if there == FAILED:
            verdict.own.append((test, row.direct[test].why))
        if not judged:
            continue
        expected = expectations.find(expectations.differs, row, test)
        if here in (there, PASSED):
            if expected:
                verdict.stale.append(test)
        elif expected:
            verdict.differs.append((test, expected["reason"]))
        else:
            why = row.mesh[test].why if test in row.mesh else "it did not run"
            verdict.broken.append((test, f"{here or 'missing'}: {why}"))
    return verdict


def status(outcomes, test):
    outcome = (outcomes or {}).get(test)
    return outcome.status if outcome else None
