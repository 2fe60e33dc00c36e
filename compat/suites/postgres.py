"""PostgreSQL as opaque TCP: pgbench, copies both ways, notifications, cancelling.

pgbench's own load, in each of its query protocols and over new connections, must fail no transaction; a large table is copied out and in and
compared by checksum; LISTEN and NOTIFY, notices, large objects, cancelling a query (a second connection) and ending a session are
what psql does.
"""
import hashlib
import os
import random
import threading

import install
from outcomes import FAILED, PASSED, Outcome
from pair import Service
from processes import Trouble, ended, own, run as finish, until

PROGRAMS = ["psql:postgresql", "pgbench:postgresql", "initdb:postgresql"]
LIMIT_S = 100
USER = "postgres"
ROWS = 200_000


def serve(kit):
    place, data = kit.places.place(), kit.directory("server-postgres")
    own(data, USER)
    finish([install.find("initdb"), "-D", data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"], 60, user=USER)
    settings = {"listen_addresses": place[0], "port": place[1], "unix_socket_directories": "", "fsync": "off", "max_connections": 60}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    server = kit.start("postgres", [install.find("postgres"), "-D", data, *options], user=USER, cwd="/")
    ready = [install.find("pg_isready"), "-q", "-h", place[0], "-p", place[1]]
    until("postgres is ready", lambda: ended(ready, 10).returncode == 0, 40, server)
    return place


def version():
    """What the server says of itself: "postgres (PostgreSQL) 15.18 (Debian …)"."""
    return finish([install.find("postgres"), "--version"]).split()[2]


def run(kit):
    place = serve(kit)
    direct = kit.directly(lambda: Cases(kit, place).all())
    mesh = None
    if kit.mesh_wanted:
        with kit.pair(Service("postgres", place, "tcp", 5432)) as pair:
            mesh = Cases(kit, pair.way("postgres")).all()
    kit.row("PostgreSQL", version(), "listener, tcp", direct, mesh, pinned=False)


class Cases:
    """Each method is a case; it fails by raising."""

    def __init__(self, kit, place):
        self.kit, self.place = kit, place
        self.at = ["-h", place[0], "-p", place[1], "-U", USER]

    def all(self):
        outcomes = {}
        for name in [name for name in dir(self) if name.startswith("case_")]:
            try:
                getattr(self, name)()
                outcomes[name[5:]] = Outcome(PASSED)
            except (AssertionError, Trouble) as error:
                outcomes[name[5:]] = Outcome(FAILED, str(error)[:400])
        return outcomes

    def psql(self, *commands, database="postgres", limit_s=60, **more):
        words = [word for command in commands for word in ("-c", command)]
        quiet = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        return finish(["psql", *self.at, "-d", database, *quiet, *words], limit_s, **more).strip()

    def bench(self, *words):
        said = finish(["pgbench", *self.at, "-n", *words, "postgres"], 60)
        assert "number of failed transactions: 0 " in said or "failed" not in said, said
        return said

    def case_01_pgbench_fills_its_tables(self):
        finish(["pgbench", *self.at, "-i", "-q", "-s", "2", "postgres"], 60)
        assert self.psql("SELECT count(*) FROM pgbench_accounts") == "200000"

    def case_02_pgbench_in_each_query_protocol(self):
        for protocol in ("simple", "extended", "prepared"):
            self.bench("-c", "8", "-j", "2", "-T", "2", "-M", protocol)

    def case_03_pgbench_with_a_new_connection_each_time(self):
        self.bench("-c", "8", "-j", "2", "-t", "40", "-C", "-S")

    def case_04_pgbench_balance_is_right(self):
        sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"
        assert self.psql(sums) == "t"

    def case_05_pgbench_pipelines(self):
        script = self.kit.directory("pgbench") / "pipeline.sql"
        selects = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n" * 20
        script.write_text(f"\\set aid random(1, 200000)\n\\startpipeline\n{selects}\\endpipeline\n")
        self.bench("-c", "4", "-j", "2", "-T", "2", "-M", "extended", "-f", str(script))

    def case_06_copy_in_and_out_keeps_each_byte(self):
        directory, order = self.kit.directory("copy"), random.Random(1)
        rows = "".join(f"{row}\t{order.randbytes(40).hex()}\n" for row in range(ROWS)).encode()
        (directory / "in").write_bytes(rows)
        self.psql("DROP TABLE IF EXISTS copied", "CREATE TABLE copied (id int, text text)", f"\\copy copied FROM '{directory / 'in'}'")
        self.psql(f"\\copy (SELECT * FROM copied ORDER BY id) TO '{directory / 'out'}'")
        found = hashlib.sha256((directory / "out").read_bytes()).hexdigest()
        assert found == hashlib.sha256(rows).hexdigest(), "the copy differs"

    def case_07_a_value_of_20_mb(self):
        assert len(self.psql("SELECT repeat('x', 20000000)")) == 20_000_000

    def case_08_listen_and_notify(self):
        channel = f"channel_{os.getpid()}"
        said = self.psql(f"LISTEN {channel}", f"NOTIFY {channel}, 'heard'", "SELECT 1")
        assert "heard" in said, said

    def case_09_notify_reaches_another_session(self):
        heard = []
        wait = "LISTEN other; DO $$ BEGIN FOR i IN 1..400 LOOP PERFORM pg_sleep(0.02); COMMIT; EXIT WHEN (SELECT count(*) FROM said) > 0; END LOOP; END $$"
        self.psql("DROP TABLE IF EXISTS said", "CREATE TABLE said (one int)")
        waiting = threading.Thread(target=lambda: heard.append(self.psql(*wait.split("; ", 1), "SELECT 1")))
        waiting.start()
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO $$%'"
        until("the other session waits", lambda: self.psql(listening) == "1")
        self.psql("NOTIFY other, 'across'", "INSERT INTO said VALUES (1)")
        waiting.join()
        assert heard and "across" in heard[0], heard

    def case_10_cancel_ends_a_query(self):
        argv = ["timeout", "--signal=INT", "1.5", "psql", *map(str, self.at), "-d", "postgres", "-X", "-c", "SELECT pg_sleep(60)"]
        done = ended(argv, 20)
        assert "canceling statement due to user request" in done.stderr, done.stderr
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        until("the server has ended the query", lambda: self.psql(running) == "0", 5)

    def case_11_a_session_ended_by_the_server(self):
        argv = ["psql", *map(str, self.at), "-d", "postgres", "-X", "-c", "SELECT pg_terminate_backend(pg_backend_pid())"]
        done = ended(argv, 20)
        assert "terminating connection due to administrator command" in done.stderr, done.stderr

    def case_12_a_killed_client_leaves_no_session(self):
        argv = ["timeout", "--signal=KILL", "1.5", "psql", *map(str, self.at), "-d", "postgres", "-X", "-c", "SELECT 'gone' FROM pg_sleep(3)"]
        ended(argv, 20)
        left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT ''gone''%' AND pid <> pg_backend_pid()"
        until("its session is over", lambda: self.psql(left) == "0", 10)

    def case_13_errors_and_notices_are_told(self):
        done = ended(["psql", *self.at, "-d", "postgres", "-X", "-c", "DO $$ BEGIN RAISE NOTICE 'noted'; END $$", "-c", "SELECT 1/0"], 20)
        assert "noted" in done.stderr and "division by zero" in done.stderr, done.stderr

    def case_14_a_dump_restores_the_same(self):
        dump = finish([install.find("pg_dump"), *self.at, "-t", "copied", "postgres"], 60)
        assert dump.count("\n") > ROWS, "the dump is short"
