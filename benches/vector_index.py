#!/usr/bin/env python3
"""Prints the figures of Cairn's vector index beside those of hnswlib, faiss, usearch and hnsw_rs, from one run.

    python3 benches/vector_index.py [--data DIR] [--rounds N] [--sets clustered,mnist,gaussian] [--out FILE.svg] [--skip hnsw_rs]

Builds the example `index_bench` of `cairn-vector`. The rivals come from the Python packages hnswlib, faiss-cpu and usearch,
installed into target/bench-venv at the first run when they are missing; hnsw_rs runs in the example. DIR holds
mnist/{base,queries}.parquet; without it that set is left out. The other sets are drawn with a seed.

Every index is built with the same number of threads (all cores), M = 16, ef_construction = 200 for the rivals, k = 10, exact
neighbours from faiss' flat index. Searches use one thread. Rounds go through all engines and widths in turn, so that a
busy machine hurts all alike; figures are medians, of processor time per query for all engines. QPS at a recall is read off
the measured curve, on a straight line of log(time) between the two points around it.
"""

import argparse
import importlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
VENV = HERE.parent / "target" / "bench-venv"
PACKAGES = {"numpy": "numpy", "pyarrow": "pyarrow", "hnswlib": "hnswlib", "faiss": "faiss-cpu", "usearch": "usearch"}
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
K = 10
WIDTHS = {
    "clustered": [10, 12, 16, 20, 24, 32, 40, 48, 64, 96],
    "mnist": [10, 12, 16, 20, 24, 32, 40, 48, 64, 96],
    "gaussian": [32, 64, 128, 256, 512, 1024],
}
RECALLS = [0.95, 0.99]
COLOURS = {"cairn": "#c0392b", "hnswlib": "#2c3e50", "faiss": "#2980b9", "usearch": "#27ae60", "hnsw_rs": "#8e44ad"}


def with_packages() -> None:
    """Goes on in a virtual environment that has the rivals, made when they are not there."""
    try:
        for module in PACKAGES:
            importlib.import_module(module)
    except ImportError:
        python = VENV / "bin" / "python"
        if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
            raise
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES.values()], check=True)
        os.execv(str(python), [str(python), *sys.argv])


def draw(name: str, data: pathlib.Path | None):
    """Rows and queries of a set."""
    import numpy as np

    rng = np.random.default_rng(7)
    if name == "clustered":
        centres = rng.standard_normal((1000, 128))

        def some(n):
            return centres[rng.integers(0, 1000, n)] + 0.6 * rng.standard_normal((n, 128))

        return some(100_000).astype("<f4"), some(2_000).astype("<f4")
    if name == "gaussian":
        return rng.standard_normal((50_000, 128)).astype("<f4"), rng.standard_normal((1_000, 128)).astype("<f4")
    import pyarrow.parquet as pq

    def column(file):
        vectors = pq.read_table(data / "mnist" / file, columns=["vector"])["vector"].combine_chunks()
        return vectors.flatten().to_numpy().reshape(len(vectors), -1).astype("<f4")

    return column("base.parquet"), column("queries.parquet")


class Program:
    """The example: one command per line in, one JSON object per line out."""

    def __init__(self, binary: str):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *words) -> dict:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"index_bench ended at {words}")
        return json.loads(line)

    def resident(self) -> int:
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


class Cairn:
    def __init__(self, program, *_):
        self.program = program

    def build(self):
        built = self.program.run("build", THREADS)
        self.bytes = built["bytes"]
        return built["wall"], built["cpu"]

    def search(self, width):
        found = self.program.run("search", width)
        return found["cpu_us"], found["recall"]


class HnswRs:
    bytes = None

    def __init__(self, program, *_):
        self.program = program

    def build(self):
        built = self.program.run("hnsw_rs", "build", THREADS)
        return built["wall"], built["cpu"]

    def search(self, width):
        found = self.program.run("hnsw_rs", "search", width)
        return found["cpu_us"], found["recall"]


class Package:
    """A rival of this process."""

    bytes = None

    def __init__(self, _, base, queries, truth):
        self.base, self.queries, self.truth = base, queries, truth

    def build(self):
        wall, cpu = time.perf_counter(), time.process_time()
        self.make()
        return time.perf_counter() - wall, time.process_time() - cpu

    def search(self, width):
        cpu = time.process_time()
        found = self.ask(width)
        cpu = time.process_time() - cpu
        hits = sum(len(set(f) & set(t)) for f, t in zip(found.tolist(), self.truth[:, :K].tolist()))
        return cpu / len(self.queries) * 1e6, hits / (K * len(self.queries))


class Hnswlib(Package):
    def make(self):
        import hnswlib

        self.index = hnswlib.Index("l2", self.base.shape[1])
        self.index.init_index(len(self.base), M=16, ef_construction=200)
        self.index.add_items(self.base, num_threads=THREADS)
        with tempfile.NamedTemporaryFile() as file:
            self.index.save_index(file.name)
            self.bytes = os.path.getsize(file.name)

    def ask(self, width):
        self.index.set_ef(width)
        return self.index.knn_query(self.queries, K, num_threads=1)[0]


