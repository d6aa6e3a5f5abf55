"""What the test_policy_* files share: one route with a policy, and handlers that
fail as the strand says."""

import service

PLAN = "dm:evaluate_plan"
LABELS = '{tag="dm:evaluate_plan",source="AD_strands"}'
NOTHING = []

# What a strand asks for in its column "kind"; "timeframe" is its argument.
HANDLER = f"""
BEGIN
    INSERT INTO test.calls (handler, id) VALUES ('policy', strand->>'id');
    CASE strand->>'kind'
    WHEN 'good' THEN NULL;
    WHEN 'raise' THEN RAISE EXCEPTION 'asked to fail' USING ERRCODE = coalesce(strand->>'timeframe', 'P0001');
    WHEN 'until' THEN
        IF current_setting('strand.attempt')::int < (strand->>'timeframe')::int THEN
            RAISE EXCEPTION 'not before attempt %', strand->>'timeframe';
        END IF;
    WHEN 'held' THEN {service.Held.BODY}
    WHEN 'sleep' THEN PERFORM pg_sleep((strand->>'timeframe')::float8);
    WHEN 'terminate' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1);
    WHEN 'table' THEN PERFORM * FROM missing_table;
    END CASE;
    RETURN NEXT jsonb_build_object('kind', 'reply', 'symbol', current_setting('strand.attempt'));
END
"""


def route(handler="test.policy", **policy):
    return {"tag": PLAN, "source": "AD_strands", "handler": handler, "suspend_after": 0, **policy}


def serve(db, daemon, conf=None, **policy):
    """A daemon with one route of this policy and the handler above."""
    service.function(db, HANDLER, name="test.policy")
    return daemon([route(**policy)], {"scan": {"interval": "2s"}, **(conf or {})})


def publish(db, strand_id, kind="good", timeframe=None, tags=NOTHING, table="ad_strands", **columns):
    return service.publish(db, table, strand_id, [PLAN, *tags], kind=kind, timeframe=timeframe, **columns)


def record_waits(db):
    """From now on waits() knows how long each retry was to wait when it was written."""
    db.execute("""
        CREATE TABLE test.waits (id text, attempt int, least float8, most float8);
        GRANT INSERT ON test.waits TO strandd_service;
        CREATE FUNCTION test.note_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO test.waits VALUES (NEW.strand_id, NEW.attempt, extract(epoch FROM NEW.due_at - clock_timestamp()),
                extract(epoch FROM NEW.due_at - statement_timestamp()));
            RETURN NULL;
        END $$;
        CREATE TRIGGER note_wait AFTER INSERT OR UPDATE ON dm_receipts FOR EACH ROW WHEN (NEW.state = 'retry')
            EXECUTE FUNCTION test.note_wait()""")


def waits(db, attempt):
    """[(least, most)] in seconds, after this attempt.  What was drawn is between the
    two: the time it counts from was read after the statement had begun."""
    return db.execute("SELECT least, most FROM test.waits WHERE attempt = %s", (attempt,))


def receipt(db, strand_id):
    return service.receipt(db, "dm", strand_id, PLAN)


def in_state(db, strand_id, state, wait_until, timeout=15.0):
    """Waits until the strand's receipt is in this state, and returns it."""
    wait_until(lambda: (receipt(db, strand_id) or {}).get("state") == state, timeout,
               what=lambda: f"{strand_id} {state}, not {receipt(db, strand_id)}")
    return receipt(db, strand_id)


def tags(db, strand_id, table="ad_strands"):
    return db.value(f"SELECT tags FROM {table} WHERE id = %s", (strand_id,))


def marked(db, strand_id, mark, wait_until, timeout=10.0):
    wait_until(lambda: mark in (tags(db, strand_id) or []), timeout, what=lambda: f"{mark} in {tags(db, strand_id)}")


def back_date(db, seconds):
    """Strands written from now on are that old: a trigger behind strandd's own says so."""
    db.execute("CREATE FUNCTION back_date() RETURNS trigger LANGUAGE plpgsql AS"
               " $$ BEGIN NEW.tagged_at := now() - make_interval(secs => %s); RETURN NEW; END $$;"
               " CREATE TRIGGER zzzz_back_date BEFORE INSERT ON ad_strands FOR EACH ROW EXECUTE FUNCTION back_date()", (seconds,))
