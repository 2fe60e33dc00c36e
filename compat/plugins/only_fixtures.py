"""Keeps, of a suite, the tests that use a fixture which leads to a server, since the others touch no network, and none of those
whose fixtures lead elsewhere."""
import os


def names(variable):
    return {name for name in os.environ.get(variable, "").split(",") if name}


def pytest_collection_modifyitems(config, items):
    wanted, unwanted = names("COMPAT_ONLY_FIXTURES"), names("COMPAT_WITHOUT_FIXTURES")

    def counts(item):
        used = set(getattr(item, "fixturenames", ()))
        return (not wanted or wanted & used) and not unwanted & used

    kept = [item for item in items if counts(item)]
    config.hook.pytest_deselected(items=[item for item in items if not counts(item)])
    items[:] = kept
