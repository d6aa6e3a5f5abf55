"""tagged_at is strandd's own: a producer's value is not believed, and one that stands
in the table all the same, however odd, loses no strand."""

import pytest

import policy_support as p
import service

ODD = ["-infinity", "4713-01-01 BC", "1970-01-01", "2999-01-01", "294276-12-31", "infinity"]
PAST = ODD[:3]


def insert(db, strand_id, at, kind="good", tags=p.NOTHING, timeframe=None):
    """As a producer would who knows of the column."""
    return p.publish(db, strand_id, kind, timeframe, tags, tagged_at=at)


def believed(db):
    """What the table is like after a restore with its triggers off, say."""
    db.execute("ALTER TABLE ad_strands DISABLE TRIGGER zzz_ad_strands_before_insert")


@pytest.mark.parametrize("at", ODD)
def test_a_producers_value_is_corrected(db, at):
    with db.connect(autocommit=False) as conn:
        db.execute("INSERT INTO ad_strands (id, tagged_at) VALUES ('a', %s)", (at,), conn)
        db.execute("SAVEPOINT s", conn=conn)
        db.execute("INSERT INTO ad_strands (id, tagged_at) SELECT 'b', tagged_at + interval '1 second' FROM ad_strands", conn=conn)
        assert db.execute("SELECT count(*) FROM ad_strands WHERE tagged_at = now()", conn=conn) == [(2,)]


def test_so_is_one_that_is_copied_in(db):
    db.psql("-c", "COPY ad_strands (id, tags, tagged_at) FROM STDIN", stdin=f'a\t["{p.PLAN}"]\t2999-01-01\n')
    assert db.value("SELECT now() - tagged_at BETWEEN '0' AND '1 minute' FROM ad_strands")


def test_a_replication_workers_too(cluster, db):
    cluster.admin("SET session_replication_role = replica", "INSERT INTO ad_strands (id, tagged_at) VALUES ('a', 'infinity')", name=db.name)
    assert db.value("SELECT now() - tagged_at BETWEEN '0' AND '1 minute' FROM ad_strands")


def test_a_source_of_ones_own_is_upgraded(db):
    """The trigger as an older file wrote it, on a table that none of the files names."""
    db.execute("CREATE TABLE src (id text PRIMARY KEY, tags jsonb)")
    db.attach("dm:src", "src", "dm_strands")
    db.execute("SELECT strandd.write_trigger('src', 'zzz_src_before_insert', 'strandd.stamp_strand', 'BEFORE INSERT',"
               " 'WHEN (NEW.xact_id IS DISTINCT FROM pg_current_xact_id() OR NEW.tagged_at IS NULL)', true)")
    db.execute("INSERT INTO src (id, tagged_at) VALUES ('a', 'infinity')")
    db.install()
    db.execute("INSERT INTO src (id, tagged_at) VALUES ('b', 'infinity')")
    assert db.execute("SELECT id, isfinite(tagged_at) FROM src ORDER BY 1") == [("a", False), ("b", True)]


@pytest.mark.parametrize("at", ODD)
def test_a_failure_is_tried_again(db, daemon, wait_until, at):
    """And what shares the batch with it is neither held up nor charged."""
    believed(db)
    with db.connect(autocommit=False) as conn:
        for n in range(3):
            db.execute("INSERT INTO ad_strands (id, tags, kind, timeframe, tagged_at) VALUES (%s, %s, %s, %s, %s)",
                       (f"AD_{n}", f'["{p.PLAN}"]', "until", str(1 + n), at), conn)
    p.serve(db, daemon, attempts=3, backoff={"initial": "100ms", "factor": 1.0, "cap": "100ms"})
    for n in range(3):
        assert p.in_state(db, f"AD_{n}", "done", wait_until)["attempt"] == 1 + n
    p.publish(db, "AD_9", "raise")
    p.in_state(db, "AD_9", "failed", wait_until)
    p.marked(db, "AD_9", "error:processing_failed", wait_until)


@pytest.mark.parametrize("at", ODD)
def test_a_timeout_counts_from_it(db, daemon, wait_until, at):
    believed(db)
    p.serve(db, daemon, attempts=2, backoff={"initial": "100ms", "factor": 1.0, "cap": "100ms"})
    insert(db, "AD_1", at, tags=["timeout:3600"])
    insert(db, "AD_2", at, "until", ["timeout:3600"], "2")
    insert(db, "AD_3", at, "until", ["timeout:999999999999999.999999"], "2")
    expected = "expired" if at in PAST else "done"
    p.in_state(db, "AD_1", expected, wait_until)
    p.in_state(db, "AD_2", expected, wait_until)
    p.in_state(db, "AD_3", "expired" if at == "-infinity" else "done", wait_until)


def test_strandctl_shows_it(db, strandctl):
    believed(db)
    insert(db, "AD_1", "-infinity")
    insert(db, "AD_2", "infinity")
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, finished_at) SELECT route, 'AD_2', 'done', now() FROM dm_routes WHERE tag = %s", (p.PLAN,))
    for command in (["status"], ["status", "--json"], ["trace", "AD_1"], ["trace", "--json", "AD_2"], ["recent", "--table", "AD_strands"],
                    ["read", "AD_1", "--table", "AD_strands"], ["read", "AD_2", "--table", "AD_strands"]):
        done = strandctl(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_a_retry_written_as_due_long_ago(db, daemon, wait_until):
    """As an operator might who knows the table."""
    d = p.serve(db, daemon)
    p.publish(db, "AD_1", "raise")
    p.in_state(db, "AD_1", "failed", wait_until)
    p.marked(db, "AD_1", "error:processing_failed", wait_until)
    d.stop()
    db.execute("UPDATE ad_strands SET kind = 'good'; UPDATE dm_receipts SET state = 'retry', attempt = 0, due_at = '4713-01-01 BC'")
    d.start()
    p.in_state(db, "AD_1", "done", wait_until)
    assert service.calls(db) == {"AD_1": 1}
