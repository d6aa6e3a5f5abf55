"""Which strands the cleanup deletes."""

import psycopg2
import pytest

from clean_support import CUTOFF, OLD, TAG, clean, clean_receipts, ids, old, old_many, receipt, receipts_for_all
from producers import ODD_IDS


@pytest.mark.parametrize("state, goes", [
    (None, False), ("running", False), ("retry", False), ("done", True), ("skipped", True), ("withdrawn", True),
    ("failed", True), ("expired", True),
])
@pytest.mark.parametrize("marked", [False, True])
def test_a_final_receipt_is_wanted(db, state, goes, marked):
    old(db, "a")
    if state:
        receipt(db, "a", state, marked=marked)
    done = clean(db)
    assert ids(db) == ([] if goes else ["a"])
    assert (done["seen"], done["deleted"], done["kept"]) == (1, int(goes), int(not goes))
    assert done.get("oldest_kept") == (None if goes else "a")


def test_of_every_route_whose_tag_it_bears(db):
    both = '["alpha:decision_feedback", "trader:execute_plan"]'
    old(db, "a", "b", table="DM_strands", tags=both)
    old(db, "c", table="DM_strands", tags='["trader:execute_plan"]')
    for strand_id in "abc":
        receipt(db, strand_id, tag="trader:execute_plan", receipts="tr")
    receipt(db, "b", tag="alpha:decision_feedback", receipts="ad")
    assert clean(db, "dm_strands")["deleted"] == 2
    assert ids(db, "dm_strands") == ["a"]


def test_only_what_is_older(db):
    old(db, "young", tags="[]", at="now() - interval '6 days 23 hours'")
    old(db, "older", tags="[]", at="now() - interval '7 days 1 hour'")
    old(db, "of no known age", tags="[]", at="NULL")
    old(db, "of tomorrow", tags="[]", at="'infinity'")
    old(db, "of old", tags="[]", at="'-infinity'")
    assert clean(db)["deleted"] == 2
    assert ids(db) == ["of no known age", "of tomorrow", "young"]


@pytest.mark.parametrize("tags", [None, "{}", '"dm:evaluate_plan"', "42", '[["dm:evaluate_plan"]]', '["DM:evaluate_plan"]',
                                  '["dm:unheard_of"]', "null"])
def test_tags_that_no_route_is_attached_for_ask_nothing(db, tags):
    old(db, "a", tags=tags)
    assert clean(db)["deleted"] == 1


def test_a_detached_route_asks_nothing(db):
    old(db, "a")
    assert clean(db)["kept"] == 1
    db.execute("SELECT strandd.detach(%s, 'ad_strands', 'dm_strands')", (TAG,))
    assert clean(db)["deleted"] == 1


def test_a_route_asks_nothing_of_its_history(db):
    old(db, "before", tags='["tr:new"]')
    db.attach("tr:new", "ad_strands", "tr_strands", history=False)
    old(db, "after", tags='["tr:new"]')
    assert clean(db)["deleted"] == 1
    assert ids(db) == ["after"]


def test_a_route_that_delivers_what_was_there_asks_it(db):
    old(db, "before", tags='["tr:new"]')
    db.attach("tr:new", "ad_strands", "tr_strands", deliver_existing=True)
    assert clean(db)["kept"] == 1
    receipt(db, "before", tag="tr:new", receipts="tr")
    assert clean(db)["deleted"] == 1


@pytest.mark.parametrize("state, goes", [(None, True), ("retry", True), ("running", False)])
def test_drop_unprocessed(db, state, goes):
    """But never under a handler that is at work."""
    old(db, "a")
    if state:
        receipt(db, "a", state)
    assert clean(db)["kept"] == 1
    assert clean(db, drop=True)["deleted"] == int(goes)


def test_more_than_locks_are_to_be_had_for(db):
    """Each strand that may be replayed costs a lock of the server's: at most 500
    at once, and the rest in further batches."""
    old_many(db, "f", 1700)
    receipts_for_all(db, "f", 1700, "failed")
    done = clean(db, batch=5000)
    assert (done["deleted"], done["busy"]) == (1700, 0)
    assert done["batches"] >= 4


