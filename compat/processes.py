"""What a run starts, and that it ends with the run, however that ends."""
import contextlib
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time

# How long a program may take to end by itself after SIGTERM.
GRACE_S = 10


class Trouble(Exception):
    """Something that keeps a suite from saying anything; told to the user as it stands."""


class Child:
    """A program in a process group of its own, its output in a file."""

    def __init__(self, name, popen, log):
        self.name, self.popen, self.log = name, popen, log

    def tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def running(self):
        return self.popen.poll() is None

    def stop(self, first=signal.SIGTERM):
        """Ends it and all that it started; its exit status."""
        status = None
        with contextlib.suppress(ProcessLookupError):
            if self.running():
                self.popen.send_signal(first)
        try:
            status = self.popen.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        return status


class Processes:
    """All that was started, ended last first."""

    def __init__(self, logs):
        self.logs, self.children = pathlib.Path(logs), []

    def start(self, name, argv, user=None, **options):
        """Starts a program; as `user` where this is root."""
        log = self.logs / f"{len(self.children):03}-{name}.log"
        argv = ["setpriv", "--pdeathsig", "KILL", *as_user(user), *map(str, argv)]
        with log.open("wb") as out:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **options}
            popen = subprocess.Popen(argv, start_new_session=True, **options)
        child = Child(name, popen, log)
        self.children.append(child)
        return child

    def stop(self, child, first=signal.SIGTERM):
        return child.stop(first)

    def close(self):
        for child in reversed(self.children):
            child.stop()


def as_user(user):
    """Arguments of setpriv that make a program run as this user, which only root needs."""
    if user is None or os.getuid() != 0:
        return []
    group = pwd.getpwnam(user).pw_gid
    return ["--reuid", user, "--regid", str(group), "--init-groups"]


def own(path, user):
    """Gives a directory to the user a program runs as, where this is root."""
    if os.getuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def run(argv, limit_s=60, user=None, **options):
    """Runs a program to its end and gives what it wrote to stdout; a failure is trouble, with its words."""
    argv = [*map(str, argv)]
    if as_user(user):
        argv = ["setpriv", *as_user(user), *argv]
    done = ended(argv, limit_s, **options)
    if done.returncode != 0:
        words = (done.stderr or done.stdout or "").strip()[-2000:]
        raise Trouble(f"{' '.join(argv[:6])}: exit {done.returncode}: {words}")
    return done.stdout


def ended(argv, limit_s, **options):
    """Runs a program to its end, in a group of its own that ends with it or with its time."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen([*map(str, argv)], start_new_session=True, errors="replace", **options) as popen:
        try:
            out, err = popen.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(popen.pid, signal.SIGKILL)
            out, err = popen.communicate()
            err = f"{err or ''}\nnot within {limit_s} s"
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(argv, popen.returncode, out, err)


def until(what, condition, limit_s=30, child=None):
    """Waits until a condition holds; it is looked at often, and time alone is never enough."""
    end = time.monotonic() + limit_s
    while not condition():
        if child is not None and not child.running():
            raise Trouble(f"{child.name} ended while waiting for: {what}\n{child.tail()}")
        if time.monotonic() > end:
            told = f"\n{child.tail()}" if child else ""
            raise Trouble(f"not within {limit_s} s: {what}{told}")
        time.sleep(0.02)


def accepts(place):
    """Does a server accept connections there?"""
    with contextlib.suppress(OSError), socket.create_connection(place, 1):
        return True
    return False
