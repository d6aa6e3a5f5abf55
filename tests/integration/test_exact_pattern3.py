"""Pattern 3's race: one strand's two tags, the second written over the first, by
INSERT and UPDATE as fast as a producer can."""

import threading

import pytest

ROUTES = [("alpha:decision_feedback", "DM_strands", "test.feedback"),
          ("trader:execute_plan", "DM_strands", "test.execute")]
HANDLERS = """
CREATE FUNCTION test.feedback(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'feedback') $$;
CREATE FUNCTION test.execute(strand jsonb) RETURNS SETOF jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('kind', 'execute') $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO strandd_service;
"""
ROUNDS = 1500
ORDERS = {"feedback first": ("alpha:decision_feedback", "trader:execute_plan"),
          "execute first": ("trader:execute_plan", "alpha:decision_feedback")}


def write(db, prefix, first, second, in_one):
    conn = db.connect(user="producer", autocommit=False)
    cur = conn.cursor()
    for i in range(ROUNDS // 3):
        cur.execute("INSERT INTO DM_strands (id, tags) VALUES (%s, jsonb_build_array(%s))", (f"{prefix}{i}", first))
        if not in_one:
            conn.commit()
        cur.execute("UPDATE DM_strands SET tags = jsonb_build_array(%s) WHERE id = %s", (second, f"{prefix}{i}"))
        conn.commit()
    conn.close()


def both_done(db):
    return db.value("""SELECT count(*) FROM dm_strands s
        WHERE EXISTS (SELECT FROM ad_receipts r WHERE r.strand_id = s.id AND r.state = 'done')
          AND EXISTS (SELECT FROM tr_receipts r WHERE r.strand_id = s.id AND r.state = 'done')""")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("enabled", [True, False], ids=["notified", "scanned"])
def test_both_tags_are_delivered(db, daemon, wait_until, order, enabled):
    db.execute(HANDLERS)
    daemon(ROUTES, {"scan": {"interval": "50ms" if not enabled else "500ms"}, "workers": {"batch": 7},
                    "module_communication": {"notifications": {"enabled": enabled}}})
    first, second = ORDERS[order]
    threads = [threading.Thread(target=write, args=(db, f"DM_{n}_", first, second, n == 2), daemon=True)
               for n in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    wait_until(lambda: both_done(db) == ROUNDS, 30)
    # once each, and the strand bears both tags in the end
    for table, kind in (("ad_strands", "feedback"), ("tr_strands", "execute")):
        assert db.execute(f"SELECT count(*), count(DISTINCT tags) FROM {table} WHERE kind = %s", (kind,)) \
            == [(ROUNDS, ROUNDS)]
    assert db.value("SELECT count(*) FROM dm_strands WHERE tags @> '[\"alpha:decision_feedback\","
                    " \"trader:execute_plan\"]'") == ROUNDS
