#!/usr/bin/env python3
"""Vector search end to end, through SQL: Cairn beside LanceDB, DuckDB VSS, pgvector and Qdrant Edge, from one run.

    python3 benches/vector_sql.py --data DIR [--rounds N] [--figures search,filtered,exact,open,million,batch] [--rivals …]

DIR holds base.parquet (id = 0, 1, …; label; pick, a random permutation; vector) and queries.parquet (vector). Builds
`cairn-bench`; each rival is a process of `vector_rivals.py` in a virtual environment of its own under target/bench-venvs,
made at the first run. Databases and indexes are built once under --home and used again. A rival that cannot be had is
named with the reason and left out.

Everyone searches with one thread, one query at a time; k = 10, L2. Each engine's settings are swept first and the fastest
that reaches recall 0.99 is measured; one that never does is shown at its best recall. Rounds go through all engines in turn,
another one first each time. A round's figure is the mean over its queries; printed are the median (smallest..largest) of the
rounds. Neighbours at equal distance count alike. docs/src/benchmarks.md says what each figure means.
"""

import argparse
import contextlib
import importlib
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import threading
import time

import vector_index
import vector_rivals

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "target"
VENV = TARGET / "bench-venv"
VENVS = TARGET / "bench-venvs"
THREADS = vector_rivals.CORES
K = 10
RECALL = 0.99
# Recalls that our index is built for in turn, until searches reach RECALL.
TARGETS = [0.99, 0.991, 0.992, 0.993, 0.995, 0.999]
# Loading and indexing included.
ANSWER_SECONDS_MAX = 3600
# Times that a search of ours must be faster.
BARS = {"lancedb": 10, "duckdb-vss": 10, "pgvector": 3, "qdrant-edge": 1}
COLOURS = {"lancedb": "#d35400", "duckdb-vss": "#27ae60", "pgvector": "#2980b9", "qdrant-edge": "#8e44ad"}
SHARES = {"50 %": 0.5, "10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
NAMES = [*SHARES, "1 row", "0 rows", "own label", "not own label", "far label"]


def with_packages() -> None:
    """Goes on in a virtual environment that has what this script needs itself."""
    try:
        for module in ("numpy", "pyarrow"):
            importlib.import_module(module)
    except ImportError:
        if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
            raise
        python = environment(VENV, ["numpy", "pyarrow"])
        os.execv(str(python), [str(python), *sys.argv])


def environment(folder: pathlib.Path, packages: list) -> pathlib.Path:
    """Python of a virtual environment with the packages."""
    python, made = folder / "bin" / "python", folder / "packages"
    if not made.exists() or made.read_text() != " ".join(packages):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(command, check=True, capture_output=True, text=True)
        made.write_text(" ".join(packages))
    return python


def middle(values: list) -> float:
    return statistics.median(values)


def spread(values: list, digits: int = 0) -> str:
    return f"{middle(values):,.{digits}f} ({min(values):,.{digits}f}..{max(values):,.{digits}f})"


def verdict(name: str, value: float, bar: float, at_most: bool) -> None:
    sign, ok = ("<=", value <= bar) if at_most else (">=", value >= bar)
    print(f"  {name}: {value:.3f}  (bar {sign} {bar:g}: {'met' if ok else 'NOT MET'})")


class Ended(RuntimeError):
    """The process is gone."""


class Engine:
    """A process that answers a line of JSON with a line of JSON; `hello` is its first."""

    def __init__(self, name: str, command: list, log: pathlib.Path, more: dict | None = None):
        self.name, self.log, self.arguments = name, log, (name, command, log, more)
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, **(more or {})},
            )
        self.lines: queue.Queue = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.hello = self.answer()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def answer(self) -> dict:
        try:
            line = self.lines.get(timeout=ANSWER_SECONDS_MAX)
        except queue.Empty:
            self.process.kill()
            raise Ended(f"no answer within {ANSWER_SECONDS_MAX} s; stopped") from None
        if line is None:
            code = self.process.wait()
            said = [text for text in self.log.read_text().splitlines() if text.strip()]
            raise Ended(f"{said[-1] if said else f'it ended with {code}'} (more in {self.log.name})")
        return json.loads(line)

    def again(self) -> None:
        """Starts it again after it ended."""
        self.__init__(*self.arguments)

    def run(self, **asked) -> dict:
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def search(self, setting: dict, queries: list, conditions: list | None = None) -> dict:
        return self.run(setting=setting, k=K, queries=queries, conditions=conditions)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


