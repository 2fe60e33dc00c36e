"""What suites need, by the ordinary clients: apt-get, pip into a venv, npm into a directory; kept in a cache."""
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

from processes import Trouble, ended, run

HERE = pathlib.Path(__file__).parent
# Directories that an ordinary user's PATH often lacks.
SYSTEM = "/usr/sbin:/sbin:/usr/local/sbin"
INSTALL_S = 900


def cache():
    """A directory that outlives the run; STARLING_COMPAT_CACHE names another."""
    told = os.environ.get("STARLING_COMPAT_CACHE")
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    path = pathlib.Path(told) if told else base / "starling-compat"
    path.mkdir(parents=True, exist_ok=True)
    return path


def find(command):
    """A program on the PATH, or where Debian keeps servers."""
    paths = [os.environ.get("PATH", ""), SYSTEM, *map(str, sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin")))]
    return shutil.which(command, path=":".join(paths))


def programs(needed, say):
    """`command:package` each: what is missing is installed from Debian."""
    missing = sorted({need.split(":")[1] for need in needed if not find(need.split(":")[0])})
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    run([*root, "apt-get", "update", "-qq"], INSTALL_S)
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    run([*quiet, *missing], INSTALL_S)
    absent = [need for need in needed if not find(need.split(":")[0])]
    if absent:
        raise Trouble(f"not there after installing: {' '.join(absent)}")


def debian(package):
    """Version of an installed package, without Debian's own part."""
    version = run(["dpkg-query", "-W", "-f", "${Version}", package])
    return version.split(":")[-1].split("-")[0].split("+")[0]


class Built:
    """A directory of the cache, named by what it was made from, made once and whole or not at all."""

    def __init__(self, kind, *sources):
        digest = hashlib.sha256(b"\0".join(source.encode() for source in sources)).hexdigest()[:16]
        self.path = cache() / f"{kind}-{digest}"

    def make(self, build):
        done = self.path / ".complete"
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(self.path, ignore_errors=True)
                self.path.mkdir()
                build(self.path)
                done.touch()
        return self.path


def venv(say):
    """Python of a venv that holds requirements.txt."""
    wanted = HERE / "requirements.txt"

    def build(path):
        say("installing Python packages")
        done = ended(["python3", "-m", "venv", path], INSTALL_S)
        if done.returncode != 0:
            programs(["ensurepip-of-venv:python3-venv"], say) if not has_ensurepip() else None
            run(["python3", "-m", "venv", "--clear", path], INSTALL_S)
        run([path / "bin/pip", "install", "-q", "--only-binary", ":all:", "--no-deps", "-r", wanted], INSTALL_S)

    return Built("venv", wanted.read_text(), run(["python3", "--version"])).make(build) / "bin/python"


def has_ensurepip():
    return subprocess.run(["python3", "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0


def version(package):
    """The pinned version of a Python package."""
    for line in (HERE / "requirements.txt").read_text().splitlines():
        name, _, pinned = line.partition("==")
        if name == package:
            return pinned
    raise Trouble(f"{package} is not in requirements.txt")


def source(package, pinned, python, say):
    """The unpacked source of a Python package, for the tests it holds."""

    def build(path):
        say(f"fetching the source of {package} {pinned}")
        wanted = ["--no-deps", "--no-binary", package, "-d", path, f"{package}=={pinned}"]
        run([python, "-m", "pip", "download", "-q", *wanted], INSTALL_S)
        for archive in path.glob("*.tar.gz"):
            with tarfile.open(archive) as tar:
                tar.extractall(path, filter="data")
            archive.unlink()

    path = Built("source", package, pinned).make(build)
    return next(entry for entry in path.iterdir() if entry.is_dir())


def npm(say):
    """A directory with the node_modules of package.json."""
    wanted = [HERE / "package.json", HERE / "package-lock.json"]

    def build(path):
        say("installing packages for Node.js")
        for file in wanted:
            shutil.copy(file, path)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], INSTALL_S, cwd=path)

    return Built("npm", *(file.read_text() for file in wanted)).make(build)


def npm_version(package):
    """The pinned version of a package for Node.js."""
    return json.loads((HERE / "package.json").read_text())["dependencies"][package]