class Faiss(Package):
    def make(self):
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self.index = faiss.IndexHNSWFlat(self.base.shape[1], 16)
        self.index.hnsw.efConstruction = 200
        self.index.add(self.base)

    def ask(self, width):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index.hnsw.efSearch = width
        return self.index.search(self.queries, K)[1]


class Usearch(Package):
    def make(self):
        import numpy as np
        from usearch.index import Index

        self.index = Index(
            ndim=self.base.shape[1], metric="l2sq", dtype="f32", connectivity=16, expansion_add=200
        )
        self.index.add(np.arange(len(self.base)), self.base, threads=THREADS)

    def ask(self, width):
        self.index.expansion_search = width
        return self.index.search(self.queries, K, threads=1).keys


ENGINES = {"cairn": Cairn, "hnswlib": Hnswlib, "faiss": Faiss, "usearch": Usearch, "hnsw_rs": HnswRs}


def at_recall(curve, recall):
    """Microseconds at a recall, between the points around it; None when the curve does not reach it."""
    best = None
    for (low_recall, low_time), (high_recall, high_time) in zip(curve, curve[1:]):
        if low_recall < recall <= high_recall:
            part = (recall - low_recall) / (high_recall - low_recall)
            best = math.exp(math.log(low_time) * (1 - part) + math.log(high_time) * part)
            break
    if best is None and curve and curve[0][0] >= recall:
        best = curve[0][1]
    return best


def measure(name, program, rounds, skip, data, folder):
    """Builds all engines over one set and searches in turn; returns the curves."""
    import faiss

    base, queries = draw(name, data)
    flat = faiss.IndexFlatL2(base.shape[1])
    faiss.omp_set_num_threads(THREADS)
    flat.add(base)
    truth = flat.search(queries, 100)[1]
    files = [folder / f"{name}.{part}" for part in ("base", "queries", "truth")]
    for file, array in zip(files, (base, queries, truth.astype("<u4"))):
        array.tofile(file)
    loaded = program.run("load", base.shape[1], *files)
    print(f"\n## {name}: {len(base)} x {base.shape[1]}, {len(queries)} queries, kernels {loaded['kernels']}")
    engines, builds = {}, {}
    for engine, kind in ENGINES.items():
        if engine not in skip:
            engines[engine] = kind(program, base, queries, truth)
            builds[engine] = engines[engine].build()
    wall, cpu = builds["cairn"]
    print(f"build, {THREADS} threads     wall s   ratio    cpu s   ratio   index bytes per row")
    for engine, (w, c) in builds.items():
        size = engines[engine].bytes
        size = f"{size / len(base):12.0f}" if size else ""
        print(f"  {engine:12} {w:14.2f} {w / wall:7.1f} {c:8.2f} {c / cpu:7.1f} {size}")
    sizes = engines["cairn"].bytes, engines.get("hnswlib") and engines["hnswlib"].bytes
    if sizes[1]:
        print(f"  memory: {sizes[0] / sizes[1]:.3f} of hnswlib's")
    curves = search_rounds(engines, WIDTHS[name], rounds)
    report(curves)
    scan = [program.run("scan") for _ in range(3)]
    ratio = statistics.median(s["ratio"] for s in scan)
    print(f"exact scan: {scan[0]['kernel_gb_s']} GB/s, plain sum {scan[0]['sum_gb_s']} GB/s, ratio {ratio:.2f}")
    return curves


def search_rounds(engines, widths, rounds):
    times = {(engine, width): [] for engine in engines for width in widths}
    recalls = {}
    for _ in range(rounds):
        for width in widths:
            for engine in engines:
                micros, recalls[engine, width] = engines[engine].search(width)
                times[engine, width].append(micros)
    return {
        engine: [(recalls[engine, w], statistics.median(times[engine, w]), min(times[engine, w]), max(times[engine, w]), w) for w in widths]
        for engine in engines
    }


def report(curves):
    for engine, points in curves.items():
        text = "  ".join(f"{p[0]:.4f}@{p[4]}:{1e6 / p[1]:.0f}({1e6 / p[3]:.0f}..{1e6 / p[2]:.0f})" for p in points)
        print(f"  {engine:8} {text}")
    for recall in RECALLS:
        at = {engine: at_recall([p[:2] for p in points], recall) for engine, points in curves.items()}
        parts = []
        for engine, micros in at.items():
            if micros is None:
                parts.append(f"{engine} not reached")
            elif engine == "cairn" or at["cairn"] is None:
                parts.append(f"{engine} {1e6 / micros:.0f}/s")
            else:
                parts.append(f"{engine} {1e6 / micros:.0f}/s ({micros / at['cairn']:.2f}x)")
        print(f"recall {recall}: " + ", ".join(parts))


