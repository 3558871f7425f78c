#!/usr/bin/env python3
"""Prints what a process of Cairn takes, beside DuckDB's, and the bars, from one run. Linux only: memory is read from /proc.

    python3 benches/process.py [--figures memory,footprint] [--limit MIB] [--gigabytes N] [--data DIR] [--binary PATH]

Builds `cairn` (cargo build --release -p cairn), or takes --binary. DuckDB is a Python package, installed into target/bench-venv
at the first run when it is missing. Memory is anonymous resident memory (RssAnon), looked at every 10 ms. docs/src/benchmarks.md says
what each figure measures.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "target"
VENV = TARGET / "bench-venv"
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
ROWS = 10_000_000
LOOK_EVERY = 0.01
# What a process may take beside its limit, and when it does nothing; MB.
BESIDE_MAX = 300
IDLE_MAX = 60
IDLE_SECONDS = 3

COLUMNS = "id BIGINT NOT NULL, n BIGINT NOT NULL, price DOUBLE NOT NULL, s TEXT NOT NULL"
DUCK = """
import duckdb, sys
db = duckdb.connect(sys.argv[1])
for statement in sys.argv[2:]:
    rows = db.execute(statement).fetchall()
"""


def with_duckdb() -> None:
    """Goes on in a virtual environment that has DuckDB, made when it is not there."""
    try:
        import duckdb  # noqa: F401
    except ImportError:
        if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
            raise
        python = VENV / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "duckdb"], check=True)
        os.execv(str(python), [str(python), *sys.argv])


def built() -> pathlib.Path:
    subprocess.run(["cargo", "build", "--release", "-p", "cairn"], cwd=HERE.parent, check=True)
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    meta = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True)
    return pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release" / "cairn"


def verdict(name: str, value: float, bar: float) -> None:
    print(f"  {name}: {value:,.1f}  (bar <= {bar:,.0f}: {'met' if value <= bar else 'NOT MET'})")


def resident(pid: int) -> dict | None:
    """MB by kind; None: the process has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    kinds = dict(line.split(":", 1) for line in lines)
    if "RssAnon" not in kinds:
        return None
    return {kind: int(kinds[kind].split()[0]) * 1024 / 1e6 for kind in ("VmRSS", "RssAnon")}


class Run:
    """A process that has run to its end: its exit code, seconds, what it said last, and the most anonymous memory it had, in MB."""

    def __init__(self, command: list, out: pathlib.Path | None = None):
        started = time.perf_counter()
        with open(out or os.devnull, "wb") as file:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, text=True
            )
            self.peak, ended = 0.0, threading.Event()

            def look() -> None:
                while not ended.is_set() and (held := resident(process.pid)):
                    self.peak = max(self.peak, held["RssAnon"])
                    ended.wait(LOOK_EVERY)

            looking = threading.Thread(target=look)
            looking.start()
            said = process.communicate()[1].strip().splitlines()
            ended.set()
            looking.join()
        self.code, self.seconds = process.returncode, time.perf_counter() - started
        self.said = next((line for line in said if "rror" in line), said[-1] if said else "")

    def must(self) -> "Run":
        if self.code != 0:
            raise SystemExit(f"exit code {self.code}: {self.said}")
        return self


class Bench:
    def __init__(self, arguments):
        self.cairn = arguments.binary or built()
        self.limit, self.gigabytes = arguments.limit, arguments.gigabytes
        self.data = arguments.data
        self.data.mkdir(parents=True, exist_ok=True)

    def ours(self, root: pathlib.Path, *statements: str, out: pathlib.Path | None = None) -> Run:
        commands = [word for statement in statements for word in ("-c", statement)]
        limit = ["--memory-limit", f"{self.limit} MiB"]
        return Run([self.cairn, root, "--quiet", "--no-rc", "--format", "csv", *limit, *commands], out)

    def duck(self, file: pathlib.Path, *statements: str) -> Run:
        settings = [f"SET memory_limit = '{self.limit}MiB'", f"SET threads = {THREADS}"]
        return Run([sys.executable, "-c", DUCK, file, *settings, *statements])

    def parts(self, folder: pathlib.Path) -> int:
        """CSV files of so many gigabytes together: one file under many names; how many."""
        folder.mkdir()
        first = folder / "part-0.csv"
        rows = f"SELECT value AS id, value * 7919 % 1000003 AS n, value * 0.25 AS price, md5(CAST(value AS TEXT)) || md5(CAST(-value AS TEXT)) AS s FROM generate_series(1, {ROWS})"
        self.ours(":memory:", f"COPY ({rows}) TO '{first}' WITH (format 'csv', header true)").must()
        count = max(1, round(self.gigabytes * 1e9 / first.stat().st_size))
        for number in range(1, count):
            os.link(first, folder / f"part-{number}.csv")
        print(f"  {count} CSV files of {ROWS:,} rows, {count * first.stat().st_size / 1e9:.1f} GB together")
        return count


def told(name: str, ours: Run, theirs: Run, limit_mb: float) -> None:
    """An error is an answer, too, where the memory does not suffice; being killed is none."""
    for who, run in (("ours", ours), ("DuckDB", theirs)):
        end = "" if run.code == 0 else f", exit code {run.code}: {run.said[:160]}"
        print(f"  {name}: {who} {run.seconds:.1f} s, peak {run.peak:,.0f} MB anonymous{end}")
    if ours.code not in (0, 1):
        print(f"  {name}: ended with {ours.code}: NOT MET")
    print(f"  {name}: peak, ours / DuckDB {ours.peak / max(theirs.peak, 1):.2f}")
    verdict(f"{name}: MB beyond the limit", ours.peak - limit_mb, BESIDE_MAX)


