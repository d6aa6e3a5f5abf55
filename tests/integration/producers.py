"""Producers that write strands in every way there is, and what must have become
of their strands in the end: help for the tests of exactness.

A strand says in `sig_sigma` how many replies its handler gives, and in `symbol`
which table it is in, so that replies can be told apart although the same id
stands in two tables.
"""

import io
import json
import os
import random
import threading

TAG = "dm:evaluate_plan"
REPLY_TAG = "alpha:decision_feedback"

# A second source of the same tag, and the handler that both have.
SECOND_SOURCE = """
CREATE TABLE EX_strands (id text PRIMARY KEY, kind text, symbol text, sig_sigma float8, tags jsonb,
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());

-- as many replies as the strand asks for; the first one wakes alpha
CREATE FUNCTION test.as_many(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'reply ' || i, 'symbol', strand->>'symbol', 'tags',
        CASE i WHEN 1 THEN '["alpha:decision_feedback"]' ELSE '[]' END::jsonb)
     FROM generate_series(1, (strand->>'sig_sigma')::int) i $$;
GRANT EXECUTE ON FUNCTION test.as_many TO strandd_service;
"""

ROUTES = [(TAG, "AD_strands", "test.as_many"), (TAG, "EX_strands", "test.as_many"),
          (REPLY_TAG, "DM_strands", "test.nothing")]

ODD_IDS = [
    "", " ", "  two  spaces ", "it's", '"quoted"', 'a,b', "{a,b}", "{}", "\\", "\\\\x", 'a"b\\"c', "NULL", "null",
    "(1,2)", "$1", "%s", "%", "tab\there", "line\nbreak", "carriage\rreturn", "ÄÖÜ-straße", "日本語の鎖", "🧵" * 20,
    "sha256:", "sha256:" + "0" * 64, "--", ";", "';DROP TABLE ad_strands;--", "\x01\x02", "e\u0301", "\u00e9",
    "x" * 999, "x" * 1000, "x" * 1001, "ü" * 500, "ü" * 501, "y" * 2000, "z" * 7998, "z" * 7999, "z" * 8000,
    "q" * 8100, "AD_1", "ad_1", "dm:evaluate_plan",
]


