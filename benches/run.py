#!/usr/bin/env python3
"""Prints a figure of Cairn beside its rival's, and the ratio, from one run.

    python3 benches/run.py tpch | load | insert | change | lookup | open | churn | busy | all  [--data DIR] [--rounds N] [--scale SF]

Builds `cairn-bench` (cargo build --release -p cairn-benches). The rivals: bare DataFusion (in the same process), SQLite
(Python's own) and DuckDB (a Python package, installed into target/bench-venv at the first run). Ours and the rival's
runs alternate; every figure is a median with (smallest..largest). docs/src/benchmarks.md says what each one measures.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
VENV = HERE.parent / "target" / "bench-venv"
TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]
KEY = "PRIMARY KEY (l_orderkey, l_linenumber)"
# Rivals get the cores that ours has.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def with_duckdb() -> None:
    """Goes on in a virtual environment that has DuckDB, made when it is not there."""
    try:
        import duckdb  # noqa: F401
    except ImportError:
        python = VENV / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "duckdb"], check=True)
        if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
            raise
        os.execv(str(python), [str(python), *sys.argv])


class Bench:
    """Our side: the `cairn-bench` program."""

    def __init__(self, data: pathlib.Path, scale: float, binary: str | None):
        if binary is None:
            subprocess.run(["cargo", "build", "--release", "-p", "cairn-benches"], cwd=HERE.parent, check=True)
            meta = subprocess.run(
                ["cargo", "metadata", "--format-version", "1", "--no-deps"],
                cwd=HERE.parent, check=True, capture_output=True, text=True,
            )
            binary = str(pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release" / "cairn-bench")
        self.command = [binary, "--data", str(data), "--scale", f"{scale:g}"]
        self.home = pathlib.Path(self.run("data")[0]["data"])
        self.parquet = self.home / "parquet"

    def run(self, *arguments) -> list:
        command = self.command + [str(a) for a in arguments]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [json.loads(line) for line in output.splitlines()]


def middle(values: list) -> float:
    return statistics.median(values)


def spread(values: list, unit: str, digits: int = 0) -> str:
    return f"{middle(values):,.{digits}f} ({min(values):,.{digits}f}..{max(values):,.{digits}f}) {unit}"


def verdict(name: str, value: float, bar: float, at_most: bool) -> None:
    sign, ok = ("<=", value <= bar) if at_most else (">=", value >= bar)
    print(f"  {name}: {value:.3f}  (bar {sign} {bar:g}: {'met' if ok else 'NOT MET'})")


def duck(path: str):
    import duckdb

    db = duckdb.connect(path)
    db.execute(f"SET threads = {THREADS}")
    return db


def tpch(bench: Bench, rounds: int) -> None:
    print(f"TPC-H, 22 queries warm, medians of {rounds}; ours after COPY + CHECKPOINT, DataFusion on Parquet")
    lines = bench.run("tpch", "--runs", rounds)
    queries = {line["query"]: line["sql"] for line in bench.run("queries")}

    views, own = duck(":memory:"), duck(":memory:")
    file = bench.home / "duckdb-tpch.db"
    if not file.exists():
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        own = duck(str(part))
        for table in TABLES:
            own.execute(f"CREATE TABLE {table} AS SELECT * FROM '{bench.parquet / table}.parquet'")
        own.close()
        part.rename(file)
    own = duck(str(file))
    for table in TABLES:
        views.execute(f"CREATE VIEW {table} AS SELECT * FROM '{bench.parquet / table}.parquet'")

    def duck_times(db, number: int) -> list:
        times = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for statement in queries[number]:
                db.execute(statement).fetchall()
            times.append((time.perf_counter() - started) * 1e3)
        return times[1:]

    print(f"  {'':4} {'ours ms':>24} {'DataFusion ms':>24} {'ratio':>6} {'DuckDB parquet':>15} {'DuckDB own':>11}")
    totals = [0.0, 0.0, 0.0, 0.0]
    slowest = (0.0, 0)
    for line in lines:
        number, ours, bare = line["query"], line["ours_ms"], line["datafusion_ms"]
        medians = [middle(ours), middle(bare), middle(duck_times(views, number)), middle(duck_times(own, number))]
        totals = [a + b for a, b in zip(totals, medians)]
        ratio = medians[0] / medians[1]
        slowest = max(slowest, (ratio, number))
        cells = [f"{middle(v):.1f} ({min(v):.1f}..{max(v):.1f})" for v in (ours, bare)]
        print(f"  q{number:02}  {cells[0]:>24} {cells[1]:>24} {ratio:6.2f} {medians[2]:15.1f} {medians[3]:11.1f}")
    print(f"  sum  {totals[0]:24.0f} {totals[1]:24.0f} {totals[0] / totals[1]:6.2f} {totals[2]:15.0f} {totals[3]:11.0f}")
    verdict("total, ours / DataFusion on Parquet", totals[0] / totals[1], 0.75, at_most=True)
    verdict(f"slowest query (q{slowest[1]}), ours / DataFusion on Parquet", slowest[0], 1.05, at_most=True)
    print(f"  ours / DuckDB on Parquet {totals[0] / totals[2]:.2f}, ours / DuckDB on its own tables {totals[0] / totals[3]:.2f}")


def lineitem_of(db, path: pathlib.Path, key: bool) -> None:
    """An empty lineitem in DuckDB, with the types of the Parquet file."""
    columns = db.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
    text = ", ".join(f"{name} {kind} NOT NULL" for name, kind, *_ in columns)
    db.execute(f"CREATE TABLE lineitem ({text}{', ' + KEY if key else ''})")


def duck_load(bench: Bench, kind: str, key: bool) -> float:
    """One load, durable: COPY and CHECKPOINT; rows a second."""
    parquet = bench.parquet / "lineitem.parquet"
    source = parquet if kind == "parquet" else bench.home / "lineitem.csv"
    options = "(FORMAT parquet)" if kind == "parquet" else "(FORMAT csv, HEADER true)"
    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        db = duck(str(pathlib.Path(folder) / "load.db"))
        lineitem_of(db, parquet, key)
        started = time.perf_counter()
        rows = db.execute(f"COPY lineitem FROM '{source}' {options}").fetchone()[0]
        db.execute("CHECKPOINT")
        seconds = time.perf_counter() - started
        db.close()
    return rows / seconds


def load(bench: Bench, rounds: int) -> None:
    print(f"COPY lineitem, durable at return, {rounds} rounds; DuckDB: COPY + CHECKPOINT, threads = {THREADS}")
    for key in (False, True):
        for kind in ("parquet", "csv"):
            ours, theirs = [], []
            for number in range(rounds):
                for turn in range(2):
                    if (number + turn) % 2 == 0:
                        line = bench.run("load", "--format", kind, *(["--key"] if key else []))[0]
                        ours.append(line["rows"] / line["seconds"])
                    else:
                        theirs.append(duck_load(bench, kind, key))
            print(f"  {kind:7} {'with' if key else 'without'} key: ours {spread(ours, 'rows/s')}, DuckDB {spread(theirs, 'rows/s')}")
            ratio = middle(ours) / middle(theirs)
            if key:
                print(f"  ours / DuckDB: {ratio:.3f}")
            else:
                verdict("ours / DuckDB", ratio, 1.0, at_most=False)


def sqlite_insert(path: str, count: int) -> float:
    """Single-row INSERTs in autocommit, prepared by the module's cache; statements a second."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER NOT NULL, s TEXT NOT NULL)")
    for warm_up in (True, False):
        first = 0 if warm_up else 200
        started = time.perf_counter()
        for i in range(first, 200 if warm_up else first + count):
            db.execute("INSERT INTO t VALUES (?, ?, ?)", (i, i * 7, f"a row of some length {i}"))
    seconds = time.perf_counter() - started
    db.close()
    return count / seconds


