"""What cannot be attached is refused in words that name it and the remedy."""

import psycopg2
import pytest

from sql_support import Ears

GOOD = "id text PRIMARY KEY, tags jsonb"


def refused(db, sql, params=None):
    """(message, hint) of the error."""
    with pytest.raises(psycopg2.Error) as error:
        db.execute(sql, params)
    assert error.value.diag.message_hint
    return error.value.diag.message_primary, error.value.diag.message_hint


@pytest.mark.parametrize("make, fault, remedy", [
    ("CREATE VIEW t AS SELECT * FROM ad_strands", "it is a view", "the table that the view reads"),
    ("CREATE MATERIALIZED VIEW t AS SELECT * FROM ad_strands", "it is a view", "the table that the view reads"),
    (f"CREATE TABLE t ({GOOD}) PARTITION BY HASH (id)", "it is partitioned", "ordinary table"),
    (f"CREATE TABLE p ({GOOD}) PARTITION BY HASH (id); CREATE TABLE t PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
     "it is a partition", "Detach the partition"),
    (f"CREATE TEMPORARY TABLE t ({GOOD})", "it is a temporary table", "permanent"),
    (f"CREATE UNLOGGED TABLE t ({GOOD})", "it is unlogged", "SET LOGGED"),
    (f"CREATE TABLE t ({GOOD}); CREATE TABLE c () INHERITS (t)", "it inherits or is inherited from", "NO INHERIT"),
    (f"CREATE TABLE p ({GOOD}); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (p)", "it inherits or is inherited from", "NO INHERIT"),
    ("CREATE SEQUENCE t", "it is not a table", "ordinary table"),
    ("CREATE TABLE t (tags jsonb)", "it has no column id", "ADD COLUMN id text PRIMARY KEY"),
    ("CREATE TABLE t (id bigint PRIMARY KEY, tags jsonb)", "its column id is of type bigint, not text", "ALTER COLUMN id TYPE text"),
    ("CREATE TABLE t (id varchar PRIMARY KEY, tags jsonb)", "of type character varying", "ALTER COLUMN id TYPE text"),
    ("CREATE TABLE t (id text, tags jsonb)", "its primary key is not the single column id", "ADD PRIMARY KEY (id)"),
    ("CREATE TABLE t (id text UNIQUE, tags jsonb, k int PRIMARY KEY)", "its primary key is not the single column id", "ADD PRIMARY KEY (id)"),
    ("CREATE TABLE t (id text, tags jsonb, k int, PRIMARY KEY (id, k))", "its primary key is not the single column id", "ADD PRIMARY KEY (id)"),
    ("CREATE TABLE t (id text PRIMARY KEY DEFERRABLE, tags jsonb)", "its primary key is not the single column id", "not deferrable"),
    ("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
     "CREATE TABLE t (id text COLLATE loose PRIMARY KEY, tags jsonb)", "a collation that holds different texts for equal", 'COLLATE "C"'),
    ("CREATE TABLE t (id text PRIMARY KEY)", "it has no plain column tags of type jsonb", "ADD COLUMN tags jsonb"),
    ("CREATE TABLE t (id text PRIMARY KEY, tags json)", "it has no plain column tags of type jsonb", "tags jsonb"),
    ("CREATE TABLE t (id text PRIMARY KEY, tags jsonb GENERATED ALWAYS AS ('[]') STORED)", "it has no plain column tags", "tags jsonb"),
    (f"CREATE TABLE t ({GOOD}, xact_id bigint)", "a column xact_id or tagged_at of its own", "RENAME COLUMN"),
    (f"CREATE TABLE t ({GOOD}, tagged_at date DEFAULT now())", "a column xact_id or tagged_at of its own", "RENAME COLUMN"),
    (f"CREATE TABLE t ({GOOD}, tagged_at timestamptz NOT NULL DEFAULT now())", "a column xact_id or tagged_at of its own", "RENAME COLUMN"),
    (f"CREATE TABLE t ({GOOD}, xact_id xid8 NOT NULL DEFAULT pg_current_xact_id(), tagged_at timestamptz DEFAULT now())",
     "a column xact_id or tagged_at of its own", "RENAME COLUMN"),
    (f"CREATE TABLE t ({GOOD}, xact_id xid8 DEFAULT pg_current_xact_id())", "a column xact_id or tagged_at of its own", "RENAME COLUMN"),
], ids=lambda p: p[:40])
def test_tables(db, make, fault, remedy):
    db.execute(make)
    for call in ("strandd.attach('x:y', 't', 'dm_strands')", "strandd.attach('x:y', 'ad_strands', 't')",
                 "strandd.prepare_source('t')", "strandd.prepare_receiver('t')"):
        message, hint = refused(db, f"SELECT {call}")
        assert "strandd cannot use" in message and fault in message
        assert remedy in hint
    assert db.value("SELECT count(*) FROM strandd.routes()") == 5


