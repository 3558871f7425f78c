"""Reads segments of the table of tests/files.rs with pyarrow and DuckDB and checks columns, values, NULLs and field ids.

    python3 read_segments.py ROWS SEGMENT.parquet …

Needs: pip install pyarrow duckdb
"""

import datetime
import decimal
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = [
    "id", "small", "big_unsigned", "flag", "ratio", "price", "name", "bytes", "day", "moment", "instant", "tags",
]
EPOCH = datetime.datetime(1970, 1, 1)


def row(i: int) -> list:
    """What row `i` must hold."""
    if i % 3 == 0:
        return [i] + [None] * (len(NAMES) - 1)
    moment = EPOCH + datetime.timedelta(seconds=i)
    # 0.125 has no exact form with two digits; a quarter has.
    price = decimal.Decimal(i) / 4
    return [
        i, i - 500, i, i % 2 == 0, i / 8, price.quantize(decimal.Decimal("0.01")), f"name {i}", f"b{i}".encode(),
        datetime.date(1970, 1, 1) + datetime.timedelta(days=i), moment, moment.replace(tzinfo=datetime.timezone.utc),
        ["a", f"b{i}"],
    ]


def check(reader: str, rows: list, count: int) -> None:
    assert len(rows) == count, f"{reader}: {len(rows)} rows, want {count}"
    for found in sorted(rows, key=lambda r: r[0]):
        want = row(found[0])
        assert list(found) == want, f"{reader}: {found} is not {want}"
    print(f"{reader}: {count} rows as they should be")


def main(count: int, paths: list) -> None:
    rows = []
    for path in paths:
        schema = pq.read_schema(path)
        for number, name in enumerate(NAMES, start=1):
            field = schema.field(name)
            found = field.metadata[b"PARQUET:field_id"]
            assert int(found) == number, f"{name} has field id {found}, want {number}"
        assert pa.types.is_decimal(schema.field("price").type), schema.field("price").type
        assert schema.field("instant").type.tz == "UTC", schema.field("instant").type
        table = pq.read_table(path, columns=NAMES)
        rows += [[r[name] for name in NAMES] for r in table.to_pylist()]
    check(f"pyarrow {pa.__version__}", rows, count)

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    columns = ", ".join(NAMES).replace("instant", "instant AT TIME ZONE 'UTC'")
    found = db.execute(f"SELECT {columns} FROM read_parquet(?)", [paths]).fetchall()
    rows = [
        [v.replace(tzinfo=datetime.timezone.utc) if name == "instant" and v else v for name, v in zip(NAMES, r)]
        for r in found
    ]
    check(f"DuckDB {duckdb.__version__}", rows, count)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
