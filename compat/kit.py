"""What a suite is given: programs, places, nodes, and ways to run tests."""
import json
import os
import pathlib
import re
import threading
import xml.etree.ElementTree as xml
from concurrent.futures import ThreadPoolExecutor

import install
from outcomes import FAILED, PASSED, SKIPPED, Measured, Outcome
from pair import Pair
from processes import Trouble, ended, run

HERE = pathlib.Path(__file__).parent
PLUGINS = HERE / "plugins"


class Kit:
    """One for a suite; `work` goes with it."""

    def __init__(self, starling, work, processes, places, ways, say):
        self.starling, self.work, self.processes, self.places = starling, work, processes, places
        self.direct_wanted, self.mesh_wanted = ways
        self.say, self.ends, self.limit_s, self.counts = say, [], 120, {}
        self.rows, self.lock = [], threading.Lock()

    def directory(self, name):
        """A new one, that other users may enter."""
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1
            path = self.work / f"{name}-{self.counts[name]}"
        path.mkdir(mode=0o755)
        return path

    def authority(self):
        """The root of the mesh, made once."""
        path = self.work / "ca"
        if not path.exists():
            run([self.starling, "ca", "init", "--dir", path, "--trust-domain", "compat.example"])
        return path

    def pair(self, *services, **more):
        return Pair(self, list(services), **more)

    def start(self, name, argv, **options):
        return self.processes.start(name, argv, **options)

    @property
    def python(self):
        return install.venv(self.say)

    @staticmethod
    def together(*measures, most=4):
        """Runs those that are wanted side by side, up to `most` of them, and gives what each gave; None for the others."""
        with ThreadPoolExecutor(most) as pool:
            started = [measure and pool.submit(measure) for measure in measures]
            return [one.result() if one else None for one in started]

    def directly(self, measure):
        """Outcomes without the mesh, where wanted."""
        return measure() if self.direct_wanted else None

    def through(self, measure):
        """Outcomes through the mesh, where wanted."""
        return measure() if self.mesh_wanted else None

    def row(self, suite, version, way, direct, mesh, pinned=True):
        """Tells what was measured."""
        self.rows.append(Measured(suite, version, way, direct, mesh, pinned))

    def cases(self, script, *args, program=None, env=None):
        """Runs a script of ours that writes one JSON line a case."""
        program = program or self.python
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        done = ended([program, HERE / "clients" / script, *args], self.limit_s, env=env)
        outcomes = {}
        for line in done.stdout.splitlines():
            if line.startswith('{"case"'):
                told = json.loads(line)
                outcomes[told["case"]] = Outcome(told["status"], told.get("why", ""))
        if done.returncode != 0 or not outcomes:
            bad = [f"{name}: {outcome.why}" for name, outcome in outcomes.items() if outcome.status == FAILED]
            told = f"exit {done.returncode} after {len(outcomes)} cases: {done.stderr[-2000:]}"
            raise Trouble("\n  ".join([f"{script} {' '.join(map(str, args))}: {told}", *bad]))
        return outcomes

    def pytest(self, directory, files, args=(), env=None, plugin=None, only=(), without=()):
        """Runs a suite's own tests with pytest; only those that use a fixture of `only` and none of `without`."""
        report = self.directory("junit") / "report.xml"
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(PLUGINS), **(env or {})}
        env |= {"COMPAT_ONLY_FIXTURES": ",".join(only), "COMPAT_WITHOUT_FIXTURES": ",".join(without)}
        plugins = ["-p", "only_fixtures"] + (["-p", plugin] if plugin else [])
        shown = ["-q", "-p", "no:cacheprovider", "--color=no", "--tb=short", f"--junitxml={report}"]
        argv = [self.python, "-m", "pytest", *shown, *plugins, *args, *files]
        done = ended(argv, self.limit_s, cwd=directory, env=env)
        if not report.exists():
            raise Trouble(f"pytest in {pathlib.Path(directory).name}: exit {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
        return junit(report)


def junit(path):
    """Outcomes of a report of pytest."""
    outcomes = {}
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            outcomes[name] = Outcome(FAILED, shorten(bad.get("message") or bad.text or ""))
        elif case.find("skipped") is not None:
            outcomes[name] = Outcome(SKIPPED, case.find("skipped").get("message", ""))
        else:
            outcomes.setdefault(name, Outcome(PASSED))
    return outcomes


def shorten(text):
    return re.sub(r"\s+", " ", text).strip()[:400]