def sync_cost(folder: str, count: int = 500) -> list:
    """Microseconds of appending 512 bytes and syncing: what the disk allows."""
    with open(pathlib.Path(folder) / "probe", "wb", buffering=0) as file:
        times = []
        for _ in range(count):
            started = time.perf_counter()
            file.write(b"x" * 512)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1e6)
    return times


def postgres_binaries() -> pathlib.Path | None:
    """Where PostgreSQL's programs with pgbench are: of the newest version that a package installed."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres(binaries: pathlib.Path, folder: pathlib.Path):
    """A PostgreSQL of its own with default settings, durable, on a socket: the arguments that lead a client to it."""
    # It does not run as root.
    who = {"user": "nobody"} if os.geteuid() == 0 else {}
    home = folder / "postgres"
    home.mkdir()
    folder.chmod(0o755)
    if who:
        shutil.chown(home, "nobody")
    subprocess.run(
        [binaries / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, cwd="/", **who,
    )
    socket = pathlib.Path(tempfile.mkdtemp(prefix="cairn-bench-pg-"))
    socket.chmod(0o777)
    process = subprocess.Popen(
        [binaries / "postgres", "-D", home / "data", "-c", "listen_addresses=", "-c", f"unix_socket_directories={socket}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who,
    )
    client = ["-h", str(socket), "-U", "postgres"]
    try:
        for _ in range(600):
            if subprocess.run([binaries / "pg_isready", *client], capture_output=True).returncode == 0:
                break
            time.sleep(0.05)
        yield client
    finally:
        # The client's connections are ended, then it stops.
        process.send_signal(signal.SIGINT)
        process.wait()
        shutil.rmtree(socket, ignore_errors=True)


def postgres_insert(binaries: pathlib.Path, client: list, folder: pathlib.Path, count: int) -> float:
    """Single-row INSERTs of as many connections by pgbench, prepared, each a commit; how many a second."""
    table = "DROP TABLE IF EXISTS t; DROP SEQUENCE IF EXISTS ids; CREATE SEQUENCE ids CACHE 100; "
    table += "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)"
    subprocess.run([binaries / "psql", *client, "-q", "-c", table], check=True, stderr=subprocess.DEVNULL)
    script = folder / "insert.sql"
    script.write_text("INSERT INTO t VALUES (nextval('ids'), 7, 'a row of some length');\n")
    command = [binaries / "pgbench", *client, "-n", "-M", "prepared", "-c", CONNECTIONS, "-j", THREADS, "-f", script]
    output = subprocess.run(
        [*map(str, command), "-t", str(count // CONNECTIONS), "postgres"], check=True, capture_output=True, text=True
    ).stdout
    return float(re.search(r"tps = ([0-9.]+) \(without", output).group(1))


CONNECTIONS = 16


def insert(bench: Bench, rounds: int, count: int = 3000) -> None:
    print(f"durable single-row INSERT, one connection, {rounds} rounds of {count}; SQLite {sqlite3.sqlite_version} WAL, synchronous = FULL")
    prepared, ours, theirs, overhead = [], [], [], []

    def speed(*more) -> float:
        line = bench.run("insert", *more)[0]
        return line["commits"] / line["seconds"]

    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        syncs = sync_cost(folder)
        for number in range(rounds):
            for turn in range(2):
                if (number + turn) % 2 == 0:
                    prepared.append(speed("--count", count, "--prepared"))
                    ours.append(speed("--count", count))
                else:
                    theirs.append(sqlite_insert(str(pathlib.Path(folder) / f"{number}.db"), count))
            overhead.append(1e6 / sqlite_insert(":memory:", count))
    print(f"  ours with values {spread(prepared, 'commits/s')}, a text each {spread(ours, 'commits/s')}, SQLite {spread(theirs, 'commits/s')}")
    print(f"  append of 512 bytes + fdatasync: {spread(syncs, 'us')}")
    # The same loop without a disk is Python's and SQLite's own work: an upper bound of what Python costs the rival.
    bare = 1e6 / (1e6 / middle(theirs) - middle(overhead))
    print(f"  the same loop in memory: {spread(overhead, 'us', 1)} a statement; SQLite without it: {bare:,.0f} commits/s")
    verdict("with values, ours / SQLite", middle(prepared) / middle(theirs), 0.8, at_most=False)
    print(f"  with values, ours / SQLite without Python's share: {middle(prepared) / bare:.3f}")
    print(f"  a text each, ours / SQLite: {middle(ours) / middle(theirs):.3f}")

    many = 20 * count
    binaries = postgres_binaries()
    print(f"the same with values, {CONNECTIONS} connections, {rounds} rounds of {many}")
    ours, theirs = [], []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.home)))
        client = stack.enter_context(postgres(binaries, folder)) if binaries else None
        for _ in range(rounds):
            ours.append(speed("--count", many, "--connections", CONNECTIONS, "--prepared"))
            if client:
                theirs.append(postgres_insert(binaries, client, folder, many))
    print(f"  ours {spread(ours, 'commits/s')}")
    bar = 10_000.0
    if theirs:
        version = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True).stdout.strip()
        print(f"  {version}, pgbench on its socket: {spread(theirs, 'commits/s')}, ours / theirs {middle(ours) / middle(theirs):.2f}")
        bar = max(bar, 1.2 * middle(theirs))
    else:
        print("  no PostgreSQL: install the package postgresql")
    verdict("commits/s", middle(ours), bar, at_most=False)


CHANGED_ROWS = 1_000_000


def duck_change(path: str, count: int) -> dict:
    """The statements of `cairn-bench change` with values, each a commit; how many a second by kind."""
    db = duck(path)
    db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s VARCHAR NOT NULL)")
    db.execute(f"INSERT INTO t SELECT i, i * 7, 'a row of some length ' || i FROM range({CHANGED_ROWS}) r(i)")
    db.execute("CHECKPOINT")
    speeds = {}
    for kind, sql in (
        ("insert", "INSERT INTO t VALUES ($1, $2, 'a row of some length')"),
        ("update", "UPDATE t SET v = $2 WHERE id = $1"),
        ("delete", "DELETE FROM t WHERE id = $1"),
        ("query", "SELECT max(v), count(*) FROM t WHERE id BETWEEN $1 AND $2 AND s <> 'x'"),
    ):
        for number in range(200 + count):
            if number == 200:
                started = time.perf_counter()
            key = CHANGED_ROWS + number if kind == "insert" else number * 7_919 % CHANGED_ROWS
            db.execute(sql, [key] if kind == "delete" else [key, key + 10]).fetchall()
        speeds[kind] = count / (time.perf_counter() - started)
    db.close()
    return speeds


def change(bench: Bench, rounds: int, count: int = 3000) -> None:
    print(f"durable single-row changes by key and a query of 11 keys among {CHANGED_ROWS:,} rows, with values, one connection, {rounds} rounds of {count}")
    ours, theirs = {}, {}
    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        for number in range(rounds):
            for line in bench.run("change", "--count", count):
                ours.setdefault(line["kind"], []).append(line["statements"] / line["seconds"])
            for kind, speed in duck_change(str(pathlib.Path(folder) / f"{number}.db"), count).items():
                theirs.setdefault(kind, []).append(speed)
    for kind in ours:
        print(f"  {kind}: ours {spread(ours[kind], '/s')}, DuckDB {spread(theirs[kind], '/s')}")
        if kind in ("update", "delete"):
            verdict(f"{kind}, ours / DuckDB", middle(ours[kind]) / middle(theirs[kind]), 2.0, at_most=False)
    change_range(bench, rounds)


def duck_range(bench: Bench, path: str, count: int) -> dict:
    """The statements of `cairn-bench range`, each a commit: milliseconds of each by kind."""
    db = duck(path)
    file = bench.parquet / "orders.parquet"
    columns = db.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
    text = ", ".join(f"{name} {kind} NOT NULL" for name, kind, *_ in columns)
    db.execute(f"CREATE TABLE orders ({text}, PRIMARY KEY (o_orderkey))")
    db.execute(f"COPY orders FROM '{file}' (FORMAT parquet)")
    db.execute("CHECKPOINT")
    times = {"update": [], "delete": []}
    for kind, sql in (
        ("update", "UPDATE orders SET o_totalprice = o_totalprice + 1 WHERE o_orderkey BETWEEN $1 AND $2"),
        ("delete", "DELETE FROM orders WHERE o_orderkey BETWEEN $1 AND $2"),
    ):
        for number in range(count + 1):
            first = 1 + number * 60_000
            started = time.perf_counter()
            db.execute(sql, [first, first + 59_999]).fetchall()
            times[kind].append((time.perf_counter() - started) * 1e3)
        del times[kind][0]
    db.close()
    return times


def change_range(bench: Bench, rounds: int, count: int = 9) -> None:
    print(f"UPDATE and DELETE of 15,000 of 1.5 million orders by a range of the key, durable, {rounds} rounds of {count}")
    ours, theirs = {}, {}
    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        for number in range(rounds):
            for line in bench.run("range", "--count", count):
                ours.setdefault(line["kind"], []).extend(line["ms"])
            for kind, times in duck_range(bench, str(pathlib.Path(folder) / f"range{number}.db"), count).items():
                theirs.setdefault(kind, []).extend(times)
    for kind in ours:
        print(f"  {kind}: ours {spread(ours[kind], 'ms', 1)}, DuckDB {spread(theirs[kind], 'ms', 1)}")
        verdict(f"{kind}, ours / DuckDB", middle(ours[kind]) / middle(theirs[kind]), 1.0, at_most=True)


def duck_lookup(bench: Bench, count: int) -> list:
    file = bench.home / "duckdb-lookup.db"
    if not file.exists():
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        db = duck(str(part))
        lineitem_of(db, bench.parquet / "lineitem.parquet", True)
        db.execute(f"COPY lineitem FROM '{bench.parquet / 'lineitem.parquet'}' (FORMAT parquet)")
        db.execute("CHECKPOINT")
        db.close()
        part.rename(file)
    db = duck(str(file))
    keys = db.execute("SELECT l_orderkey, l_linenumber FROM lineitem USING SAMPLE 20000").fetchall()
    times = []
    for order, line in random.Random(1).choices(keys, k=count + 200):
        started = time.perf_counter()
        rows = db.execute(f"SELECT * FROM lineitem WHERE l_orderkey = {order} AND l_linenumber = {line}").fetchall()
        times.append((time.perf_counter() - started) * 1e6)
        assert len(rows) == 1, rows
    return sorted(times[200:])


def lookup(bench: Bench, rounds: int, count: int = 5000) -> None:
    print(f"SELECT by primary key in lineitem, {rounds} rounds of {count} random keys; DuckDB with the same key, of {count // 5}")
    p50, p99, prepared50, prepared99, theirs50, theirs99 = [], [], [], [], [], []
    for _ in range(rounds):
        line = bench.run("lookup", "--count", count)[0]
        p50.append(line["p50_us"])
        p99.append(line["p99_us"])
        line = bench.run("lookup", "--count", count, "--prepared")[0]
        prepared50.append(line["p50_us"])
        prepared99.append(line["p99_us"])
        times = duck_lookup(bench, count // 5)
        theirs50.append(times[len(times) // 2])
        theirs99.append(times[len(times) * 99 // 100])
    for name, ours, theirs in (("p50", p50, theirs50), ("p99", p99, theirs99)):
        print(f"  {name}: ours {spread(ours, 'us')}, DuckDB {spread(theirs, 'us')}, ratio {middle(ours) / middle(theirs):.2f}")
    print(f"  with values: ours p50 {spread(prepared50, 'us')}, p99 {spread(prepared99, 'us')}")
    verdict("p50 with values in ms", middle(prepared50) / 1e3, 0.2, at_most=True)
    verdict("p50 in ms", middle(p50) / 1e3, 0.5, at_most=True)
    verdict("p99 in ms", middle(p99) / 1e3, 3.0, at_most=True)


DUCK_FILL = """
import duckdb, os, sys
db = duckdb.connect(sys.argv[1])
db.execute("SET wal_autocheckpoint = '1TB'")
db.execute(f"CREATE TABLE lineitem AS SELECT * FROM '{sys.argv[2]}'")
db.execute("CREATE TABLE hot (id BIGINT PRIMARY KEY, v DOUBLE, s TEXT)")
db.execute("CHECKPOINT")
first = 0
while not os.path.exists(sys.argv[1] + ".wal") or os.path.getsize(sys.argv[1] + ".wal") < 64 << 20:
    db.execute(f"INSERT INTO hot SELECT i, i / 3.0, md5(i::TEXT) || md5((-i)::TEXT) FROM range({first}, {first + 5000}) r(i)")
    first += 5000
