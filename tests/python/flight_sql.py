"""A Flight SQL server as Python programs use it: ADBC, pyarrow, polars, DuckDB.

Usage: flight_sql.py grpc://host:port
The server runs on an empty database. Every check fails with an assertion that says what is wrong.
"""

import datetime
import decimal
import sys
import threading
import time

import adbc_driver_manager
import duckdb
import polars
import pyarrow as pa
import pyarrow.flight
from adbc_driver_flightsql import dbapi

URI = sys.argv[1]


def connect(**options):
    return dbapi.connect(URI, **options)


def fails(status, act):
    try:
        act()
    except adbc_driver_manager.Error as error:
        assert error.status_code == status, f"{error.status_code!r} instead of {status!r}: {error}"
        return str(error)
    raise AssertionError(f"nothing failed, {status!r} was expected")


def statements():
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE)")
        cursor.execute("INSERT INTO people VALUES (1, 'Ada', '1815-12-10'), (2, 'Grace', NULL)")
        assert cursor.rowcount == 2, cursor.rowcount
        cursor.execute("SELECT * FROM people ORDER BY id")
        assert cursor.fetchall() == [(1, "Ada", datetime.date(1815, 12, 10)), (2, "Grace", None)]
        cursor.execute("SELECT name FROM people WHERE id = ?", (2,))
        assert cursor.fetchone() == ("Grace",)
        cursor.execute("SELECT name FROM people WHERE id = $1", (1,))
        assert cursor.fetchone() == ("Ada",)
        cursor.executemany("INSERT INTO people VALUES (?, ?, ?)", [(n, f"p{n}", None) for n in range(10, 1010)])
        assert cursor.rowcount == 1000, cursor.rowcount
        cursor.execute("UPDATE people SET name = upper(name) WHERE id >= ?", (1000,))
        assert cursor.rowcount == 10, cursor.rowcount
        cursor.execute("DELETE FROM people WHERE id >= 10 RETURNING id")
        assert len(cursor.fetchall()) == 1000
        cursor.execute("CREATE TABLE points (id INTEGER PRIMARY KEY, place VECTOR(2))")
        cursor.executemany("INSERT INTO points VALUES (?, ?)", [(1, [1.0, 0.0]), (2, [0.0, 1.0]), (3, None)])
        search = "SELECT id FROM vector_search('points', 'place', ?, k => ?)"
        for vector in ([0.0, 2.0], "[0, 2]"):
            cursor.execute(search, (vector, 1))
            assert cursor.fetchall() == [(2,)]
        schema = cursor.adbc_execute_schema("SELECT id, name FROM people")
        assert schema == pa.schema([pa.field("id", pa.int32(), False), ("name", pa.string())]), schema
        parameters = cursor.adbc_prepare("SELECT * FROM people WHERE id = ? AND name = ?")
        assert [field.type for field in parameters] == [pa.int32(), pa.string()], parameters


def types():
    values = {
        "b": pa.array([True, None], pa.bool_()),
        "i8": pa.array([-128, None], pa.int8()),
        "u64": pa.array([2**64 - 1, None], pa.uint64()),
        "f": pa.array([1.5, None], pa.float64()),
        "d": pa.array([decimal.Decimal("12345678901234.5678"), None], pa.decimal128(20, 4)),
        "s": pa.array(["hä?", None], pa.string()),
        "ls": pa.array(["large", None], pa.large_string()),
        "y": pa.array([b"\x00\xff", None], pa.binary()),
        "dt": pa.array([datetime.date(2024, 2, 29), None], pa.date32()),
        "tm": pa.array([datetime.time(12, 34, 56, 789), None], pa.time64("us")),
        "ts": pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3, 4), None], pa.timestamp("us")),
        "tz": pa.array([datetime.datetime(2024, 2, 29), None], pa.timestamp("us", "Europe/Berlin")),
        "v": pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float32(), 3)),
        "l": pa.array([[1, None, 3], None], pa.list_(pa.int64())),
        "st": pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int32()), ("b", pa.string())])),
    }
    table = pa.table(values)
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("types", table, mode="create") == 2
        cursor.execute("SELECT * FROM types")
        stored = cursor.fetch_arrow_table()
        assert stored.to_pylist() == table.to_pylist(), stored.to_pylist()
        for name in table.column_names:
            wanted = pa.string() if name == "ls" else table.schema.field(name).type
            assert stored.schema.field(name).type == wanted, (name, stored.schema.field(name).type)
        cursor.execute("SELECT ?, ?, ?", (None, datetime.datetime(2024, 1, 1), decimal.Decimal("1.50")))
        assert cursor.fetchone() == (None, datetime.datetime(2024, 1, 1), decimal.Decimal("1.50"))


