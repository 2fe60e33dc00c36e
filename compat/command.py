"""The command line of compat/run."""
import argparse
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import install
import page
from kit import Kit
from outcomes import Expectations, compare
from places import Places
from processes import Processes, Trouble

HERE = pathlib.Path(__file__).parent
# In this order.
SUITES = ["redis", "requests", "httpx", "aiohttp", "websockets", "grpc", "postgres", "mariadb", "curl", "load", "dns", "udp", "edges"]


def main(argv):
    """Exit 0: nothing that only the mesh breaks; 1: something is broken, or could not run; 2: usage."""
    told = arguments(argv)
    if told.list:
        for name in SUITES:
            print(f"{name:12}{load(name).__doc__.splitlines()[0]}")
        return 0
    unknown = [name for name in told.suites if name not in SUITES]
    if unknown:
        print(f"compat/run: no suite {' '.join(unknown)}; there are {' '.join(SUITES)}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    try:
        return measure(told)
    except Trouble as trouble:
        print(f"compat/run: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def arguments(argv):
    parser = argparse.ArgumentParser(prog="compat/run", description=sys.modules["__main__"].__doc__)
    parser.add_argument("suites", nargs="*", help="all if none is named")
    parser.add_argument("--list", action="store_true", help="which suites there are")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--direct", action="store_true", help="without the mesh only")
    only.add_argument("--mesh", action="store_true", help="through the mesh only")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all outcomes there")
    parser.add_argument("--check", type=pathlib.Path, metavar="PAGE", help="fail if the table of this page says otherwise")
    parser.add_argument("--page", type=pathlib.Path, metavar="PAGE", help="write what was measured into this page's table")
    parser.add_argument("--keep", type=pathlib.Path, metavar="DIR", help="leave logs and files of the nodes there")
    return parser.parse_args(argv)


def load(name):
    return importlib.import_module(f"suites.{name}")


def say(words):
    print(words, file=sys.stderr, flush=True)


def starling():
    """The program under test: STARLING_BIN, or cargo's debug build, which tests have built already."""
    told = os.environ.get("STARLING_BIN")
    if told:
        return pathlib.Path(told).resolve(strict=True)
    root = HERE.parent
    if subprocess.run(["cargo", "build", "--quiet", "-p", "starling"], cwd=root, check=False).returncode != 0:
        raise Trouble("starling could not be built; STARLING_BIN names one that is")
    target = json.loads(install.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=root))["target_directory"]
    return pathlib.Path(target) / "debug/starling"


def measure(told):
    """Runs the suites, one after the other; each has its own nodes and servers."""
    names = told.suites or SUITES
    suites = {name: load(name) for name in names}
    install.programs([need for suite in suites.values() for need in suite.PROGRAMS], say)
    binary, places, expectations = starling(), Places(), Expectations()
    verdicts, troubles = [], []
    for name, suite in suites.items():
        began = time.monotonic()
        rows, trouble = one(name, suite, binary, places, told)
        found = [compare(row, expectations) for row in rows]
        verdicts += found
        for verdict in found:
            tell(verdict)
        troubles += [f"{name}: {words}" for words in trouble]
        for words in trouble:
            say(f"  TROUBLE {words}")
        say(f"{name}: {time.monotonic() - began:.0f} s")
    if told.json:
        told.json.write_text(json.dumps([page.document(verdict) for verdict in verdicts], indent=1) + "\n")
    if told.page and not troubles and not any(verdict.broken for verdict in verdicts):
        page.write(told.page, verdicts)
    if told.check:
        troubles += page.differences(told.check, verdicts, whole=not told.suites)
    return conclude(verdicts, troubles)


def one(name, suite, binary, places, told):
    """Rows of a suite, and what went wrong beside them."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="starling-compat-"))
    work.chmod(0o755)
    processes = Processes(work)
    kit = Kit(binary, work, processes, places, (not told.mesh, not told.direct), say)
    kit.limit_s = suite.LIMIT_S
    trouble = []
    say(f"{name} …")
    try:
        suite.run(kit)
    except (Trouble, OSError) as error:
        trouble.append(str(error))
    finally:
        processes.close()
        if told.keep:
            shutil.copytree(work, told.keep / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("identity", "data", "*.sock", "ca", "server-*"))
        shutil.rmtree(work, ignore_errors=True)
    return kit.rows, trouble + kit.ends


def tell(verdict):
    """One row, and each test that failed in it."""
    row = verdict.row
    say(f"  {row.suite} {row.version}, {row.way}: {verdict.passed_directly} directly, {verdict.passed_through} through the mesh, of {verdict.compared}")
    for test, why in verdict.own:
        say(f"    own failure: {test}: {why[:160]}")
    if row.direct is None:
        for test, outcome in row.mesh.items():
            say(f"    failure: {test}: {outcome.why[:300]}") if outcome.status == "failed" else None
    for test, reason in verdict.differs:
        say(f"    differs: {test}: {reason}")
    for test in verdict.stale:
        say(f"    NO LONGER DIFFERS: {test}")
    for test, why in verdict.broken:
        say(f"    BROKEN BY THE MESH: {test}: {why}")


def conclude(verdicts, troubles):
    """The last words, and the exit status."""
    broken = sum(len(verdict.broken) + len(verdict.stale) for verdict in verdicts)
    passed = sum(verdict.passed_through for verdict in verdicts)
    for words in troubles:
        say(f"FAILED: {words}")
    say(f"compat: {passed} tests passed through the mesh, {broken} differ unexpectedly, {len(troubles)} troubles")
    return 1 if broken or troubles else 0
