#!/usr/bin/env python3
"""Prints the figures of `cairn serve` beside their rivals', and the ratios, from one run.

    python3 benches/server.py [--figures select,lookup,insert,ingest,tables,memory] [--rounds N] [--scale X]

Builds `cairn` and `cairn-bench` in release mode, or takes --binary and the other one beside it. Each figure starts a server of its
own on a new database with data drawn by seed, on free ports of this machine, and ends it with SIGTERM. pyarrow and the ADBC
drivers are Python packages, installed into target/bench-venv at the first run when they are missing. Clients that
would measure Python are in `cairn-bench client`. Every figure is a median with (smallest..largest);
docs/src/benchmarks.md says what each one measures.
"""

import argparse
import importlib
import json
import os
import pathlib
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "target"
VENV = TARGET / "bench-venv"
PACKAGES = {
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "adbc_driver_manager": "adbc-driver-manager",
    "adbc_driver_flightsql": "adbc-driver-flightsql",
}
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 1800
MILLION = 1_000_000
INGEST_ROWS = 65_536
# The driver refuses larger ones, and sends the whole buffers of a part of a table.
MESSAGE_BYTES_MAX = 64 << 20


def with_packages() -> None:
    """Goes on in a virtual environment that has the clients, made when they are not there."""
    try:
        for module in PACKAGES:
            importlib.import_module(module)
    except ImportError:
        if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
            raise
        python = VENV / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES.values()], check=True)
        os.execv(str(python), [str(python), *sys.argv])


def middle(values: list) -> float:
    return statistics.median(values)


def spread(values: list, unit: str, digits: int = 0) -> str:
    return f"{middle(values):,.{digits}f} ({min(values):,.{digits}f}..{max(values):,.{digits}f}) {unit}"


def is_met(value: float, bar: float, at_most: bool) -> bool:
    return value <= bar if at_most else value >= bar


def verdict(name: str, value: float, bar: float, at_most: bool) -> None:
    ok = "met" if is_met(value, bar, at_most) else "NOT MET"
    print(f"  {name}: {value:,.3f}  (bar {'<=' if at_most else '>='} {bar:g}: {ok})")


class Lines:
    """Lines that a process writes, each within a time."""

    def __init__(self, name: str, file):
        self.name = name
        self.said: list = []
        self.waiting: queue.Queue = queue.Queue()
        threading.Thread(target=self.read, args=[file], daemon=True).start()

    def read(self, file) -> None:
        for line in file:
            self.waiting.put(line.rstrip("\n"))
        self.waiting.put(None)

    def next(self, seconds: float) -> str:
        try:
            line = self.waiting.get(timeout=seconds)
        except queue.Empty:
            line = None
        if line is None:
            raise SystemExit(f"{self.name} said nothing more within {seconds:.0f} s, or has ended: {self.last()}")
        self.said.append(line)
        return line

    def last(self) -> str:
        """What was said last."""
        while not self.waiting.empty():
            self.said += filter(None, [self.waiting.get()])
        return " | ".join([line for line in self.said if line][-5:])

    def until(self, pattern: str, seconds: float) -> re.Match:
        end = time.monotonic() + seconds
        while True:
            if found := re.search(pattern, self.next(max(0.0, end - time.monotonic()))):
                return found


