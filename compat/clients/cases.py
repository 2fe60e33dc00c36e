"""Small cases of our own: functions run one by one, each with a time limit, each told as a JSON line."""
import json
import signal
import sys
import traceback

CASES = []
LIMIT_S = 30


def case(function):
    """Marks a case; its name is its docstring's first line or its own."""
    CASES.append((function.__name__, function))
    return function


def late(*_):
    raise TimeoutError(f"not within {LIMIT_S} s")


def main(*args):
    """Runs all cases with these arguments."""
    signal.signal(signal.SIGALRM, late)
    for name, function in CASES:
        told = {"case": name, "status": "passed"}
        signal.alarm(LIMIT_S)
        try:
            function(*args)
        except Exception as error:  # every failure of a case is an outcome
            at = traceback.extract_tb(error.__traceback__)[-1]
            told |= {"status": "failed", "why": f"{type(error).__name__}: {error} ({at.name}:{at.lineno})"[:500]}
        finally:
            signal.alarm(0)
        print(json.dumps(told), flush=True)
    sys.stdout.flush()


def same(found, wanted, what="value"):
    """Fails unless both are equal."""
    if found != wanted:
        raise AssertionError(f"{what}: {str(found)[:150]!r}, not {str(wanted)[:150]!r}")
