"""Tables and handlers that change while strands flow."""

import random
import time

import producers as p
import service

HANDLER = """
CREATE OR REPLACE FUNCTION test.changing(strand {type}) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
    s jsonb := to_jsonb(strand);
BEGIN
    RETURN QUERY SELECT jsonb_build_object('kind', 'reply ' || i, 'symbol', s->>'symbol' {more})
      FROM generate_series(1, (s->>'sig_sigma')::int) i;
END $$;
GRANT EXECUTE ON FUNCTION test.changing TO strandd_service;
"""


def test_altered_while_strands_flow(db, daemon, wait_until):
    p.prepare(db)
    db.execute(HANDLER.format(type="ad_strands", more=""))
    d = daemon([(p.TAG, "AD_strands", "test.changing"), (p.TAG, "EX_strands", "test.as_many"),
                (p.REPLY_TAG, "DM_strands", "test.nothing")], {"workers": {"threads": 3, "batch": 25}})
    crew = [p.Producer(db, "ad", "AD_s", p.single, 10**9, 1, 0.002), p.Producer(db, "ad", "AD_b", p.bulk, 10**9, 2, 0.3),
            p.Producer(db, "ex", "AD_b", p.bulk, 10**9, 3, 0.3)]
    for producer in crew:
        producer.start()
    rnd = random.Random(4)
    for n in range(6):
        time.sleep(0.2)
        changes = [f"ALTER TABLE AD_strands ADD COLUMN extra{n} text DEFAULT 'x'",
                   f"ALTER TABLE DM_strands ADD COLUMN note{n} text",
                   f"ALTER TABLE EX_strands ADD COLUMN extra{n} jsonb"]
        rnd.shuffle(changes)
        for change in changes:
            db.execute(change)
            time.sleep(0.05)
        db.execute(HANDLER.format(type="ad_strands", more=f", 'note{n}', s->>'extra{n}'"))
        wait_until(lambda n=n: db.value(f"SELECT EXISTS (SELECT FROM dm_strands WHERE note{n} = 'x')"), 5,
                   what=f"a reply that names note{n}")
    # dropped again, the handler first
    db.execute(HANDLER.format(type="ad_strands", more=""))
    time.sleep(0.2)
    db.execute("ALTER TABLE DM_strands DROP COLUMN note1")
    db.execute("ALTER TABLE AD_strands DROP COLUMN extra2")
    db.execute("ALTER TABLE DM_strands ALTER COLUMN note2 SET DEFAULT 'later'")
    time.sleep(0.3)
    for producer in crew:
        producer.stopped.set()
    sent = sum(producer.finish() for producer in crew)
    p.assert_exact(db, wait_until, sent)
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state <> 'done'") == 0
    # what they change never looks like a fault of the configuration
    assert "put off (configuration" not in d.log(), d.log()
    print(f"{sent} strands")


def test_defaults_and_types_changed_while_strands_flow(db, daemon, wait_until):
    """What the reply leaves out gets the default of the day, what it holds the
    column's type of the day: nothing else tells the daemon of either change."""
    service.function(db, """BEGIN RETURN NEXT jsonb_build_object('odd', '2026-01-01T00:00:00+05:00', 'amount', 1.2345,
        'symbol', strand->>'id'); END""")
    db.execute("ALTER TABLE dm_strands ADD COLUMN odd timestamp, ADD COLUMN amount numeric(10,2)")
    d = daemon([(p.TAG, "AD_strands", "test.h")], {"workers": {"threads": 2, "batch": 10}})
    d.wait_log("listening")
    n = 0

    def answer():
        """Of enough strands that each worker has its turn, the replies' distinct values."""
        nonlocal n
        n += 1
        service.publish_many(db, "ad_strands", f"AD_{n}_", 60, [p.TAG])
        wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == 60 * n)
        return db.execute("SELECT DISTINCT regime, odd::text, amount::text FROM dm_strands WHERE symbol LIKE %s", (f"AD_{n}\\_%",))

    db.execute("SET TimeZone = 'UTC'")
    assert answer() == [(None, "2026-01-01 00:00:00", "1.23")]
    for change, expected in (
            ("ALTER COLUMN regime SET DEFAULT 'one'", ("one", "2026-01-01 00:00:00", "1.23")),
            ("ALTER COLUMN regime SET DEFAULT 'two'", ("two", "2026-01-01 00:00:00", "1.23")),
            ("ALTER COLUMN odd TYPE timestamptz", ("two", "2025-12-31 19:00:00+00", "1.23")),
            ("ALTER COLUMN amount TYPE numeric(12,4)", ("two", "2025-12-31 19:00:00+00", "1.2345")),
            ("ALTER COLUMN regime DROP DEFAULT", (None, "2025-12-31 19:00:00+00", "1.2345"))):
        db.execute(f"ALTER TABLE dm_strands {change}")
        assert answer() == [expected], change
    assert db.value("SELECT count(*) FROM dm_receipts WHERE state <> 'done'") == 0
    assert d.metrics()['strandd_rollbacks_total{tag="dm:evaluate_plan",source="AD_strands"}'] == 0