def test_a_foreign_table(cluster, db):
    cluster.admin("CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER s FOREIGN DATA WRAPPER w",
                  "CREATE FOREIGN TABLE public.t (id text, tags jsonb) SERVER s", name=db.name)
    assert "it is a foreign table" in refused(db, "SELECT strandd.attach('x:y', 't', 'dm_strands')")[0]


def test_a_name_of_46_bytes(db):
    name = "t" * 46
    db.execute(f"CREATE TABLE {name} ({GOOD})")
    assert "more than 45 bytes" in refused(db, f"SELECT strandd.prepare_source('{name}')")[0]
    db.execute(f"ALTER TABLE {name} RENAME TO {name[1:]}")
    db.attach("x:y", name[1:], "dm_strands")
    db.attach("a:b", "dm_strands", name[1:])


def test_a_table_that_is_gone(db):
    assert "there is no table with the number 4" in refused(db, "SELECT strandd.attach('x:y', 4::regclass, 'dm_strands')")[0]


@pytest.mark.parametrize("tag, fault", [
    (None, "NULL is not of the form"), ("", "'' is not of the form"), ("evaluate_plan", "is not of the form"), ("a:b:c", "is not of the form"),
    (":b", "is not of the form"), ("a:", "is not of the form"), ("a b:c", "is not of the form"), ("a:b\n", "is not of the form"),
    ("priority:high", "is an attribute"), ("timeout:5", "is an attribute"), ("original_strand:AD_1", "is an attribute"), ("error:x", "is an attribute"),
    ("x:" + "y" * 57, "has 59 bytes, 58 are possible"), ("é:" + "y" * 56, "has 59 bytes"),
])
def test_tags(db, tag, fault):
    assert fault in refused(db, "SELECT strandd.attach(%s, 'ad_strands', 'dm_strands')", (tag,))[0]


def test_a_channel_of_58_bytes(db):
    tag = "x:" + "y" * 56
    db.attach(tag, "ad_strands", "dm_strands")
    channel = tag.replace(":", "_")
    ears = Ears(db, channel, channel + ":high")
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', jsonb_build_array(%s, 'priority:high'))", (tag,))
    assert ears.heard() == [(channel + ":high", "a"), (channel, "a")]


def test_strange_but_possible_tags(db):
    ears = Ears(db, "a'b_c\"d\\", "Ä_%s")
    for tag in ("a'b:c\"d\\", "Ä:%s"):
        db.attach(tag, "ad_strands", "dm_strands")
        db.execute("INSERT INTO ad_strands (id, tags) VALUES (%s, jsonb_build_array(%s))", (tag, tag))
        db.execute("UPDATE ad_strands SET tags = NULL")
    assert ears.heard() == [("a'b_c\"d\\", "a'b:c\"d\\"), ("Ä_%s", "Ä:%s")]
    assert db.execute("SELECT tags FROM ad_strands WHERE id = 'Ä:%s'") == [(["Ä:%s"],)]


def test_two_tags_of_one_channel(db):
    db.attach("a:b_c", "ad_strands", "dm_strands")
    message, _ = refused(db, "SELECT strandd.attach('a_b:c', 'tr_strands', 'ad_strands')")
    assert message == "the tags 'a_b:c' and 'a:b_c' have one channel, a_b_c"
    db.execute("SELECT strandd.detach('a:b_c', 'ad_strands', 'dm_strands')")
    db.attach("a_b:c", "tr_strands", "ad_strands")
    assert "have one channel" in refused(db, "SELECT strandd.attach('a:b_c', 'ad_strands', 'dm_strands')")[0]


