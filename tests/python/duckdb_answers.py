"""Asks DuckDB what tests/tests/random/duck.rs asks Cairn.

    echo '{"setup": ["CREATE TABLE …", …], "queries": ["SELECT …", …]}' | python3 duckdb_answers.py

Prints a list with one object a query: {"rows": [["1", "NULL", …], …]} or {"error": "…"}. Values are spelled as
tests/src/answer.rs spells them.

Needs: pip install duckdb
"""

import datetime
import json
import math
import sys

import duckdb


def cell(value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return repr(value)
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S") + (f".{value.microsecond:06}" if value.microsecond else "")
    if isinstance(value, datetime.date):
        return value.isoformat()
    text = str(value)
    return text.replace("\n", "\\n") if text else "(empty)"


def main() -> None:
    asked = json.load(sys.stdin)
    db = duckdb.connect()
    db.execute("SET threads = 1")
    db.execute("SET TimeZone = 'UTC'")
    for statement in asked["setup"]:
        db.execute(statement)
    answers = []
    for query in asked["queries"]:
        try:
            rows = db.execute(query).fetchall()
            answers.append({"rows": [[cell(value) for value in row] for row in rows]})
        except duckdb.Error as error:
            answers.append({"error": str(error)})
    json.dump(answers, sys.stdout)


main()