@pytest.mark.parametrize("index", ["created_at DESC", "created_at", None])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_many_of_one_moment(db, index, batch):
    """Those of one transaction have one created_at: none is left out, none is
    counted twice, and batches go on through those that are kept."""
    n = 60 if batch == 1 else 1500
    db.execute("DROP INDEX idx_ad_strands_created_at")
    if index:
        db.execute(f"CREATE INDEX ON ad_strands ({index})")
    old_many(db, "keep", n)
    old_many(db, "go", n, tags="[]")
    db.execute("INSERT INTO ad_strands (id, tags, created_at) SELECT 'mixed' || i,"
               f" CASE i %% 2 WHEN 0 THEN '[]' ELSE '[\"dm:evaluate_plan\"]' END::jsonb, {OLD} FROM generate_series(1, %s) i", (n,))
    db.execute("UPDATE ad_strands SET created_at = date_trunc('day', created_at), kind = 'x'")
    expected = {"seen": 3 * n, "deleted": 3 * n // 2, "kept": 3 * n // 2}
    dry = clean(db, batch=batch, dry_run=True)
    assert {k: dry[k] for k in expected} == expected
    done = clean(db, batch=batch)
    assert {k: done[k] for k in expected} == expected
    assert db.value("SELECT count(*) FROM ad_strands WHERE tags = '[]'") == 0
    again = clean(db, batch=batch)
    assert (again["deleted"], again["kept"]) == (0, 3 * n // 2)


@pytest.mark.parametrize("index", ["created_at DESC", "created_at", None])
def test_ties_of_which_some_were_updated_in_place(db, index):
    """The index has such a row where its first version was, behind which there are
    others: wherever a page ends, they are on one page."""
    db.execute("DROP INDEX idx_ad_strands_created_at")
    if index:
        db.execute(f"CREATE INDEX ON ad_strands ({index})")
    db.execute("ALTER TABLE ad_strands SET (fillfactor = 50)")
    old_many(db, "keep", 10)
    db.execute("INSERT INTO ad_strands (id, tags, created_at) SELECT 'go' || i, '[]', created_at"
               " FROM ad_strands, generate_series(1, 200) i WHERE id = 'keep1'")
    blocks = "SELECT array_agg((ctid::text::point)[0] ORDER BY id) FROM ad_strands"
    before = db.value(blocks)
    for strand_id in ("keep1", "keep10", "go1", "go60", "go61", "go199"):
        db.execute("UPDATE ad_strands SET timeframe = 'x' WHERE id = %s", (strand_id,))
    assert db.value(blocks) == before and len(set(before)) > 2
    for batch, dry_run in ((1, True), (3, True), (10, True), (10, False)):
        done = clean(db, batch=batch, dry_run=dry_run)
        assert (done["seen"], done["deleted"], done["kept"]) == (210, 200, 10), batch
    assert db.value("SELECT count(*) FROM ad_strands") == 10


def test_a_page_of_ties_costs_the_same_however_many_there_are(db):
    """What else is in the last one's block is read there, not along the index."""
    db.execute("INSERT INTO ad_strands (id, created_at) SELECT 'young' || i, now() - i * interval '1 second' FROM generate_series(1, 5000) i")
    db.execute("ANALYZE ad_strands")
    old_many(db, "s", 20000)
    conn = db.connect(autocommit=False)
    db.execute("SELECT * FROM strandd.clean_strands('ad_strands', now() - interval '7 days', 100)", conn=conn)
    scans, fetched = db.execute("SELECT pg_stat_get_xact_numscans('ad_strands'::regclass),"
                                " sum(pg_stat_get_xact_tuples_fetched(indexrelid)) FROM pg_index"
                                " WHERE indrelid = 'ad_strands'::regclass", conn=conn)[0]
    assert scans == 0 and (fetched or 0) < 1000
    conn.rollback()


def test_young_strands_before_old_ones_without_an_index_of_ages(db):
    """Along (xact_id, hash) a page of young strands is an end, a few are none."""
    db.execute("DROP INDEX idx_ad_strands_created_at")
    old(db, "young", tags="[]", at="now()")
    old(db, "old", tags="[]")
    assert clean(db)["deleted"] == 1
    assert ids(db) == ["young"]


@pytest.mark.parametrize("at", ["NULL", "'infinity'"])
def test_strands_of_no_age_are_no_end(db, at):
    """A page of them, without an index of ages: what comes behind is reached."""
    db.execute("DROP INDEX idx_ad_strands_created_at")
    old_many(db, "ageless", 20, tags="[]", at=at)
    old_many(db, "old", 5, tags="[]")
    assert clean(db, batch=10)["deleted"] == 5


@pytest.mark.parametrize("index", ["created_at", "created_at, id", "created_at DESC, kind DESC"])
def test_indexes_that_have_ties_in_different_orders(db, index):
    """The planner may take either, on each page: so neither is gone along."""
    db.execute(f"CREATE INDEX ON ad_strands ({index})")
    old_many(db, "s", 2000, tags="[]")
    assert clean(db, batch=10, dry_run=True)["deleted"] == 2000
    assert db.value("SELECT walk FROM strandd.clean_walk('ad_strands')") == "xact"
    db.execute(f"CREATE TABLE risk_strands (id text PRIMARY KEY, tags jsonb, kind text, created_at timestamptz DEFAULT now());"
               f" CREATE INDEX ON risk_strands (created_at DESC); CREATE INDEX ON risk_strands ({index})")
    db.attach("risk:check", "ad_strands", "risk_strands")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="different orders"):
        clean(db, "risk_strands")


@pytest.mark.parametrize("columns", ["", ", created_at text", ", created_at timestamp DEFAULT now()"])
def test_a_table_without_created_at_goes_by_tagged_at(db, columns):
    db.execute(f"CREATE TABLE src (id text PRIMARY KEY, tags jsonb{columns})")
    db.attach("dm:src", "src", "dm_strands")
    db.execute("INSERT INTO src (id, tags) VALUES ('a', '[\"dm:src\"]'), ('b', '[]')")
    assert clean(db, "src")["seen"] == 0
    assert clean(db, "src", before="now() + interval '1 second'")["deleted"] == 1
    assert ids(db, "src") == ["a"]


def test_a_table_that_only_receives(db):
    db.execute("CREATE TABLE risk_strands (id text PRIMARY KEY, tags jsonb, created_at timestamptz DEFAULT now())")
    db.attach("risk:check", "ad_strands", "risk_strands")
    db.execute(f"INSERT INTO risk_strands (id, created_at) VALUES ('a', {OLD})")
    with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="no index") as error:
        clean(db, "risk_strands")
    db.execute(error.value.diag.message_hint.replace("CONCURRENTLY ", ""))
    assert clean(db, "risk_strands")["deleted"] == 1
    db.execute("ALTER TABLE risk_strands DROP COLUMN created_at")
    with pytest.raises(psycopg2.errors.UndefinedColumn, match="no age is known"):
        clean(db, "risk_strands")


