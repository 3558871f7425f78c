"""Makes the known answers of TPC-H at scale 0.01 with another engine.

    pip install duckdb
    python3 tests/answers/make.py target/debug/cairn-test-process

The program writes the data and the queries (`tpch-data`, `tpch-query`), DuckDB answers them. One file a query, columns
separated by |, first line the names. Run once and commit; the tests only read the files.
"""

import pathlib
import subprocess
import sys
import tempfile

import duckdb


def main(program: str) -> None:
    here = pathlib.Path(__file__).parent / "tpch"
    here.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        subprocess.run([program, "tpch-data", data, "0.01"], check=True)
        db = duckdb.connect()
        for file in pathlib.Path(data).glob("*.parquet"):
            db.execute(f"CREATE TABLE {file.stem} AS SELECT * FROM '{file}'")
        for number in range(1, 23):
            text = subprocess.run(
                [program, "tpch-query", str(number)], check=True, capture_output=True, text=True
            ).stdout
            rows, names = [], []
            for statement in text.split(";"):
                if not statement.strip():
                    continue
                result = db.execute(statement)
                if statement.strip().lower().startswith("select"):
                    names = [column[0] for column in result.description]
                    rows = result.fetchall()
            lines = ["|".join(names)]
            lines += ["|".join("NULL" if value is None else str(value) for value in row) for row in rows]
            (here / f"q{number:02}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