def open_time(program, binary, folder):
    """Time to open a unit of 1M x 128 from its file, and of the first searches: each time a new process, the file in the page cache."""
    import numpy as np

    rng = np.random.default_rng(8)
    centres = rng.standard_normal((1000, 128), dtype="f4")
    base = centres[rng.integers(0, 1000, 1_000_000)] + 0.6 * rng.standard_normal((1_000_000, 128), dtype="f4")
    files = [folder / f"million.{part}" for part in ("base", "queries", "truth")]
    base.astype("<f4").tofile(files[0])
    queries = centres[rng.integers(0, 1000, 200)] + 0.6 * rng.standard_normal((200, 128), dtype="f4")
    queries.astype("<f4").tofile(files[1])
    np.zeros((200, 10), "<u4").tofile(files[2])
    program.run("load", 128, *files)
    built = program.run("build", THREADS)
    program.run("save", folder / "million.hnsw")
    unit = folder / "million.hnsw"
    opened = [Program(binary).run("open", unit, 128, files[0], files[1], 64) for _ in range(9)]
    median = {key: statistics.median(o[key] for o in opened) for key in opened[0]}
    print(f"\n1M x 128: built in {built['wall']:.1f} s ({built['cpu']:.1f} cpu s), {built['bytes']} bytes\n"
          f"  opened from its file in {median['open_ms']:.3f} ms, first search {median['first_search_ms']:.2f} ms, "
          f"next ones {median['next_us']:.0f} us\n"
          f"  all blocks checked in {median['check_ms']:.0f} ms; the same searches {median['asking_us']:.0f} us before, "
          f"{median['checked_us']:.0f} us after")


def draw_curves(all_curves, file):
    """Recall against queries per second, as SVG."""
    width, height, left, top = 460, 340, 60, 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{(width + 40) * len(all_curves) + 40}" height="{height + 110}" '
             f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for place, (name, curves) in enumerate(all_curves.items()):
        points = [p for c in curves.values() for p in c]
        low = max(0.0, min(p[0] for p in points))
        rates = [1e6 / p[1] for p in points]
        bottom, ceiling = math.log10(min(rates)), math.log10(max(rates))

        # Recall on the scale of log(1 - recall), where 0.9, 0.99, 0.999 lie equally far apart.
        def across(recall):
            scale = lambda r: -math.log10(max(1 - r, 2e-4))
            return left + place * (width + 40) + (scale(recall) - scale(low)) / (scale(1) - scale(low)) * (width - left)

        def down(rate):
            return top + (ceiling - math.log10(rate)) / max(ceiling - bottom, 1e-9) * (height - top)

        parts.append(f'<text x="{across(low)}" y="20" font-size="15">{name}: recall@10, queries per second (one thread)</text>')
        for tick in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
            if tick >= low:
                x = across(tick)
                parts.append(f'<line x1="{x}" x2="{x}" y1="{top}" y2="{height}" stroke="#ddd"/>'
                             f'<text x="{x}" y="{height + 16}" text-anchor="middle">{tick}</text>')
        for power in range(math.floor(bottom), math.ceil(ceiling) + 1):
            for factor in (1, 2, 5):
                if bottom <= math.log10(factor * 10**power) <= ceiling:
                    y = down(factor * 10**power)
                    parts.append(f'<line x1="{across(low)}" x2="{across(1)}" y1="{y}" y2="{y}" stroke="#eee"/>'
                                 f'<text x="{across(low) - 4}" y="{y + 4}" text-anchor="end">{factor * 10**power:g}</text>')
        for line, (engine, curve) in enumerate(curves.items()):
            path = " ".join(f"{across(p[0]):.1f},{down(1e6 / p[1]):.1f}" for p in curve)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[engine]}" stroke-width="2"/>')
            parts += [f'<circle cx="{across(p[0]):.1f}" cy="{down(1e6 / p[1]):.1f}" r="3" fill="{COLOURS[engine]}"/>' for p in curve]
            x = across(low) + line * 85
            parts.append(f'<text x="{x}" y="{height + 45}" fill="{COLOURS[engine]}">● {engine}</text>')
    pathlib.Path(file).write_text("\n".join(parts) + "</svg>\n")
    print(f"\ncurves: {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", default="clustered,mnist,gaussian")
    parser.add_argument("--skip", default="")
    parser.add_argument("--out", default=str(HERE.parent / "target" / "vector_index.svg"))
    parser.add_argument("--binary", help="the built example")
    parser.add_argument("--million", action="store_true", help="also build and open a unit of 1M x 128")
    arguments = parser.parse_args()
    with_packages()
    binary = arguments.binary
    if binary is None:
        command = ["cargo", "build", "--release", "-p", "cairn-vector", "--example", "index_bench"]
        subprocess.run(command, cwd=HERE.parent, check=True)
        meta = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=HERE.parent,
                              check=True, capture_output=True, text=True)
        binary = str(pathlib.Path(json.loads(meta.stdout)["target_directory"]) / "release" / "examples" / "index_bench")
    program = Program(binary)
    curves = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets.split(","):
            if name == "mnist" and arguments.data is None:
                print("mnist: left out, no --data")
                continue
            skip = set(filter(None, arguments.skip.split(",")))
            curves[name] = measure(name, program, arguments.rounds, skip, arguments.data, pathlib.Path(folder))
        if arguments.million:
            open_time(program, binary, pathlib.Path(folder))
    draw_curves(curves, arguments.out)


if __name__ == "__main__":
    main()
