"""MariaDB as opaque TCP, in which the server speaks first.

Its greeting comes at once, also to a client that only listens; mysqlslap's load fails no query; a blob of 16 MB goes both ways by
checksum; dumps restore the same; KILL, wrong passwords and servers' errors are told as without the mesh.
"""
import hashlib
import random
import socket
import time

import install
from outcomes import FAILED, PASSED, Outcome
from pair import Service
from processes import Trouble, accepts, ended, own, run as finish, until

PROGRAMS = ["mariadbd:mariadb-server", "mariadb-install-db:mariadb-server", "mariadb:mariadb-client", "mariadb-slap:mariadb-client"]
LIMIT_S = 100
USER = "mysql"
# A greeting that waits for the client would take a detection's whole time-out each time; this is loopback.
GREETING_S = 0.25


def serve(kit):
    place, data = kit.places.place(), kit.directory("server-mariadb")
    own(data, USER)
    plain = ["--no-defaults", f"--datadir={data}"]
    finish([install.find("mariadb-install-db"), *plain, "--auth-root-authentication-method=normal", "--skip-test-db"], 90, user=USER)
    listen = [f"--bind-address={place[0]}", f"--port={place[1]}", f"--socket={data}/sock", f"--pid-file={data}/pid"]
    more = ["--skip-name-resolve", "--max-allowed-packet=64M", "--innodb-flush-log-at-trx-commit=0", f"--plugin-dir={plugins()}"]
    server = kit.start("mariadb", [install.find("mariadbd"), *plain, *listen, *more], user=USER)
    until("mariadb accepts connections", lambda: accepts(place), 60, server)
    allow = "CREATE DATABASE compat; CREATE USER compat@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO compat@'%'"
    finish([install.find("mariadb"), "--no-defaults", f"--socket={data}/sock", "-u", "root", "-e", allow], 30, user=USER)
    return place


def plugins():
    """Where Debian keeps them."""
    return "/usr/lib/mysql/plugin"


def run(kit):
    place = serve(kit)
    direct = kit.directly(lambda: Cases(kit, place).all())
    mesh = None
    if kit.mesh_wanted:
        with kit.pair(Service("mariadb", place, "tcp", 3306)) as pair:
            mesh = Cases(kit, pair.way("mariadb")).all()
    kit.row("MariaDB", install.debian("mariadb-server"), "listener, tcp", direct, mesh, pinned=False)


class Cases:
    """Each method is a case; it fails by raising."""

    def __init__(self, kit, place):
        self.kit, self.place = kit, place
        self.login = ["--no-defaults", "-h", place[0], "-P", place[1], "--protocol=tcp", "-u", "compat"]

    def all(self):
        outcomes = {}
        for name in [name for name in dir(self) if name.startswith("case_")]:
            try:
                getattr(self, name)()
                outcomes[name[5:]] = Outcome(PASSED)
            except (AssertionError, OSError, Trouble) as error:
                outcomes[name[5:]] = Outcome(FAILED, str(error)[:400])
        return outcomes

    def sql(self, text, *more, password="secret"):
        argv = [install.find("mariadb"), *self.login, f"--password={password}", "--max-allowed-packet=64M", "-N", "-B", *more]
        return finish([*argv, "compat", "-e", text], 60).strip()

    def case_01_the_greeting_comes_first(self):
        with socket.create_connection(self.place, 5) as client:
            client.settimeout(5)
            greeting = client.recv(4096)
        assert b"MariaDB" in greeting, greeting

    def case_02_the_greeting_comes_at_once(self):
        took = []
        for _ in range(20):
            began = time.monotonic()
            with socket.create_connection(self.place, 5) as client:
                client.settimeout(5)
                client.recv(4096)
            took.append(time.monotonic() - began)
        assert min(took) < GREETING_S, f"{min(took):.3f} s at the least"

    def case_03_mysqlslap_fails_nothing(self):
        slap = [install.find("mariadb-slap"), *self.login, "--password=secret", "--create-schema=slap", "--auto-generate-sql"]
        load = ["--concurrency=8", "--number-of-queries=2000", "--iterations=2", "--auto-generate-sql-load-type=mixed"]
        said = finish([*slap, *load], 60)
        assert "Number of clients running queries: 8" in said, said

    def case_04_blob_of_16_mb_goes_both_ways(self):
        blob = random.Random(2).randbytes(16_000_000)
        file = self.kit.directory("blob") / "in.sql"
        file.write_text(f"DROP TABLE IF EXISTS blobs; CREATE TABLE blobs (one LONGBLOB); INSERT INTO blobs VALUES (x'{blob.hex()}');")
        self.sql(f"source {file}")
        found = self.sql("SELECT sha2(one, 256) FROM blobs")
        assert found == hashlib.sha256(blob).hexdigest(), "it arrived otherwise"
        back = bytes.fromhex(self.sql("SELECT hex(one) FROM blobs"))
        assert back == blob, "it came back otherwise"

    def case_05_many_rows_out(self):
        total = self.sql("SELECT seq FROM seq_1_to_300000").splitlines()
        assert total == [str(row) for row in range(1, 300_001)], f"{len(total)} rows"

    def case_06_dump_restores_the_same(self):
        self.sql("DROP TABLE IF EXISTS dumped; CREATE TABLE dumped AS SELECT seq, md5(seq) AS sum FROM seq_1_to_50000")
        dump = finish([install.find("mariadb-dump"), *self.login, "--password=secret", "compat", "dumped"], 60)
        file = self.kit.directory("dump") / "dump.sql"
        file.write_text(dump)
        before = self.sql("CHECKSUM TABLE dumped")
        self.sql("DROP TABLE dumped")
        self.sql(f"source {file}")
        assert self.sql("CHECKSUM TABLE dumped") == before

    def case_07_wrong_password_is_refused(self):
        done = ended([install.find("mariadb"), *self.login, "--password=wrong", "-e", "SELECT 1"], 20)
        assert "Access denied" in done.stderr, done.stderr

    def case_08_an_error_is_told(self):
        done = ended([install.find("mariadb"), *self.login, "--password=secret", "-e", "SELECT nonsense"], 20)
        assert "Unknown column" in done.stderr, done.stderr

    def case_09_killed_connection_ends(self):
        done = ended([install.find("mariadb"), *self.login, "--password=secret", "-e", "KILL CONNECTION_ID()"], 20)
        assert done.returncode != 0 and "Connection was killed" in done.stderr, f"{done.returncode} {done.stderr}"

    def case_10_killed_client_leaves_no_session(self):
        query = "SELECT 'gone', SLEEP(60)"
        ended(["timeout", "--signal=KILL", "1", install.find("mariadb"), *self.login, "--password=secret", "-e", query], 20)
        left = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%gone%SLEEP(60)%' AND id <> CONNECTION_ID()"
        until("its session is over", lambda: self.sql(left) == "0", 15)