def seed():
    """The seed of this run: printed, and taken from STRANDD_TEST_SEED."""
    number = int(os.environ.get("STRANDD_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"STRANDD_TEST_SEED={number}")
    return number


def tags(rnd, *more):
    """The tag, sometimes with an attribute, in any order."""
    all_tags = [TAG, *more]
    if rnd.random() < 0.3:
        all_tags.append("priority:high")
    rnd.shuffle(all_tags)
    return json.dumps(all_tags)


def table_of(source):
    return source + "_strands"


class Producer(threading.Thread):
    """Writes `count` strands by `write(self, n)`, which writes about n of them in
    a transaction of its own and returns how many it wrote."""

    def __init__(self, db, source, prefix, write, count, rnd_seed, pause=0.0):
        super().__init__(daemon=True)
        self.source, self.prefix, self.write, self.count = source, prefix, write, count
        self.rnd = random.Random(rnd_seed)
        self.conn = db.connect(user="producer", autocommit=False)
        self.cur = self.conn.cursor()
        self.pause = pause
        self.written = 0
        self.serial = 0
        self.stopped = threading.Event()
        self.error = None

    def run(self):
        try:
            while self.written < self.count and not self.stopped.is_set():
                self.written += self.write(self, self.count - self.written)
                self.stopped.wait(self.pause * self.rnd.random())
        except Exception as error:  # pylint: disable=broad-except
            self.error = error
        finally:
            self.conn.close()

    def finish(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), f"producer {self.prefix} is stuck"
        if self.error:
            raise self.error
        return self.written

    def next_id(self):
        self.serial += 1
        return f"{self.prefix}{self.serial}"

    def row(self):
        return self.next_id(), self.source.upper(), self.rnd.randrange(3), tags(self.rnd)


INSERT = "INSERT INTO {} (id, symbol, sig_sigma, tags) VALUES (%s, %s, %s, %s)"


def single(p, _left):
    p.cur.execute(INSERT.format(table_of(p.source)), p.row())
    p.conn.commit()
    return 1


def bulk(p, left):
    n, first = min(left, p.rnd.randrange(1, 800)), p.serial + 1
    p.serial += n
    p.cur.execute(f"INSERT INTO {table_of(p.source)} (id, symbol, sig_sigma, tags) SELECT %s || i, %s, i %% 3,"
                  " CASE WHEN i %% 5 = 0 THEN '[\"priority:high\", \"dm:evaluate_plan\"]'"
                  " ELSE '[\"dm:evaluate_plan\"]' END::jsonb FROM generate_series(%s, %s) i",
                  (p.prefix, p.source.upper(), first, first + n - 1))
    p.conn.commit()
    return n


def copy(p, left):
    n = min(left, p.rnd.randrange(1, 800))
    lines = io.StringIO("".join("\t".join(map(str, p.row())) + "\n" for _ in range(n)))
    p.cur.copy_from(lines, table_of(p.source), columns=("id", "symbol", "sig_sigma", "tags"))
    p.conn.commit()
    return n


def by_update(p, left):
    """Rows without the tag first; some get it in the same transaction, some later."""
    n = min(left, p.rnd.randrange(1, 200))
    rows = [p.row() for _ in range(n)]
    p.cur.executemany(INSERT.format(table_of(p.source)), [(r[0], r[1], r[2], '["kind:none"]') for r in rows])
    if p.rnd.random() < 0.7:
        p.conn.commit()
    p.cur.execute(f"UPDATE {table_of(p.source)} SET tags = %s WHERE id = ANY (%s)",
                  (tags(p.rnd, "kind:none"), [r[0] for r in rows]))
    p.conn.commit()
    if p.rnd.random() < 0.3:
        # overwriting the tag takes nothing back
        p.cur.execute(f"UPDATE {table_of(p.source)} SET tags = '[]' WHERE id = %s", (rows[0][0],))
        p.conn.commit()
    return n


def in_savepoints(p, left):
    """Strands in savepoints, nested ones too; some roll back, now and then all."""
    committed = 0
    for _ in range(min(left, 20)):
        p.cur.execute("SAVEPOINT a")
        p.cur.execute(INSERT.format(table_of(p.source)), p.row())
        p.cur.execute("SAVEPOINT b")
        p.cur.execute(INSERT.format(table_of(p.source)), (p.prefix + f"undone{p.serial}", *p.row()[1:]))
        p.cur.execute("ROLLBACK TO b")
        if p.rnd.random() < 0.3:
            p.cur.execute("ROLLBACK TO a")
        else:
            p.cur.execute("RELEASE a")
            committed += 1
    if p.rnd.random() < 0.1:
        p.conn.rollback()
        return 0
    p.conn.commit()
    return committed


def odd(p, _left):
    """Every odd id there is, one transaction each."""
    for strand_id in ODD_IDS:
        p.cur.execute(INSERT.format(table_of(p.source)), (strand_id, *p.row()[1:]))
        p.conn.commit()
        p.stopped.wait(p.pause * p.rnd.random())
    return len(ODD_IDS)


# --- what must have become of it

def prepare(db):
    """The second source, attached and granted."""
    db.execute(SECOND_SOURCE)
    db.attach(TAG, "EX_strands", "DM_strands")
    db.grant()
    db.execute("SELECT strandd.grant_producer('producer', 'EX_strands')")


def unsettled(db):
    """How many deliveries lack a final receipt."""
    return db.value("""
        SELECT (SELECT count(*) FROM ad_strands s WHERE s.tags @> '["dm:evaluate_plan"]' AND NOT EXISTS
                 (SELECT FROM dm_receipts r WHERE r.route = (SELECT route FROM dm_routes
                   WHERE source = 'ad_strands'::regclass AND tag = 'dm:evaluate_plan')
                   AND r.strand_id = strandd.receipt_key(s.id) COLLATE "C" AND r.state NOT IN ('running', 'retry')))
             + (SELECT count(*) FROM ex_strands s WHERE s.tags @> '["dm:evaluate_plan"]' AND NOT EXISTS
                 (SELECT FROM dm_receipts r WHERE r.route = (SELECT route FROM dm_routes
                   WHERE source = 'ex_strands'::regclass) AND r.strand_id = strandd.receipt_key(s.id) COLLATE "C" AND r.state NOT IN ('running', 'retry')))
             + (SELECT count(*) FROM dm_strands s WHERE s.tags @> '["alpha:decision_feedback"]' AND NOT EXISTS
                 (SELECT FROM ad_receipts r WHERE r.route = (SELECT route FROM ad_routes
                   WHERE source = 'dm_strands'::regclass AND tag = 'alpha:decision_feedback')
                   AND r.strand_id = strandd.receipt_key(s.id) COLLATE "C" AND r.state NOT IN ('running', 'retry')))""")


# Each row is a fault: a strand without its final receipt, a receipt without its
# strand, a reply too many, too few, not in the receipt, or in it and not there.
FAULTS = """
WITH sent AS (
    SELECT 'AD' AS source, id, sig_sigma::int AS asked FROM ad_strands WHERE tags @> '["dm:evaluate_plan"]'
    UNION ALL
    SELECT 'EX', id, sig_sigma::int FROM ex_strands WHERE tags @> '["dm:evaluate_plan"]'),
receipt AS (
    SELECT CASE o.source WHEN 'ad_strands'::regclass THEN 'AD' WHEN 'ex_strands'::regclass THEN 'EX' END AS source,
           r.strand_id, r.state, r.reply_ids
      FROM dm_receipts r JOIN dm_routes o USING (route) WHERE o.tag = 'dm:evaluate_plan'),
reply AS (
    SELECT d.id, d.kind, d.symbol AS source,
           (SELECT substr(e, 17) FROM jsonb_array_elements_text(d.tags) e WHERE e LIKE 'original_strand:%') AS origin
      FROM dm_strands d),
replies AS (
    SELECT p.source, p.origin, count(*) AS n, count(DISTINCT p.kind) AS kinds,
           array_agg(p.id ORDER BY p.id) AS ids FROM reply p GROUP BY 1, 2),
judged AS (
    SELECT s.source, left(s.id, 40) AS id, s.asked, r.state, n.n AS replies, n.kinds,
           CASE WHEN r.state IS DISTINCT FROM 'done' THEN 'not done'
                WHEN coalesce(n.n, 0) <> s.asked OR coalesce(n.kinds, 0) <> s.asked THEN 'replies'
                WHEN (SELECT array_agg(x ORDER BY x) FROM unnest(r.reply_ids) x) IS DISTINCT FROM n.ids
                THEN 'reply_ids' END AS fault
      FROM sent s
      LEFT JOIN receipt r ON r.source = s.source AND r.strand_id = strandd.receipt_key(s.id)
      LEFT JOIN replies n ON n.source = s.source AND n.origin = s.id)
SELECT fault, source, id, asked, state, replies FROM judged WHERE fault IS NOT NULL
UNION ALL
SELECT 'receipt without a strand', r.source, left(r.strand_id, 40), NULL, r.state, NULL FROM receipt r
 WHERE NOT EXISTS (SELECT FROM sent s WHERE s.source = r.source AND strandd.receipt_key(s.id) = r.strand_id)
UNION ALL
SELECT 'reply to nothing', p.source, left(p.origin, 40), NULL, p.id, NULL FROM reply p
 WHERE NOT EXISTS (SELECT FROM sent s WHERE s.source = p.source AND s.id = p.origin)
UNION ALL
SELECT 'feedback', 'DM', d.id, NULL, coalesce(r.state, 'no receipt'), NULL FROM dm_strands d
  LEFT JOIN ad_receipts r ON r.strand_id = d.id AND r.route = (SELECT route FROM ad_routes
       WHERE source = 'dm_strands'::regclass AND tag = 'alpha:decision_feedback')
 WHERE d.tags @> '["alpha:decision_feedback"]' AND r.state IS DISTINCT FROM 'done'
 LIMIT 20
"""


def assert_exact(db, wait_until, sent=None, timeout=60):
    """Waits until all is settled, then finds no fault; `sent` is how many strands
    the producers know to be committed."""
    wait_until(lambda: unsettled(db) == 0, timeout, 0.1, what="all strands settled")
    faults = db.execute(FAULTS)
    assert not faults, faults
    found = db.value("""SELECT (SELECT count(*) FROM ad_strands WHERE tags @> '["dm:evaluate_plan"]')
                             + (SELECT count(*) FROM ex_strands WHERE tags @> '["dm:evaluate_plan"]')""")
    assert sent is None or found == sent, (found, sent)
    total = db.value("SELECT (SELECT count(*) FROM dm_receipts) + (SELECT count(*) FROM ad_receipts)")
    assert total == found + db.value(
        """SELECT count(*) FROM dm_strands WHERE tags @> '["alpha:decision_feedback"]'""")