def test_names_that_are_taken(db):
    db.execute(f"CREATE TABLE x_strands ({GOOD}); CREATE TABLE x_routes (id int)")
    assert "public.x_routes or public.x_receipts exists" in refused(db, "SELECT strandd.prepare_receiver('x_strands')")[0]
    db.execute("CREATE TABLE idx_x_strands_tags (id int)")
    assert "the name public.idx_x_strands_tags is taken" in refused(db, "SELECT strandd.index_statements('x_strands')")[0]
    db.execute(f"CREATE TABLE dm ({GOOD})")
    assert "share the prefix 'dm'" in refused(db, "SELECT strandd.prepare_receiver('dm')")[0]


def test_somebody_elses_table(db):
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        db.execute("SELECT strandd.attach('x:y', 'ad_strands', 'dm_strands')", conn=db.connect("producer"))


@pytest.mark.parametrize("schema, table", [("public", 'Weird "t" \'x\' %s_strands'), ('S "q" %I', "Order_strands"), ("public", "_strands"), ("public", "plain")])
def test_strange_names_work(db, schema, table):
    def q(name):
        return '"' + name.replace('"', '""') + '"'
    full = f"{q(schema)}.{q(table)}"
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {q(schema)}")
    db.execute(f"CREATE TABLE {full} ({GOOD}, created_at timestamptz DEFAULT now())")
    db.execute(f"INSERT INTO {full} VALUES ('old', '[\"x:y\"]')")
    db.attach("x:y", full, full)
    db.attach("x:z", full, full)
    assert db.execute("SELECT * FROM strandd.index_statements(%s::regclass)", (full,)) == []
    ears = Ears(db, "x_y", "x_z")
    db.execute(f"INSERT INTO {full} (id, tags) VALUES ('n', '[\"x:y\"]')")
    db.execute(f"UPDATE {full} SET tags = '[\"x:z\"]' WHERE id = 'n'")
    assert ears.heard() == [("x_y", "n"), ("x_z", "n")]
    prefix = db.value("SELECT strandd.prefix(%s::regclass)", (full,))
    assert prefix == (table[:-len("_strands")] if table.endswith("_strands") and table != "_strands" else table)
    assert db.value(f"SELECT count(*) FROM {q(schema)}.{q(prefix + '_receipts')} WHERE state = 'skipped'") == 1
    db.execute("SELECT strandd.grant_service('strandd_service'), strandd.grant_producer('producer', %s::regclass)", (full,))
    db.execute("SELECT strandd.detach('x:z', %s::regclass, %s::regclass)", (full, full))
    db.uninstall()
    db.execute(f"INSERT INTO {full} (id, tags) VALUES ('p', '[\"x:y\", \"x:z\"]')")
    assert ears.heard() == [("x_y", "p")]


def test_names_cannot_end_a_comment_of_a_generated_function(db):
    """The functions run with the rights of whoever attaches, or of whoever writes."""
    code = "CREATE TABLE public.broken_in (); --"
    schema, table, column = f"s\nPERFORM 1; {code}", f"t\n{code}\r\n", f"c\n{code}"
    db.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}"."{table}" ({GOOD}, "{column}" text)')
    full = f'"{schema}"."{table}"'
    db.execute(f"INSERT INTO {full} VALUES ('old', '[\"x:y\", \"x:z\"]')")
    db.attach("x:y", full, full, history=False)
    db.attach("x:z", full, full, history=False)
    for statement in ("INSERT INTO {} (id, tags) VALUES ('new', '[\"x:y\"]')", "UPDATE {} SET tags = '[\"x:z\"]'"):
        db.execute(statement.format(full))
    db.execute("CALL strandd.finish_histories()")
    db.execute("SELECT strandd.detach('x:y', %s::regclass, %s::regclass)", (full, full))
    db.execute("SELECT strandd.update_strand(%s::regclass, 's', %s, ARRAY['id', 'tags', %s])",
               (full, '{"update": "new", "c\\n%s": "v"}' % code, column))
    assert db.value(f'SELECT "{column}" FROM {full} WHERE id = \'new\'') == "v"
    db.uninstall()
    db.execute(f"INSERT INTO {full} (id, tags) VALUES ('plain', '[\"x:z\"]')")
    assert db.value("SELECT to_regclass('public.broken_in')") is None
