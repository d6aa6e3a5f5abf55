#!/usr/bin/env python3
"""Writing strands from Python: plain INSERTs through psycopg2.

As a module:

    with psycopg2.connect("dbname=trading") as db:
        strand = write(db, "AD_strands", {"kind": "signal", "symbol": "SPX",
                       "trading_plan": plan}, ["dm:evaluate_plan"])

As a program, JSON objects (one a line, the columns of a strand) on stdin:

    echo '{"symbol": "SPX", "trading_plan": {"account": "paper"}}' |
        ./producer.py --dbname trading --table AD_strands --tag dm:evaluate_plan

The strand is announced when the transaction commits, and not at all when it
is rolled back.  Ids do not change and a strand is delivered once for each of
its tags: to send again, write a new strand.
"""
import argparse
import json
import sys
import uuid

import psycopg2
from psycopg2 import sql
from psycopg2.extras import Json, execute_values


def new_id(table):
    """AD_strands -> AD_ and twelve hexadecimal digits."""
    prefix = table.split(".")[-1].split("_")[0].upper()
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


def tags_of(tags, high=False, timeout=None):
    """The tags to write: messages first, then what is said about them.

    high:    before normal work.
    timeout: seconds after which the strand is not worth handling any more.
    """
    tags = list(tags)
    if high:
        tags.append("priority:high")
    if timeout is not None:
        tags.append(f"timeout:{timeout:d}")
    return tags


def table_name(table):
    """Quoted as the catalog spells it: AD_strands is ad_strands."""
    return sql.Identifier(*table.lower().split("."))


def value(item):
    return Json(item) if isinstance(item, (dict, list)) else item


def write_many(db, table, strands, tags, high=False, timeout=None):
    """Writes strands in one statement and returns their ids, in order.

    strands: dicts from column to value; dicts and lists become JSON.  All must
    have the same columns, but a missing id is filled in.  The caller commits.
    """
    rows = [{"id": new_id(table), **strand, "tags": tags_of(tags, high, timeout)}
            for strand in strands]
    if not rows:
        return []
    columns = list(rows[0])
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"strand {row['id']} has other columns than the first one")
    query = sql.SQL("INSERT INTO {} ({}) VALUES %s").format(
        table_name(table), sql.SQL(", ").join(map(sql.Identifier, columns)))
    with db.cursor() as cursor:
        execute_values(cursor, query.as_string(db),
                       [[value(row[name]) for name in columns] for row in rows], page_size=1000)
    return [row["id"] for row in rows]


def write(db, table, strand, tags, high=False, timeout=None):
    """Writes one strand and returns its id.  The caller commits."""
    return write_many(db, table, [strand], tags, high, timeout)[0]


def main():
    parser = argparse.ArgumentParser(description="Write strands: one JSON object a line on stdin.")
    parser.add_argument("--dbname", default="", help="database or connection string")
    parser.add_argument("--table", required=True, help="the writing module's table: AD_strands")
    parser.add_argument("--tag", action="append", required=True, dest="tags",
                        help="message tag: dm:evaluate_plan (may be repeated)")
    parser.add_argument("--high", action="store_true", help="add priority:high")
    parser.add_argument("--timeout", type=int, metavar="SECONDS", help="add timeout:SECONDS")
    parser.add_argument("--batch", type=int, default=1000, help="strands a transaction (1000)")
    options = parser.parse_args()

    dsn = options.dbname if "=" in options.dbname or "://" in options.dbname \
        else psycopg2.extensions.make_dsn(dbname=options.dbname or None)
    db = psycopg2.connect(dsn)
    batch = []

    def flush():
        with db:                # commits, or rolls back on an error
            for strand_id in write_many(db, options.table, batch, options.tags,
                                        options.high, options.timeout):
                print(strand_id)
        batch.clear()

    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            strand = json.loads(line)
        except ValueError as error:
            sys.exit(f"producer.py: line {number} is not JSON: {error}")
        if not isinstance(strand, dict):
            sys.exit(f"producer.py: line {number} is not a JSON object")
        batch.append(strand)
        if len(batch) >= options.batch:
            flush()
    flush()


if __name__ == "__main__":
    try:
        main()
    except (psycopg2.Error, ValueError) as error:
        sys.exit(f"producer.py: {str(error).strip()}")
