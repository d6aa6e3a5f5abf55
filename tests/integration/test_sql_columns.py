"""xact_id and tagged_at are this cluster's and say when a tag was new."""

import random

import psycopg2
import pytest

TAG = '["dm:evaluate_plan"]'


def stamps(db, name="a", table="ad_strands"):
    return db.execute(f"SELECT xact_id::text, tagged_at FROM {table} WHERE id = %s", (name,))[0]


def current(db, conn):
    return db.value("SELECT pg_current_xact_id()::text", conn=conn)


@pytest.fixture
def tx(db):
    return db.connect(autocommit=False)


@pytest.mark.parametrize("given", ["NULL", "'5'", "'18446744073709551615'", "DEFAULT"])
def test_insert_gives_the_transactions_own(db, tx, given):
    mine = current(db, tx)
    db.execute(f"INSERT INTO ad_strands (id, xact_id, tagged_at) VALUES ('a', {given}, {'NULL' if given == 'NULL' else 'DEFAULT'})", conn=tx)
    now = db.value("SELECT now()", conn=tx)
    tx.commit()
    assert stamps(db) == (mine, now)


def test_insert_that_copies_a_strand(db, tx):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s)", (TAG,))
    db.execute("INSERT INTO dm_strands (id, tags, xact_id, tagged_at) SELECT id, tags, xact_id, tagged_at FROM ad_strands", conn=tx)
    db.execute("CREATE TEMPORARY TABLE c AS SELECT * FROM ad_strands", conn=tx)
    db.execute("UPDATE c SET id = 'b'", conn=tx)
    db.execute("INSERT INTO ad_strands SELECT * FROM c", conn=tx)
    mine, now = current(db, tx), db.value("SELECT now()", conn=tx)
    tx.commit()
    assert stamps(db, table="dm_strands") == stamps(db, "b") == (mine, now)
    assert stamps(db) != (mine, now)


def test_insert_by_jsonb_populate_record(db, tx):
    mine = current(db, tx)
    db.execute("INSERT INTO ad_strands SELECT * FROM jsonb_populate_record(NULL::ad_strands, '{\"id\": \"a\", \"tags\": []}')", conn=tx)
    tx.commit()
    assert stamps(db)[0] == mine


def test_copy_with_every_column(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s)", (TAG,))
    text = db.psql("-c", "COPY (SELECT * FROM ad_strands) TO STDOUT").stdout.replace("a", "b", 1)
    db.psql("-c", "COPY ad_strands FROM STDIN", stdin=text)
    assert int(stamps(db, "b")[0]) > int(stamps(db)[0])


def test_a_subtransaction_counts_as_its_transaction(db, tx):
    mine = current(db, tx)
    db.execute("SAVEPOINT s", conn=tx)
    db.execute("INSERT INTO ad_strands (id) VALUES ('a')", conn=tx)
    db.execute("RELEASE s", conn=tx)
    tx.commit()
    assert stamps(db)[0] == mine


@pytest.mark.parametrize("change", ["kind = 'k'", "tags = tags || '[\"other\"]'", "tags = tags || '[\"error:x\"]'", "xact_id = '7'",
                                    "tags = NULL", "xact_id = NULL, tagged_at = NULL", "tagged_at = 'infinity', tags = '[\"z\"]'", "xact_id = DEFAULT"])
def test_update_without_a_new_tag_changes_neither(db, change):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s)", (TAG,))
    before = stamps(db)
    db.execute(f"UPDATE ad_strands SET {change}")
    assert stamps(db) == before


def test_update_with_a_new_tag_renews_both(db, tx):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', NULL)")
    db.execute("UPDATE ad_strands SET tags = %s", (TAG,), conn=tx)
    mine, now = current(db, tx), db.value("SELECT now()", conn=tx)
    tx.commit()
    assert stamps(db) == (mine, now)


def test_an_unattached_tag_is_no_tag(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[\"trader:execute_plan\"]')")
    before = stamps(db)
    db.execute("UPDATE ad_strands SET tags = '[\"alpha:decision_feedback\"]'")
    assert stamps(db) == before
    assert db.value("SELECT tags FROM ad_strands") == ["alpha:decision_feedback"]


def test_the_triggers_run_for_a_replication_worker_too(cluster, db):
    """session_replication_role = replica turns off all but ALWAYS."""
    cluster.admin("SET session_replication_role = replica", "INSERT INTO ad_strands (id, xact_id) VALUES ('a', '5')",
                  "UPDATE ad_strands SET xact_id = '6'", name=db.name)
    assert int(stamps(db)[0]) > 500


def test_an_id_with_an_attached_tag_does_not_change(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s), ('b', '[\"other\"]')", (TAG,))
    db.execute("UPDATE ad_strands SET id = 'c' WHERE id = 'b'")
    db.execute("UPDATE ad_strands SET id = id")
    with pytest.raises(psycopg2.errors.RestrictViolation, match="the id of strand 'a' cannot change"):
        db.execute("UPDATE ad_strands SET id = 'd', tags = NULL WHERE id = 'a'")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        db.execute("MERGE INTO ad_strands t USING (VALUES ('a')) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET id = 'd'")


@pytest.mark.parametrize("size", [2690, 2691])
def test_an_id_that_just_fits_the_primary_key(db, size):
    """2,690 bytes that do not compress: (xact_id, id) would not hold them."""
    name = "".join(random.Random(size).choices([chr(c) for c in range(33, 127)], k=size))
    db.execute("ALTER TABLE ad_strands ALTER COLUMN id SET STORAGE EXTERNAL")
    db.execute("INSERT INTO ad_strands (id, tags) VALUES (%s, '[\"dm:evaluate_plan\", \"priority:high\"]')", (name,))
    assert db.value("SELECT count(*) FROM ad_strands WHERE id = %s", (name,)) == 1
    with pytest.raises(psycopg2.errors.ProgramLimitExceeded):
        db.execute("CREATE INDEX ON ad_strands (xact_id, id)")
    key = db.value("SELECT strandd.receipt_key(%s)", (name,))
    db.execute("INSERT INTO dm_receipts (route, strand_id, state) VALUES (1, %s, 'done')", (key,))
    assert len(key) == 71 and key.startswith("sha256:")


def test_an_id_of_8100_bytes_that_compresses(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES (repeat('ab', 4050), %s)", (TAG,))
    assert db.value("SELECT length(id) FROM ad_strands") == 8100


def test_alter_table_while_strands_flow(db):
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', NULL)")
    other = db.connect("producer")
    db.execute("UPDATE ad_strands SET tags = '[]'", conn=other)
    db.execute("ALTER TABLE ad_strands ADD COLUMN extra text, DROP COLUMN regime")
    db.execute("INSERT INTO ad_strands (id, tags, extra) VALUES ('b', %s, 'e')", (TAG,), conn=other)
    db.execute("UPDATE ad_strands SET tags = %s", (TAG,), conn=other)
    assert stamps(db)[0] != stamps(db, "b")[0]