def test_odd_ids(db):
    for strand_id in ODD_IDS:
        old(db, strand_id)
        receipt(db, strand_id, "failed" if len(strand_id) % 2 else "done")
    assert clean(db)["deleted"] == len(ODD_IDS)
    assert ids(db) == []
    assert clean_receipts(db) == len(ODD_IDS)
    assert db.value("SELECT count(*) FROM dm_receipts") == 0


# --- what refers to strands

def test_a_strand_that_a_table_refers_to(db):
    old_many(db, "s", 300, tags="[]")
    db.execute("CREATE TABLE child (strand text REFERENCES ad_strands)")
    db.execute("INSERT INTO child VALUES ('s7'), ('s200')")
    done = clean(db)
    assert (done["deleted"], done["refused"]) == (298, 2)
    assert "foreign key constraint" in done["error"] and "child" in done["error"]
    assert ids(db) == ["s200", "s7"]
    db.execute("DELETE FROM child")
    assert clean(db)["deleted"] == 2


def test_a_deferred_constraint_does_not_fail_the_commit(db):
    old(db, "a", "b", tags="[]")
    db.execute("CREATE TABLE child (strand text REFERENCES ad_strands DEFERRABLE INITIALLY DEFERRED)")
    db.execute("INSERT INTO child VALUES ('a')")
    done = clean(db)
    assert (done["deleted"], done["refused"]) == (1, 1)
    assert ids(db) == ["a"]


def test_one_that_is_deleted_along(db):
    old(db, "a", tags="[]")
    db.execute("CREATE TABLE child (strand text REFERENCES ad_strands ON DELETE CASCADE)")
    db.execute("INSERT INTO child VALUES ('a')")
    assert clean(db)["deleted"] == 1
    assert db.value("SELECT count(*) FROM child") == 0


def test_a_referring_row_that_somebody_holds(db):
    """It is waited for shortly, and the others go."""
    old_many(db, "s", 50, tags="[]")
    db.execute("CREATE TABLE child (strand text REFERENCES ad_strands ON DELETE CASCADE)")
    db.execute("INSERT INTO child SELECT 's' || i FROM generate_series(1, 50) i")
    holder = db.connect(autocommit=False)
    db.execute("SELECT FROM child WHERE strand = 's9' FOR UPDATE", conn=holder)
    done = clean(db)
    assert (done["deleted"], done["refused"]) == (49, 1)
    holder.rollback()
    assert clean(db)["deleted"] == 1