class Truth:
    """Exact distances of some queries to all rows."""

    def __init__(self, base: pathlib.Path, queries: pathlib.Path, rows: int | None, count: int):
        import numpy as np

        table, vectors = vector_rivals.read(str(base), rows)
        _, asked = vector_rivals.read(str(queries))
        if not (table["id"].to_numpy() == np.arange(len(table))).all():
            raise SystemExit("ids of base.parquet are not 0, 1, 2, …")
        self.vectors, self.rows, self.count = vectors, len(table), min(count, len(asked))
        self.pick, self.label = (table[name].to_numpy().astype("i8") for name in ("pick", "label"))
        wide, asked = vectors.astype("f8"), asked[: self.count].astype("f8")
        squares = (wide**2).sum(1)
        self.distances = (asked**2).sum(1)[:, None] - 2 * asked @ wide.T + squares
        self.nearest_label = self.label[self.distances.argmin(1)]
        self.limits: dict = {}

    def allowed(self, condition: dict | None):
        if condition is None:
            return None
        if "pick" in condition:
            return (self.pick >= condition["pick"][0]) & (self.pick <= condition["pick"][1])
        if "label" in condition:
            return self.label == condition["label"]
        return self.label != condition["not_label"]

    def limit(self, query: int, condition: dict | None):
        """Rows wanted, and the distance of the last of them."""
        import numpy as np

        key = (query, json.dumps(condition))
        if key not in self.limits:
            allowed = self.allowed(condition)
            distances = self.distances[query] if allowed is None else self.distances[query][allowed]
            wanted = min(K, len(distances))
            last = float(np.partition(distances, wanted - 1)[wanted - 1]) if wanted else 0.0
            self.limits[key] = wanted, last
        return self.limits[key]

    def judge(self, queries: list, conditions: list | None, found: list) -> tuple[float, int]:
        """Recall, and how many answers are not min(k, m) different rows for which the condition holds."""
        hits = total = bad = 0
        for query, condition, ids in zip(queries, conditions or [None] * len(queries), found):
            wanted, last = self.limit(query, condition)
            fits = [i for i in set(ids) if self.fits(i, condition)]
            bad += len(ids) != wanted or len(fits) != wanted
            total += wanted
            hits += sum(self.distances[query][i] <= last * (1 + 1e-6) + 1e-6 for i in fits)
        return (hits / total if total else 1.0), bad

    def fits(self, row: int, condition: dict | None) -> bool:
        if condition is None:
            return True
        if "pick" in condition:
            return condition["pick"][0] <= self.pick[row] <= condition["pick"][1]
        if "label" in condition:
            return self.label[row] == condition["label"]
        return self.label[row] != condition["not_label"]

    def far_label(self, query: int) -> int:
        """The label whose nearest row is farthest."""
        labels = sorted(set(self.label.tolist()))
        return max(labels, key=lambda label: self.distances[query][self.label == label].min())

    def filtered(self, name: str, count: int, repeated: bool, turn: int = 0) -> tuple[list, list]:
        """Queries with a condition for each: always the same, or another one each time, in every turn as well (there are
        only as many conditions on labels as labels, though)."""
        queries = list(range(min(count, self.count)))
        if "label" in name:
            if repeated:
                values, counts = self.unique()
                own = values[counts.argmax()]
                queries = [i for i in range(self.count) if self.nearest_label[i] == own][:count]
            of = (lambda i: int(self.nearest_label[i])) if name != "far label" else self.far_label
            first = of(queries[0])
            key = "not_label" if name == "not own label" else "label"
            return queries, [{key: first if repeated else of(i)} for i in queries]
        end = int(self.pick.max()) + 1
        # Far apart for queries that follow each other.
        places = [0 if repeated else (turn * len(queries) + i) * 7919 for i in queries]
        if name == "1 row":
            picks = [int(self.pick[place % self.rows]) for place in places]
            return queries, [{"pick": [pick, pick]} for pick in picks]
        if name == "0 rows":
            return queries, [{"pick": [end + place, end + place]} for place in places]
        length = round(end * SHARES[name])
        firsts = [(end // 3 + place) % (end - length + 1) for place in places]
        return queries, [{"pick": [first, first + length - 1]} for first in firsts]

    def unique(self):
        import numpy as np

        return np.unique(self.nearest_label, return_counts=True)


class Bench:
    """All engines over one data set."""

    def __init__(self, arguments):
        base, queries = arguments.data / "base.parquet", arguments.data / "queries.parquet"
        self.arguments = arguments
        self.home = arguments.home
        self.home.mkdir(parents=True, exist_ok=True)
        self.truth = Truth(base, queries, arguments.rows, arguments.queries)
        self.files = ["--base", base.resolve(), "--queries", queries.resolve(), "--rows", self.truth.rows]
        self.binary = arguments.binary or built()
        self.rivals: dict = {}
        self.cairn: Engine | None = None
        self.target = TARGETS[0]

    def ours(self, *more, files: list | None = None, target: float | None = None) -> Engine:
        command = [self.binary, "--data", self.home, "vector-sql", *(files or self.files), "--target", target or self.target]
        return Engine("cairn", [*command, *more], self.home / "cairn.log")

    def start(self) -> None:
        """Opens ours, built for a recall that reaches RECALL, and the rivals."""
        queries = list(range(self.truth.count))
        for self.target in TARGETS:
            self.cairn = self.ours()
            recall, _ = self.truth.judge(queries, None, self.cairn.search({"how": "prepared"}, queries)["ids"])
            print(f"cairn: target_recall {self.target}: {recall:.4f}, table and index built in {self.cairn.hello['build_s']:.0f} s")
            if recall >= RECALL or self.target == TARGETS[-1]:
                if not self.cairn.hello["call_takes_vectors"]:
                    print("cairn: vector_search takes no vector parameter in this build; it gets text")
                break
            self.cairn.close()
        for name in filter(None, self.arguments.rivals.split(",")):
            try:
                python = environment(VENVS / name, vector_rivals.PACKAGES[name])
                command = [python, HERE / "vector_rivals.py", name, *self.files, "--home", self.home]
                rival = Engine(name, command, self.home / f"{name}.log", vector_rivals.ONE_THREAD)
            except subprocess.CalledProcessError as error:
                print(f"{name}: not available here: {(error.stderr or str(error)).strip().splitlines()[-1]}")
            except (RuntimeError, OSError) as error:
                print(f"{name}: not available here: {error}")
            else:
                self.rivals[name] = rival
                print(f"{name}: {rival.hello['named']}, loaded and indexed in {rival.hello['build_s']:.0f} s")

    def stop(self) -> None:
        for engine in [*self.rivals.values(), *filter(None, [self.cairn])]:
            engine.close()
        self.rivals, self.cairn = {}, None

    def sweep(self, engine: Engine, settings: list, queries: list, conditions: list | None, whole: bool):
        """(recall, median µs, setting) of each setting; unless `whole`, those that are clearly slower than the best are cut short."""
        points, best = [], None
        for setting in settings:
            try:
                if best and not whole:
                    part = queries[:10], conditions and conditions[:10]
                    if middle(engine.search(setting, *part)["micros"]) > 2 * best:
                        continue
                found = engine.search(setting, queries, conditions)
            except RuntimeError as error:
                print(f"  {engine.name}, {said(setting)}: {error}")
                if isinstance(error, Ended):
                    engine.again()
                continue
            recall, bad = self.truth.judge(queries, conditions, found["ids"])
            # A pass is short: whoever else ran for a moment must not choose the setting.
            micros = middle(found["micros"])
            points.append((recall, micros, setting))
            if recall >= RECALL and not bad:
                best = min(best or micros, micros)
        return points

    def rounds(self, contenders: dict, queries: list, conditions_of=lambda _: None) -> dict:
        """(means, recall, bad answers, every µs) of each contender (engine, setting); recall is the lowest of the rounds."""
        names = list(contenders)
        means = {name: [] for name in names}
        micros = {name: [] for name in names}
        judged = {}
        for number in range(self.arguments.rounds):
            turn, conditions = number % len(names), conditions_of(number)
            for name in names[turn:] + names[:turn]:
                engine, setting = contenders[name]
                try:
                    found = engine.search(setting, queries, conditions)
                except Ended as error:
                    if engine is self.cairn:
                        raise
                    print(f"  {name}, {said(setting)}: {error}; started again")
                    engine.again()
                    found = engine.search(setting, queries, conditions)
                means[name].append(statistics.mean(found["micros"]))
                micros[name] += found["micros"]
                recall, bad = self.truth.judge(queries, conditions, found["ids"])
                before = judged.get(name, (1.0, 0))
                judged[name] = min(before[0], recall), max(before[1], bad)
        return {name: (means[name], *judged[name], sorted(micros[name])) for name in names}


def built() -> pathlib.Path:
    subprocess.run(["cargo", "build", "--release", "-p", "cairn-benches"], cwd=HERE.parent, check=True)
    meta = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=HERE.parent, check=True, capture_output=True, text=True
    )
    return pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release" / "cairn-bench"


def chosen(points: list) -> dict | None:
    """The fastest setting that reaches RECALL, else the one with the best recall."""
    enough = [point for point in points if point[0] >= RECALL]
    if enough:
        return min(enough, key=lambda point: point[1])[2]
    return max(points, key=lambda point: (point[0], -point[1]))[2] if points else None


def said(setting: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in setting.items())


def search(bench: Bench) -> None:
    queries = list(range(bench.truth.count))
    print(f"\n## search: SELECT id … ORDER BY embedding <-> $1 LIMIT {K}, {len(queries)} queries, {bench.arguments.rounds} rounds, one thread")
    contenders = {name: (bench.cairn, {"how": how}) for name, how in
                  (("index, no SQL", "bare"), ("cairn", "prepared"), ("cairn, text vector", "text"))}
    curves = {"cairn": bench.sweep(bench.cairn, bench.cairn.hello["settings"]["plain"], queries, None, True)}
    for name, rival in bench.rivals.items():
        curves[name] = bench.sweep(rival, rival.hello["settings"]["plain"], queries, None, True)
        if curves[name]:
            contenders[name] = (rival, chosen(curves[name]))
    results = bench.rounds(contenders, queries)
    ours, _, _, _ = results["cairn"]
    print(f"  {'':20} {'µs a query':>28} {'p50':>8} {'p99':>8} {'recall':>7} {'QPS':>8} {'/ ours':>7}  setting")
    for name, (means, recall, bad, micros) in results.items():
        p50, p99 = (micros[int(len(micros) * part)] for part in (0.5, 0.99))
        short = f", {bad} answers not {K} rows" if bad else ""
        print(f"  {name:20} {spread(means):>28} {p50:8,.0f} {p99:8,.0f} {recall:7.4f} {1e6 / middle(means):8,.0f} "
              f"{middle(means) / middle(ours):7.2f}  {said(contenders[name][1])}{short}")
    above = [sql - bare for sql, bare in zip(ours, results["index, no SQL"][0])]
    print(f"  SQL above the index, round by round: {spread(above)} µs")
    verdict("SQL above the index, µs", middle(above), 300, at_most=True)
    verdict("our recall", results["cairn"][1], RECALL, at_most=False)
    for name, bar in BARS.items():
        if name in results:
            at = "" if results[name][1] >= RECALL else f" (its recall is {results[name][1]:.4f})"
            verdict(f"{name} / ours{at}", middle(results[name][0]) / middle(ours), bar, at_most=False)
    print("  recall:QPS@setting, one pass of the queries each, by its median:")
    for name, points in curves.items():
        print(f"    {name}: " + "  ".join(f"{p[0]:.4f}:{1e6 / p[1]:,.0f}@{said(p[2])}" for p in front(points)))
    vector_index.COLOURS.update(COLOURS)
    curves = {name: points for name, points in curves.items() if points}
    drawn = {name: [(*p[:2], p[1], p[1], said(p[2])) for p in front(points)] for name, points in curves.items()}
    vector_index.draw_curves({"through SQL": drawn}, bench.arguments.out)


def front(points: list) -> list:
    """Those points than which none is better in both."""
    kept = []
    for point in sorted(points, key=lambda p: (p[1], -p[0])):
        if not kept or point[0] > kept[-1][0]:
            kept.append(point)
    return kept


def filtered(bench: Bench) -> None:
    print(f"\n## filtered: … WHERE condition ORDER BY embedding <-> $1 LIMIT {K}, {bench.arguments.filter_queries} queries, "
          f"{bench.arguments.rounds} rounds, one thread; µs a query")
    fast = {"cairn": "prepared", "cairn exact": "exact", "cairn ann": "ann"}
    missed = []
    for name in NAMES:
        for repeated in (True, False):
            queries, conditions = bench.truth.filtered(name, bench.arguments.filter_queries, repeated)
            kind = "always the same" if repeated else "another each time"
            contenders = {ours: (bench.cairn, {"how": how}) for ours, how in fast.items()}
            for rival_name, rival in bench.rivals.items():
                points = bench.sweep(rival, rival.hello["settings"]["filtered"], queries, conditions, False)
                if points:
                    contenders[rival_name] = (rival, chosen(points))
            # The sweep has seen the conditions of turn 0.
            results = bench.rounds(
                contenders, queries, lambda number: bench.truth.filtered(name, bench.arguments.filter_queries, repeated, number + 1)[1]
            )
            ours, recall, bad, _ = results["cairn"]
            rows = [int(bench.truth.allowed(condition).sum()) for condition in conditions]
            print(f"  {name}, {kind} ({min(rows)}..{max(rows)} rows)")
            for who, (means, found, short, micros) in results.items():
                note = f", {short} of {len(queries)} answers not min(k, m) rows" if short else ""
                at = "" if found >= RECALL else "  BELOW 0.99"
                print(f"    {who:12} {spread(means):>26} p50 {middle(micros):8,.0f} recall {found:.4f}  / ours {middle(means) / middle(ours):7.2f}  "
                      f"{said(contenders[who][1])}{note}{at}")
            better = min(middle(results[other][0]) for other in ("cairn exact", "cairn ann"))
            problems = []
            if recall < RECALL:
                problems.append(f"recall {recall:.4f}")
            if bad:
                problems.append(f"{bad} answers not min(k, m) rows")
            if middle(ours) > 2 * better:
                problems.append(f"{middle(ours) / better:.2f} of the better plan")
            problems += [f"slower than {rival}" for rival in bench.rivals
                         if rival in results and results[rival][1] >= RECALL and middle(results[rival][0]) < middle(ours)]
            missed += [f"{name}, {kind}: {problem}" for problem in problems]
    print("  bars: recall >= 0.99, exactly min(k, m) rows, <= 2 of the better plan, faster than every rival at recall >= 0.99: "
          + ("all met" if not missed else "NOT MET:"))
    for miss in missed:
        print(f"    {miss}")


def exact(bench: Bench) -> None:
    queries = list(range(min(20, bench.truth.count)))
    print(f"\n## exact: vector_search(…, mode => 'exact') over {bench.truth.rows} rows, warm, one thread, {len(queries)} queries")
    means, sums, bytes_read = [], [], bench.truth.vectors.nbytes
    flat = bench.truth.vectors.reshape(-1)
    for _ in range(bench.arguments.rounds):
        sums.append(bytes_read / min(bench.cairn.run(cmd="sum")["seconds"]) / 1e9)
        found = bench.cairn.search({"how": "exact"}, queries)
        means.append(bytes_read / statistics.mean(found["micros"]) / 1e3)
    recall, _ = bench.truth.judge(queries, None, found["ids"])
    by_numpy = []
    for _ in range(11):
        started = time.perf_counter()
        flat.sum()
        by_numpy.append(bytes_read / (time.perf_counter() - started) / 1e9)
    print(f"  exact {spread(means, 2)} GB/s, {bytes_read / middle(means) / 1e6:,.2f} ms a query, recall {recall:.4f}")
    print(f"  plain sum {spread(sums, 2)} GB/s; numpy's {spread(by_numpy[1:], 2)} GB/s")
    verdict("exact / the faster sum", middle(means) / max(middle(sums), middle(by_numpy[1:])), 0.5, at_most=False)
    for name, rival in bench.rivals.items():
        setting = next((s for s in rival.hello["settings"]["filtered"] if "exact" in s), None)
        if setting:
            micros = statistics.mean(rival.search(setting, queries)["micros"])
            print(f"  {name}: {micros / 1e3:,.2f} ms, {bytes_read / micros / 1e3:.2f} GB/s, / ours {micros * middle(means) * 1e3 / bytes_read:.1f}")


def opened(bench: Bench, files: list | None = None, target: float | None = None) -> dict:
    """Times of a process that opens and searches, round by round."""
    times: dict = {"wall_ms": []}
    for _ in range(bench.arguments.rounds):
        started = time.perf_counter()
        engine = bench.ours("--open-only", files=files, target=target)
        times["wall_ms"].append((time.perf_counter() - started) * 1e3)
        engine.process.wait()
        hello = engine.hello
        for name, value in [("open_ms", hello["open_ms"]), ("unit_open_ms", hello["unit_open_ms"]), ("first_ms", hello["first_ms"]),
                            ("first_search_ms", hello["searches_ms"][0]), ("second_search_ms", hello["searches_ms"][1])]:
            times.setdefault(name, []).append(value)
    return times


def print_opened(times: dict) -> None:
    print(f"  process start to the end of two searches {spread(times['wall_ms'], 1)} ms (the query file is read in it)")
    print(f"  open {spread(times['open_ms'], 2)} ms, to the first answer {spread(times['first_ms'], 2)} ms "
          f"(its search {spread(times['first_search_ms'], 2)} ms, the second {spread(times['second_search_ms'], 2)} ms)")
    print(f"  index unit, map and open {spread(times['unit_open_ms'], 3)} ms")


def open_(bench: Bench) -> None:
    print(f"\n## open: a new process to its first search, {bench.truth.rows} rows, {bench.arguments.rounds} rounds")
    # Two processes cannot write one database.
    bench.cairn.close()
    bench.cairn = None
    print_opened(opened(bench))
    for name, rival in bench.rivals.items():
        print(f"  {name}, once: open {rival.hello['open_ms']:,.1f} ms, to the first answer {rival.hello['first_ms']:,.1f} ms")


def million(bench: Bench) -> None:
    """A million rows of 128, clustered as in vector_index.py."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, dim = bench.arguments.million_rows, 128
    print(f"\n## million: open of {rows} x {dim} (clustered)")
    if bench.cairn:
        bench.cairn.close()
        bench.cairn = None
    file = bench.home / f"million-{rows}.parquet"
    if not file.exists():
        rng = np.random.default_rng(8)
        centres = rng.standard_normal((1000, dim), dtype="f4")
        part = file.with_suffix(".part")
        numbers = np.arange(rows)
        vectors = centres[rng.integers(0, 1000, rows)] + np.float32(0.6) * rng.standard_normal((rows, dim), dtype="f4")
        columns = {
            "id": numbers, "label": (numbers % 10).astype("i1"), "pick": rng.permutation(rows).astype("i4"),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
        }
        pq.write_table(pa.table(columns), part, row_group_size=100_000, compression="none", use_dictionary=False)
        part.rename(file)
    asked = bench.home / "million-queries.parquet"
    pq.write_table(pq.ParquetFile(file).read_row_group(0, columns=["vector"]).slice(0, 100), asked)
    files = ["--base", file.resolve(), "--queries", asked.resolve(), "--rows", rows]
    # The target changes the walks' width, not the unit's size.
    command = [bench.binary, "--data", bench.home, "vector-sql", *files, "--target", TARGETS[0], "--build-only"]
    subprocess.run(list(map(str, command)), check=True)
    times = opened(bench, files, TARGETS[0])
    print_opened(times)
    verdict("index unit, map and open, ms", middle(times["unit_open_ms"]), 5, at_most=True)


def batch(bench: Bench) -> None:
    count = bench.truth.count
    print(f"\n## batch: {count} query vectors in one statement, {THREADS} threads")
    if bench.cairn:
        bench.cairn.close()
    bench.cairn = bench.ours("--threads", THREADS)
    queries = list(range(count))
    one = [statistics.mean(bench.cairn.search({"how": "prepared"}, queries)["micros"]) for _ in range(bench.arguments.rounds)]
    try:
        found = bench.cairn.run(cmd="batch", count=count, rounds=bench.arguments.rounds)
    except RuntimeError as error:
        print(f"  not in this build: {error}")
        return
    recall, bad = bench.truth.judge(queries, None, found["ids"])
    rates = [count / seconds for seconds in found["seconds"]]
    print(f"  {spread(rates)} queries/s, recall {recall:.4f}{f', {bad} answers not {K} rows' if bad else ''}")
    print(f"  one statement each, one after the other: {1e6 / middle(one):,.0f} queries/s; batch / that {middle(rates) * middle(one) / 1e6:.2f}")


FIGURES = {"search": search, "filtered": filtered, "exact": exact, "open": open_, "million": million, "batch": batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of base.parquet and queries.parquet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--figures", default="search,filtered,exact,open", help="of " + ",".join(FIGURES))
    parser.add_argument("--million", action="store_true", help="the figure million too")
    parser.add_argument("--rivals", default=",".join(vector_rivals.RIVALS))
    parser.add_argument("--rows", type=int, help="only the first rows of the base")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--filter-queries", type=int, default=50)
    parser.add_argument("--million-rows", type=int, default=1_000_000, help="to try it with fewer")
    parser.add_argument("--home", type=pathlib.Path, default=TARGET / "bench-data" / "vector", help="where databases are kept")
    parser.add_argument("--out", default=str(TARGET / "vector_sql.svg"), help="picture of recall and QPS")
    parser.add_argument("--binary", help="a cairn-bench that is built already")
    arguments = parser.parse_args()
    wanted = arguments.figures.split(",") + (["million"] if arguments.million else [])
    for name in wanted:
        if name not in FIGURES:
            parser.error(f"there is no figure {name}; there are {', '.join(FIGURES)}")
    with_packages()
    # A run takes minutes; what is measured is shown, also into a file.
    sys.stdout.reconfigure(line_buffering=True)
    bench = Bench(arguments)
    if wanted != ["million"]:
        bench.start()
    try:
        # In the order of FIGURES: those that need our one-thread process come first.
        for name, figure in FIGURES.items():
            if name in wanted:
                figure(bench)
    finally:
        bench.stop()


if __name__ == "__main__":
    main()
