"""The table of docs/compatibility.md: written from what was measured, and held to it."""
from processes import Trouble

BEGIN, END = "<!-- measured: compat/run --page -->", "<!-- end of what was measured -->"
HEAD = ["| suite | version | way | tests | passed directly | passed through the mesh | differs because of the mesh |", "| --- | --- | --- | --- | --- | --- | --- |"]
OWN_HEAD = ["| suite | fails without the mesh, too |", "| --- | --- |"]


def document(verdict):
    """A verdict for --json."""
    row = verdict.row
    outcomes = {
        side: {test: [outcome.status, outcome.why] for test, outcome in (found or {}).items()}
        for side, found in (("direct", row.direct), ("mesh", row.mesh))
    }
    kept = {key: getattr(verdict, key) for key in ("compared", "passed_directly", "passed_through", "own", "broken", "differs", "stale")}
    return {"suite": row.suite, "version": row.version, "way": row.way, **kept, **outcomes}


def line(verdict):
    row = verdict.row
    cells = [row.suite, row.version, row.way, verdict.compared, verdict.passed_directly, verdict.passed_through, differing(verdict)]
    return "| " + " | ".join(map(str, cells)) + " |"


def differing(verdict):
    """Tests by reason."""
    by_reason = {}
    for test, reason in verdict.differs:
        by_reason.setdefault(reason, []).append(f"`{test.split('::')[-1]}`")
    return "; ".join(f"{', '.join(tests)}: {reason}" for reason, tests in by_reason.items()) or "none"


def own(verdicts):
    """Rows of the table of the suites' own failures by suite: each test once, whatever the way."""
    failing = {}
    for verdict in verdicts:
        failing.setdefault(verdict.row.suite, {}).update(verdict.own)
    rows = {}
    for suite, tests in failing.items():
        names = sorted({test.split("::")[-1].split("[")[0] for test in tests})
        rows[suite, "own"] = f"| {suite} | " + ", ".join(f"`{name}`" for name in names) + " |" if names else None
    return rows


def table(verdicts, said):
    """All lines; rows of suites that did not run stay as they are."""
    kept = {key(text): text for text in said if text.startswith("| ") and text not in HEAD + OWN_HEAD}
    rows = {**kept, **{key(line(verdict)): line(verdict) for verdict in verdicts}, **own(verdicts)}
    measured = [text for where, text in rows.items() if where[1] != "own"]
    failing = [text for where, text in rows.items() if where[1] == "own" and text]
    return [*HEAD, *measured, *(["", *OWN_HEAD, *failing] if failing else [])]


def parts(path):
    """What stands before, within and after the marks."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise Trouble(f"{path}: it must hold '{BEGIN}' and '{END}' once each")
    before, rest = text.split(BEGIN)
    within, after = rest.split(END)
    return before, within.strip().splitlines(), after


def write(path, verdicts):
    before, said, after = parts(path)
    path.write_text("\n".join([before + BEGIN, *table(verdicts, said), END]) + after)


def differences(path, verdicts, whole):
    """What the page says otherwise than measured; `whole` if all suites ran, so that no row may be left over."""
    _, said, _ = parts(path)
    rows = {key(text): text for text in said if text.startswith("| ")}
    wrong, met = [], set()
    for verdict in verdicts:
        text = line(verdict)
        met.add(key(text))
        told = rows.get(key(text))
        if told is None:
            wrong.append(f"{path} lacks: {text}")
        elif held(told, verdict.row.pinned) != held(text, verdict.row.pinned):
            wrong.append(f"{path} says: {told}\n  measured: {text}")
    if whole:
        known = {key(text) for text in (HEAD + OWN_HEAD)} | {key(text) for text in said if text.count("|") == 3}
        wrong += [f"{path} has a row that nothing measured: {rows[left]}" for left in rows.keys() - met - known]
    return wrong


def key(text):
    """Suite and way."""
    cells = [cell.strip() for cell in text.strip("|").split(" | ")]
    return (cells[0], cells[2]) if len(cells) > 3 else (cells[0], "own")


def held(text, pinned):
    """What of a row must be as measured: the version of a Debian package moves with its updates."""
    cells = [cell.strip() for cell in text.strip("|").split(" | ")]
    return cells if pinned else cells[:1] + cells[2:]