@pytest.mark.parametrize("body, error", [
    ("RETURN CASE OLD.kind WHEN 'holy' THEN NULL ELSE OLD END", "trigger"),
    ("IF OLD.kind = 'holy' THEN RAISE EXCEPTION 'hands off'; END IF; RETURN OLD", "hands off"),
])
def test_a_trigger_of_the_users_that_refuses(db, body, error):
    old(db, "a", "b", "c", tags="[]")
    db.execute("UPDATE ad_strands SET kind = 'holy' WHERE id = 'b'")
    db.execute(f"CREATE FUNCTION holy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body.replace(chr(39), chr(39) * 2)}; END'")
    db.execute("CREATE TRIGGER holy BEFORE DELETE ON ad_strands FOR EACH ROW EXECUTE FUNCTION holy()")
    done = clean(db)
    assert (done["deleted"], done["refused"]) == (2, 1)
    assert error in done["error"]
    assert ids(db) == ["b"]


def test_a_right_that_is_missing_is_told_and_not_the_strands_fault(db):
    db.execute("SELECT strandd.grant_cleanup('strandd_service')")
    old(db, "a", tags="[]")
    db.execute("CREATE TABLE audit (id text)")
    db.execute("CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (OLD.id); RETURN NULL; END'")
    db.execute("CREATE TRIGGER audit AFTER DELETE ON ad_strands FOR EACH ROW EXECUTE FUNCTION audit()")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="audit"):
        clean(db, conn=db.connect("strandd_service"))
    assert ids(db) == ["a"]
    assert clean(db)["deleted"] == 1
    assert db.value("SELECT count(*) FROM audit") == 1


# --- where nothing is done

def test_a_copy_is_left_alone(cluster):
    """Its routes' receipts may lack what the original delivered since."""
    copy = cluster.copy(cluster.template(), "copy_to_clean")
    try:
        old(copy, "a", tags="[]")
        with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState, match="another database"):
            clean(copy)
        copy.adopt()
        assert clean(copy)["deleted"] == 1
    finally:
        copy.drop()


def test_a_snapshot_older_than_the_locks_is_refused(db):
    conn = db.connect(autocommit=False)
    conn.set_session(isolation_level="REPEATABLE READ")
    with pytest.raises(psycopg2.errors.InvalidTransactionState, match="isolation"):
        db.execute(f"SELECT * FROM strandd.clean_strands('ad_strands', {CUTOFF})", conn=conn)


def test_a_dry_run_changes_nothing(db):
    old(db, "a", "b", tags="[]")
    old(db, "c")
    conn = db.connect(autocommit=False)
    assert db.execute(f"SELECT deleted, kept, busy FROM strandd.clean_strands('ad_strands', {CUTOFF}, dry_run => true)", conn=conn) == [(2, 1, 0)]
    assert db.execute("SELECT mode FROM pg_locks WHERE relation = 'ad_strands'::regclass AND pid <> pg_backend_pid()") == [("AccessShareLock",)]
    conn.rollback()
    assert ids(db) == ["a", "b", "c"]


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize("index", [True, False])
def test_a_batch_costs_the_same_however_large_the_table_is(db, analysed, index):
    if not index:
        db.execute("DROP INDEX idx_ad_strands_created_at")
    old_many(db, "k", 300)
    old_many(db, "x", 20000, tags="[]", at=OLD + " + random() * interval '1 day'")
    old_many(db, "y", 20000, tags="[]", at="now()")
    if analysed:
        db.execute("ANALYZE ad_strands")
    conn = db.connect(autocommit=False)
    position = None
    for _ in range(3):
        position = db.value(f"SELECT \"position\" FROM strandd.clean_strands('ad_strands', {CUTOFF}, 100, false, false, %s)", (position,), conn)
    for table in ("ad_strands", "dm_receipts"):
        seq, fetched = db.execute("SELECT pg_stat_get_xact_numscans(%s::regclass),"
                                  " sum(pg_stat_get_xact_tuples_fetched(indexrelid)) FROM pg_index WHERE indrelid = %s::regclass",
                                  (table, table), conn)[0]
        assert seq == 0, table
        assert fetched is None or fetched < 5000, (table, fetched)
    conn.rollback()