def ingest():
    rows = pa.table({"n": pa.array(range(5), pa.int64())})
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("numbers", rows, mode="create") == 5
        fails(adbc_driver_manager.AdbcStatusCode.ALREADY_EXISTS,
              lambda: cursor.adbc_ingest("numbers", rows, mode="create"))
        assert cursor.adbc_ingest("numbers", rows, mode="append") == 5
        assert cursor.adbc_ingest("numbers", rows.slice(0, 2), mode="replace") == 2
        assert cursor.adbc_ingest("numbers", rows, mode="create_append") == 5
        cursor.execute("SELECT count(*) FROM numbers")
        assert cursor.fetchone() == (7,)
        fails(adbc_driver_manager.AdbcStatusCode.NOT_FOUND,
              lambda: cursor.adbc_ingest("nowhere", rows, mode="append"))
        cursor.execute("CREATE SCHEMA app")
        # A cursor remembers the schema.
        with connection.cursor() as other:
            assert other.adbc_ingest("numbers", rows, mode="create", db_schema_name="app") == 5
        many = pa.table({"n": pa.array(range(500_000), pa.int64()), "t": ["x" * 20] * 500_000})
        assert cursor.adbc_ingest("many", many.to_reader(20_000), mode="create") == 500_000
        cursor.execute("SELECT count(*), sum(n) FROM many")
        assert cursor.fetchone() == (500_000, 124999750000)


def transactions():
    with connect() as one, connect() as two:
        with one.cursor() as first, two.cursor() as second:
            first.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount BIGINT)")
            first.execute("INSERT INTO accounts VALUES (1, 100)")
            fails(adbc_driver_manager.AdbcStatusCode.NOT_FOUND, lambda: second.execute("SELECT * FROM accounts"))
            one.commit()
            two.rollback()
            for cursor in (first, second):
                cursor.execute("UPDATE accounts SET amount = amount + 1 WHERE id = 1")
            one.commit()
            # What ADBC makes of gRPC's ABORTED.
            message = fails(adbc_driver_manager.AdbcStatusCode.UNKNOWN, two.commit)
            assert "meanwhile" in message, message
        with one.cursor() as cursor:
            cursor.execute("DELETE FROM accounts")
            one.rollback()
            cursor.execute("SELECT amount FROM accounts")
            assert cursor.fetchone() == (101,)


def metadata():
    with connect(autocommit=True) as connection:
        tree = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        assert [catalog["catalog_name"] for catalog in tree] == ["cairn"]
        schemas = {schema["db_schema_name"]: schema for schema in tree[0]["catalog_db_schemas"]}
        assert {"public", "app", "system", "information_schema"} <= set(schemas), set(schemas)
        tables = {table["table_name"]: table for table in schemas["public"]["db_schema_tables"]}
        columns = [column["column_name"] for column in tables["people"]["table_columns"]]
        assert columns == ["id", "name", "born"], columns
        assert tables["people"]["table_type"] == "TABLE"
        assert sorted(connection.adbc_get_table_types()) == ["SYSTEM TABLE", "TABLE", "VIEW"]
        schema = connection.adbc_get_table_schema("people")
        assert schema.names == ["id", "name", "born"], schema
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "Cairn", info
        assert connection.adbc_current_catalog == "cairn"
        assert connection.adbc_current_db_schema == "public"
        connection.adbc_current_db_schema = "app"
        assert connection.adbc_current_db_schema == "app"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM numbers")
            assert cursor.fetchone() == (5,)


def errors():
    status = adbc_driver_manager.AdbcStatusCode
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        message = fails(status.NOT_FOUND, lambda: cursor.execute("SELECT * FROM peple"))
        assert "did you mean people?" in message and "line 1, column 15" in message, message
        fails(status.INVALID_ARGUMENT, lambda: cursor.execute("SELEC 1"))
        fails(status.ALREADY_EXISTS, lambda: cursor.execute("CREATE TABLE people (a INTEGER)"))
        fails(status.NOT_IMPLEMENTED, lambda: cursor.execute("LISTEN x"))
        fails(status.INVALID_ARGUMENT, lambda: cursor.execute("SELECT * FROM people WHERE id = ?", (1, 2)))


def cancel():
    endless = "SELECT a.value FROM range(100) a CROSS JOIN range(1000000000000) b WHERE a.value + b.value < 0"
    with connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(endless)
        threading.Timer(0.5, cursor.adbc_cancel).start()
        started = time.monotonic()
        fails(adbc_driver_manager.AdbcStatusCode.CANCELLED, cursor.fetchall)
        assert time.monotonic() - started < 1.5, time.monotonic() - started


def others():
    """Programs that know Flight or ADBC, and nothing of Cairn."""
    location = pyarrow.flight.Location(URI.replace("grpc://", "grpc+tcp://"))
    client = pyarrow.flight.FlightClient(location)
    assert "CancelFlightInfo" in [action.type for action in client.list_actions()]
    client.close()
    with connect(autocommit=True) as connection:
        frame = polars.read_database("SELECT n, t FROM many ORDER BY n LIMIT 3", connection)
        assert frame["n"].to_list() == [0, 1, 2], frame
        frame.write_database("from_polars", connection, engine="adbc", if_table_exists="replace")
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM many")
            reader = cursor.fetch_record_batch()
            [(count, total)] = duckdb.sql("SELECT count(*), sum(n) FROM reader").fetchall()
            assert (count, total) == (500_000, 124999750000), (count, total)
            cursor.execute("SELECT count(*) FROM from_polars")
            assert cursor.fetchone() == (3,)


for check in (statements, types, ingest, transactions, metadata, errors, cancel, others):
    started = time.monotonic()
    check()
    print(f"{check.__name__}: {time.monotonic() - started:.1f} s")