os._exit(0)
"""

DUCK_OPEN = """
import duckdb, os, sys, time
started = time.perf_counter()
db = duckdb.connect(sys.argv[1])
db.execute("SELECT 1").fetchall()
print((time.perf_counter() - started) * 1e3, flush=True)
os._exit(0)
"""


def duck_open(bench: Bench) -> float:
    made = bench.home / "duckdb-open"
    if not made.exists():
        part = bench.home / "duckdb-open.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        arguments = [str(part / "open.db"), str(bench.parquet / "lineitem.parquet")]
        subprocess.run([sys.executable, "-c", DUCK_FILL, *arguments], check=True)
        part.rename(made)
    # A copy: opening may checkpoint, and the next round must find the WAL again.
    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        copy = pathlib.Path(folder) / "copy"
        shutil.copytree(made, copy)
        os.sync()
        output = subprocess.run(
            [sys.executable, "-c", DUCK_OPEN, str(copy / "open.db")], check=True, stdout=subprocess.PIPE, text=True
        )
        return float(output.stdout)


def open_(bench: Bench, rounds: int) -> None:
    print(f"open of a database with lineitem and a WAL of 64 MiB, to its first answer, {rounds} rounds, a new process each")
    ours, first, counted, theirs = [], [], [], []
    for _ in range(rounds):
        line = bench.run("open")[0]
        ours.append(line["open_ms"])
        first.append(line["first_answer_ms"])
        counted.append(line["counted_ms"])
        theirs.append(duck_open(bench))
    print(f"  WAL {line['wal_bytes'] / (1 << 20):.0f} MiB; open {spread(ours, 'ms')}, with SELECT 1 {spread(first, 'ms')}, with count(*) {spread(counted, 'ms')}")
    print(f"  DuckDB, open with SELECT 1 {spread(theirs, 'ms')}; ours / DuckDB {middle(first) / middle(theirs):.3f}")
    verdict("open in s", middle(ours) / 1e3, 1.0, at_most=True)


def churn(bench: Bench, _rounds: int) -> None:
    print("1,000,000 single-row INSERTs, 300,000 UPDATEs and 100,000 DELETEs by key, 16 connections, then nobody's help; beside a fresh COPY of the rows that are left")
    line = bench.run("churn")[0]
    ours, fresh = line["ours"], line["fresh"]
    print(f"  {line['commits']:,} commits in {line['seconds']:.0f} s, {line['commits'] / line['seconds']:,.0f}/s; nothing changed any more {line['quiet_after']:.0f} s later; {line['rows']:,} rows")
    for name, side in (("ours", ours), ("fresh", fresh)):
        print(f"  {name:5}: {side['segments']} segments, {side['files']} files, {side['bytes'] / 1e6:.1f} MB, scan {spread(side['scan_ms'], 'ms', 1)}")
    verdict("segments", ours["segments"], 20, at_most=True)
    verdict("bytes of the directory, ours / fresh", ours["bytes"] / fresh["bytes"], 1.3, at_most=True)
    verdict("scan, ours / fresh", middle(ours["scan_ms"]) / middle(fresh["scan_ms"]), 1.2, at_most=True)


def busy(bench: Bench, _rounds: int) -> None:
    print("queries of one session during CHECKPOINT and COMPACT of the table they read, beside the same ones while nothing else goes on")
    for line in bench.run("busy"):
        idle = line["idle"]
        print(f"  {line['kind']}: idle p50 {idle['p50_ms']:.2f} ms, p99 {idle['p99_ms']:.2f} ms of {idle['queries']:,}")
        for phase in ("checkpoint", "compaction"):
            during = line[phase]
            if not during["queries"]:
                print(f"    {phase}: no query met one: NOT MEASURED")
                continue
            print(f"    {phase}: p50 {during['p50_ms']:.2f} ms, p99 {during['p99_ms']:.2f} ms of {during['queries']:,}")
            verdict(f"  {line['kind']}, p99 during a {phase} / idle", during["p99_ms"] / idle["p99_ms"], 2.0, at_most=True)


FIGURES = {"tpch": (tpch, 5), "load": (load, 3), "insert": (insert, 9), "change": (change, 3), "lookup": (lookup, 3), "open": (open_, 5), "churn": (churn, 1), "busy": (busy, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=[*FIGURES, "all"])
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parent / "target" / "bench-data")
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H scale factor; the figures are for 1")
    parser.add_argument("--rounds", type=int, help="rounds of each side")
    parser.add_argument("--binary", help="a cairn-bench that is built already")
    arguments = parser.parse_args()
    with_duckdb()
    bench = Bench(arguments.data, arguments.scale, arguments.binary)
    for name, (figure, rounds) in FIGURES.items():
        if arguments.figure in (name, "all"):
            figure(bench, arguments.rounds or rounds)


if __name__ == "__main__":
    main()