class Process:
    """A process that is gone at the end of its block."""

    def __init__(self, command: list):
        self.name = pathlib.Path(str(command[0])).name
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out, self.err = Lines(self.name, self.process.stdout), Lines(self.name, self.process.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.end()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = f"nothing within {STOP_SECONDS_MAX} s and was killed"
        if code != 0:
            raise SystemExit(f"{self.name} ended with {code}: {self.err.last()}")

    def end(self) -> None:
        self.process.stdin.close()

    def memory(self) -> float:
        """Resident MB."""
        command = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


class Server(Process):
    """`cairn serve` on a database."""

    def __init__(self, bench: "Bench", root: pathlib.Path):
        super().__init__([bench.cairn, "serve", root, "--flight-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        self.address = self.err.until(r"Flight SQL: grpc://(\S+)", START_SECONDS_MAX)[1]
        self.url = f"http://{self.address}"
        self.uri = f"grpc://{self.address}"

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def connect(self):
        from adbc_driver_flightsql import dbapi

        options = {"adbc.flight.sql.client_option.with_max_msg_size": str(MESSAGE_BYTES_MAX)}
        return dbapi.connect(self.uri, db_kwargs=options, autocommit=True)

    def run(self, *statements: str) -> list:
        """Rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def ingest(self, name: str, rows, mode: str) -> int:
        with self.connect() as connection, connection.cursor() as cursor:
            # The driver sends a batch in one message.
            return cursor.adbc_ingest(name, rows.to_reader(max_chunksize=INGEST_ROWS), mode=mode)


class Bench:
    """The two programs, and a place for databases."""

    def __init__(self, arguments):
        self.cairn = arguments.binary or built() / "cairn"
        self.program = self.cairn.with_name("cairn-bench")
        self.data, self.scale, self.rounds = arguments.data, arguments.scale, arguments.rounds
        self.seconds = arguments.seconds
        self.data.mkdir(parents=True, exist_ok=True)

    def folder(self) -> tempfile.TemporaryDirectory:
        return tempfile.TemporaryDirectory(dir=self.data, prefix="server-")

    def scaled(self, number: int) -> int:
        return max(1, round(number * self.scale))

    def client(self, server: Server, *task) -> Process:
        return Process([self.program, "client", server.url, *task])

    def asked(self, server: Server, *task) -> dict:
        """The figures of a task that ends by itself."""
        with self.client(server, *task) as client:
            return json.loads(client.out.next(ANSWER_SECONDS_MAX))

    def lineitem(self) -> pathlib.Path:
        """lineitem as Parquet, made once."""
        command = [self.program, "--data", self.data, "--scale", f"{self.scale:g}", "data", "--no-csv"]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
        return pathlib.Path(json.loads(done.stdout)["data"]) / "parquet" / "lineitem.parquet"


def built() -> pathlib.Path:
    """The folder of the programs, built."""
    packages = ["-p", "cairn", "-p", "cairn-benches"]
    subprocess.run(["cargo", "build", "--release", *packages], cwd=HERE.parent, check=True)
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    meta = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True)
    return pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release"


def packed(kind: str, text: str) -> bytes:
    """A Flight SQL command whose first field is a text, as protobuf's `Any`."""

    def field(number: int, value: bytes) -> bytes:
        length, rest = b"", len(value)
        while rest > 127:
            length, rest = length + bytes([rest & 127 | 128]), rest >> 7
        return bytes([number << 3 | 2]) + length + bytes([rest]) + value

    url = f"type.googleapis.com/arrow.flight.protocol.sql.{kind}"
    return field(1, url.encode()) + field(2, field(1, text.encode()))


def fetched(address: str, sql: str | None) -> tuple[int, float]:
    """Bytes of the rows and seconds from the statement (without one, from the ticket) to the last row, with pyarrow."""
    from pyarrow import flight

    with flight.connect(f"grpc://{address}") as client:
        started = time.perf_counter()
        ticket = flight.Ticket(b"all")
        if sql is not None:
            command = packed("CommandStatementQuery", sql)
            ticket = client.get_flight_info(flight.FlightDescriptor.for_command(command)).endpoints[0].ticket
        table = client.do_get(ticket).read_all()
        return table.nbytes, time.perf_counter() - started


def fetched_by_adbc(server: Server, sql: str) -> tuple[int, float]:
    with server.connect() as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        cursor.execute(sql)
        table = cursor.fetch_arrow_table()
        return table.nbytes, time.perf_counter() - started


def drawn(rows: int):
    """Four columns: ascending keys, random integers, random numbers, times."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(7)
    return pa.table({
        "id": np.arange(rows, dtype="i8"),
        "customer": rng.integers(0, MILLION, rows),
        "amount": rng.random(rows) * 1000,
        "at": pa.array(1_700_000_000_000_000 + np.cumsum(rng.integers(0, 2_000_000, rows)), pa.timestamp("us")),
    })


def select(bench: Bench) -> None:
    rows, sql = bench.scaled(10 * MILLION), "SELECT id, customer, amount, at FROM measured"
    print(f"SELECT of {rows:,} rows x 4 columns to pyarrow over loopback, medians of {bench.rounds}")
    ours, bare, adbc = [], [], []
    with bench.folder() as folder, Server(bench, pathlib.Path(folder) / "db") as server:
        server.ingest("measured", drawn(rows), "create")
        server.run("CHECKPOINT")
        with bench.client(server, "bare", sql) as rival:
            told = json.loads(rival.out.next(ANSWER_SECONDS_MAX))
            assert told["rows"] == rows, told
            sides = [(ours, server.address, sql), (bare, told["address"], None)]
            for number in range(bench.rounds + 1):
                for figures, address, asked in sides if number % 2 else sides[::-1]:
                    size, seconds = fetched(address, asked)
                    figures += [size / seconds / 1e9] if number else []
                size, seconds = fetched_by_adbc(server, sql)
                adbc += [size / seconds / 1e9] if number else []
    print(f"  {size / 1e6:,.0f} MB of Arrow in {told['batches']:,} batches")
    print(f"  ours {spread(ours, 'GB/s', 2)}, the same batches from a bare arrow-flight server {spread(bare, 'GB/s', 2)}")
    print(f"  ours to ADBC's driver: {spread(adbc, 'GB/s', 2)}")
    speed, ratio = middle(ours), middle(ours) / middle(bare)
    ok = "met" if speed >= 1.5 or ratio >= 0.8 else "NOT MET"
    print(f"  ours {speed:.3f} GB/s, ours / bare {ratio:.3f}  (bar >= 1.5 GB/s or >= 0.8: {ok})")


def lookup(bench: Bench) -> None:
    rows = bench.scaled(MILLION)
    print(f"prepared SELECT by primary key among {rows:,} rows, medians of {bench.rounds} x {bench.seconds:g} s")
    one, late, many = [], [], []
    with bench.folder() as folder, Server(bench, pathlib.Path(folder) / "db") as server:
        server.run("CREATE TABLE items (id BIGINT PRIMARY KEY, customer BIGINT, amount DOUBLE, at TIMESTAMP)")
        server.ingest("items", drawn(rows), "append")
        server.run("CHECKPOINT")
        for _ in range(bench.rounds):
            for clients in (1, 64):
                task = ["lookup", "--clients", clients, "--seconds", bench.seconds, "--rows", rows]
                told = bench.asked(server, *task)
                if clients == 1:
                    one.append(told["p50_us"] / 1e3)
                    late.append(told["p99_us"] / 1e3)
                else:
                    many.append(told["counted"] / told["seconds"])
    print(f"  1 client: p50 {spread(one, 'ms', 3)}, p99 {spread(late, 'ms', 3)}")
    print(f"  64 clients: {spread(many, 'lookups/s')}")
    verdict("p50 of 1 client in ms", middle(one), 2, at_most=True)
    verdict("lookups a second of 64 clients", middle(many), 3000, at_most=False)


def insert(bench: Bench) -> None:
    print(f"durable INSERT of one row, prepared, medians of {bench.rounds} x {bench.seconds:g} s")
    rates: dict = {1: [], 64: []}
    first = 0
    with bench.folder() as folder, Server(bench, pathlib.Path(folder) / "db") as server:
        server.run("CREATE TABLE entries (id BIGINT PRIMARY KEY, v BIGINT NOT NULL, s TEXT NOT NULL)")
        for number in range(bench.rounds):
            for clients in (1, 64) if number % 2 else (64, 1):
                task = ["insert", "--clients", clients, "--seconds", bench.seconds, "--first", first * 1_000_000_000]
                told = bench.asked(server, *task)
                rates[clients].append(told["counted"] / told["seconds"])
                [[before]] = server.run(f"SELECT count(*) FROM entries WHERE id >= {first * 1_000_000_000}")
                if before != told["all"]:
                    raise SystemExit(f"{before} rows are there, {told['all']} were acknowledged")
                first += 1
    print(f"  1 client {spread(rates[1], 'commits/s')}, 64 clients {spread(rates[64], 'commits/s')}")
    verdict("64 clients / 1 client", middle(rates[64]) / middle(rates[1]), 5, at_most=False)


def copied(bench: Bench, create: str, file: pathlib.Path) -> float:
    """Seconds of COPY in the shell."""
    with bench.folder() as folder, Process([bench.cairn, pathlib.Path(folder) / "db"]) as shell:
        for lines in (f".timer on\n{create};\n", f"COPY lineitem FROM '{file}';\n"):
            started = time.perf_counter()
            shell.process.stdin.write(lines)
            shell.process.stdin.flush()
            shell.err.until(r"^time: ", ANSWER_SECONDS_MAX)
        return time.perf_counter() - started


def ingest(bench: Bench) -> None:
    import pyarrow.parquet as pq

    file = bench.lineitem()
    rows = pq.read_table(file)
    kinds = {"int64": "BIGINT", "int32": "INTEGER", "decimal128(15, 2)": "DECIMAL(15,2)", "date32[day]": "DATE"}
    columns = ", ".join(f"{field.name} {kinds.get(str(field.type), 'TEXT')} NOT NULL" for field in rows.schema)
    create = f"CREATE TABLE lineitem ({columns})"
    print(f"adbc_ingest of lineitem, {len(rows):,} rows, beside COPY from its Parquet file in the shell, medians of {bench.rounds}")
    ours, copy = [], []
    for number in range(bench.rounds):
        for turn in range(2):
            if (number + turn) % 2:
                copy.append(len(rows) / copied(bench, create, file))
                continue
            with bench.folder() as folder, Server(bench, pathlib.Path(folder) / "db") as server:
                server.run(create)
                started = time.perf_counter()
                stored = server.ingest("lineitem", rows, "append")
                ours.append(len(rows) / (time.perf_counter() - started))
                [[counted]] = server.run("SELECT count(*) FROM lineitem")
                assert stored == counted == len(rows), (stored, counted)
    print(f"  adbc_ingest {spread(ours, 'rows/s')}, COPY {spread(copy, 'rows/s')}")
    verdict("adbc_ingest / COPY", middle(ours) / middle(copy), 0.5, at_most=False)


def tables(bench: Bench) -> None:
    count = bench.scaled(10_000)
    print(f"GetTables with {count:,} tables, schemas included, medians of {bench.rounds}")
    with bench.folder() as folder, Server(bench, pathlib.Path(folder) / "db") as server:
        columns = "id BIGINT PRIMARY KEY, customer BIGINT, amount DECIMAL(15,2), at TIMESTAMP, note TEXT"
        started = time.perf_counter()
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for number in range(count):
                cursor.execute(f"CREATE TABLE table_{number:05} ({columns})")
            cursor.execute("COMMIT")
        made = time.perf_counter() - started
        told = bench.asked(server, "tables", "--rounds", bench.rounds)
        assert told["tables"] == count, told
    print(f"  {spread(told['ms'], 'ms', 1)}; the tables were made in {made:.1f} s")
    verdict("seconds", middle(told["ms"]) / 1e3, 1, at_most=True)


def memory(bench: Bench) -> None:
    connections = bench.scaled(1000)
    print(f"resident memory of a server that was just started, and with {connections:,} idle connections that have logged in")
    with bench.folder() as folder:
        root = pathlib.Path(folder) / "db"
        with Server(bench, root) as server:
            server.ingest("measured", drawn(bench.scaled(MILLION)), "create")
        with Server(bench, root) as server:
            time.sleep(2)
            idle = server.memory()
            with bench.client(server, "idle", "--connections", connections) as client:
                client.out.next(ANSWER_SECONDS_MAX)
                time.sleep(1)
                held = server.memory()
    verdict("MB when idle", idle, 150, at_most=True)
    verdict(f"MB with {connections:,} connections", held, 300, at_most=True)


FIGURES = {
    "select": select, "lookup": lookup, "insert": insert, "ingest": ingest, "tables": tables, "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", default=",".join(FIGURES))
    parser.add_argument("--data", type=pathlib.Path, default=TARGET / "bench-data")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, tables and connections; the figures are for 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement of lookup and insert")
    parser.add_argument("--binary", type=pathlib.Path, help="a cairn that is built already, with cairn-bench beside it")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.figures.split(",") if name]
    if unknown := [name for name in chosen if name not in FIGURES]:
        parser.error(f"no figure is named {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    with_packages()
    bench = Bench(arguments)
    for name in chosen:
        FIGURES[name](bench)


if __name__ == "__main__":
    main()