def memory(bench: Bench) -> None:
    limit_mb = bench.limit * 1.048576
    print(f"peak of anonymous memory with a limit of {bench.limit} MiB ({limit_mb:,.0f} MB), each statement in a process of its own; DuckDB with the same limit and {THREADS} threads")
    with tempfile.TemporaryDirectory(dir=bench.data, prefix="process-") as name:
        folder = pathlib.Path(name)
        bench.parts(folder / "parts")
        root, file, parts = folder / "db", folder / "duck.db", folder / "parts"
        header = "WITH (format 'csv', header true)"
        bench.ours(root, f"CREATE TABLE t ({COLUMNS})", f"CREATE TABLE u ({COLUMNS})").must()
        bench.duck(file, f"CREATE TABLE t ({COLUMNS})", f"CREATE TABLE u ({COLUMNS})").must()
        told(
            f"COPY of {bench.gigabytes:g} GB of CSV",
            bench.ours(root, f"COPY t FROM '{parts}/*.csv' {header}").must(),
            bench.duck(file, f"COPY t FROM '{parts}/*.csv' (FORMAT csv, HEADER true)", "CHECKPOINT"),
            limit_mb,
        )
        bench.ours(root, f"COPY u FROM '{parts}/part-0.csv' {header}").must()
        bench.duck(file, f"COPY u FROM '{parts}/part-0.csv' (FORMAT csv, HEADER true)").must()
        shutil.rmtree(parts)
        out, theirs = folder / "ours.csv", folder / "theirs.csv"
        told(
            f"SELECT of {ROWS:,} rows to a file",
            bench.ours(root, f"SELECT * FROM t LIMIT {ROWS}", out=out).must(),
            bench.duck(file, f"COPY (SELECT * FROM t LIMIT {ROWS}) TO '{theirs}' (HEADER true)"),
            limit_mb,
        )
        with open(out, "rb") as lines:
            count = sum(block.count(b"\n") for block in iter(lambda: lines.read(1 << 20), b""))
        if count != ROWS + 1:
            raise SystemExit(f"{count:,} lines were written, not {ROWS + 1:,}")
        for name, query in (
            ("sort beyond the limit", "SELECT * FROM t ORDER BY s, id"),
            ("join beyond the limit", "SELECT count(*), max(u.s), min(t.s) FROM t JOIN u ON t.id = u.id AND t.n + u.n >= 0"),
        ):
            out.unlink(missing_ok=True)
            theirs.unlink(missing_ok=True)
            told(
                name,
                bench.ours(root, f"COPY ({query}) TO '{out}' WITH (format 'csv')"),
                bench.duck(file, f"COPY ({query}) TO '{theirs}' (FORMAT csv)"),
                limit_mb,
            )


def footprint(bench: Bench) -> None:
    print("what is there before the first statement")
    import duckdb

    own = pathlib.Path(bench.cairn)
    library = max(pathlib.Path(duckdb.__file__).parent.parent.glob("**/*duckdb*.so"), key=lambda path: path.stat().st_size)
    print(f"  binary: {own.stat().st_size / 1e6:,.1f} MB as built; DuckDB's library {library.stat().st_size / 1e6:,.1f} MB")
    if shutil.which("strip"):
        with tempfile.TemporaryDirectory() as folder:
            bare = pathlib.Path(folder) / "cairn"
            subprocess.run(["strip", "-o", str(bare), str(own)], check=True)
            size = bare.stat().st_size
        print(f"  binary without symbols: {size / 1e6:,.1f} MB, ours / DuckDB {size / library.stat().st_size:.2f}")
    command = ["cargo", "tree", "-p", "cairn", "--edges", "normal", "--prefix", "none", "--format", "{p}"]
    tree = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True).stdout
    crates = {" ".join(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    print(f"  crates that are linked: {len(crates)}")

    def idle(command: list) -> dict:
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            time.sleep(IDLE_SECONDS)
            held = resident(process.pid)
        finally:
            process.stdin.close()
            process.wait(60)
        if held is None:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        return held

    with tempfile.TemporaryDirectory(dir=bench.data, prefix="process-") as folder:
        ours = idle([own, pathlib.Path(folder) / "db", "--quiet", "--no-rc"])
        opened = f"import duckdb, sys; db = duckdb.connect({str(pathlib.Path(folder) / 'duck.db')!r}); sys.stdin.read()"
        theirs, bare = idle([sys.executable, "-c", opened]), idle([sys.executable, "-c", "import sys; sys.stdin.read()"])
    without = theirs["VmRSS"] - bare["VmRSS"]
    print(f"  a database that was just made and is asked nothing: ours {ours['VmRSS']:.1f} MB resident, {ours['RssAnon']:.1f} of it anonymous; DuckDB in Python {theirs['VmRSS']:.1f}, without Python's own {without:.1f}")
    print(f"  resident, ours / DuckDB without Python: {ours['VmRSS'] / max(without, 1):.2f}")
    verdict("MB resident when idle", ours["VmRSS"], IDLE_MAX)


FIGURES = {"memory": memory, "footprint": footprint}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", default=",".join(FIGURES))
    parser.add_argument("--limit", type=int, default=1024, help="memory limit of both sides, MiB")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="CSV that is loaded; the figure is for 5")
    parser.add_argument("--data", type=pathlib.Path, default=TARGET / "bench-data")
    parser.add_argument("--binary", type=pathlib.Path, help="a cairn that is built already")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.figures.split(",") if name]
    if unknown := [name for name in chosen if name not in FIGURES]:
        parser.error(f"no figure is named {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    with_duckdb()
    bench = Bench(arguments)
    for name in chosen:
        FIGURES[name](bench)


if __name__ == "__main__":
    main()
