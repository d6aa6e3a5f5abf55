"""What the triggers announce, and that they never fail a producer."""

import json

import pytest

from sql_support import ALL_CHANNELS, Ears

TAG = '["dm:evaluate_plan"]'

ODD_TAGS = [
    None, "null", "{}", "[]", '{"dm:evaluate_plan": true}', '"dm:evaluate_plan"', "7", "true",
    '[["dm:evaluate_plan"]]', '[{"dm": "evaluate_plan"}]', "[1, 2.5, null, false]", '["dm:evaluate_plan "]',
    '["DM:EVALUATE_PLAN"]', '["\\u007f"]', '["' + "x" * 100000 + '"]', "[" * 200 + "]" * 200,
]


@pytest.fixture
def ears(db):
    return Ears(db, *ALL_CHANNELS)


def insert(db, name, tags, table="ad_strands", **more):
    db.execute(f"INSERT INTO {table} (id, tags) VALUES (%s, %s)", (name, tags), **more)


def test_insert(db, ears):
    insert(db, "a", TAG)
    assert ears.heard() == [("dm_evaluate_plan", "a")]


def test_nothing_before_the_commit_nor_after_a_rollback(db, ears):
    conn = db.connect(autocommit=False)
    insert(db, "a", TAG, conn=conn)
    assert ears.heard() == []
    conn.rollback()
    insert(db, "b", TAG, conn=conn)
    db.execute("SAVEPOINT s", conn=conn)
    insert(db, "c", TAG, conn=conn)
    db.execute("ROLLBACK TO s", conn=conn)
    conn.commit()
    assert ears.heard() == [("dm_evaluate_plan", "b")]


def test_tags_of_another_table_are_not_announced(db, ears):
    insert(db, "a", '["trader:execute_plan", "alpha:decision_feedback"]')
    assert ears.heard() == []


def test_high_priority_is_announced_twice_and_first(db, ears):
    insert(db, "a", '["dm:evaluate_plan", "priority:high"]')
    assert ears.heard() == [("dm_evaluate_plan:high", "a"), ("dm_evaluate_plan", "a")]
    insert(db, "b", '["priority:high"]')
    assert ears.heard() == []


def test_each_tag_and_none_twice(db, ears):
    insert(db, "a", '["trader:execute_plan", "alpha:decision_feedback", "alpha:decision_feedback"]', "dm_strands")
    assert ears.heard() == [("alpha_decision_feedback", "a"), ("trader_execute_plan", "a")]


@pytest.mark.parametrize("tags", ODD_TAGS, ids=lambda t: str(t)[:30])
def test_odd_tags_announce_nothing_and_raise_nothing(db, ears, tags):
    insert(db, "a", tags)
    insert(db, "b", TAG)
    assert ears.heard() == [("dm_evaluate_plan", "b")]
    db.execute("UPDATE ad_strands SET tags = %s WHERE id = 'b'", (tags,))  # kept beside what is odd
    assert db.value("SELECT tags @> %s FROM ad_strands WHERE id = 'b'", (TAG,))
    kept = db.value("SELECT tags FROM ad_strands WHERE id = 'b'")
    if tags in (None, "null", "[]"):
        assert kept == ["dm:evaluate_plan"]
    else:
        odd = json.loads(tags)
        assert kept == (odd if isinstance(odd, list) else [odd]) + ["dm:evaluate_plan"]
    assert ears.heard() == []
    db.execute("UPDATE ad_strands SET tags = %s WHERE id = 'a'", (TAG,))
    assert ears.heard() == [("dm_evaluate_plan", "a")]


def test_nested_and_numbers_beside_a_tag(db, ears):
    insert(db, "a", '[1, null, ["x"], {"y": 2}, "dm:evaluate_plan", "dm:evaluate_plan"]')
    assert ears.heard() == [("dm_evaluate_plan", "a")]


@pytest.mark.parametrize("size, announced", [(7999, True), (8000, False)])
def test_long_ids(db, ears, size, announced):
    insert(db, "x" * size, TAG)
    insert(db, "é" * (size // 2) + "x" * (size % 2), TAG)
    assert [len(p.encode()) for _, p in ears.heard()] == ([size, size] if announced else [])
    assert db.value("SELECT count(*) FROM ad_strands") == 2


def test_strange_ids(db, ears):
    ids = ["", " ", "a'b", 'a"b', "a,b{c}", "a\\b", "Ä\U0001f600", "x\ny", "%s %I", "sha256:00"]
    for name in ids:
        insert(db, name, TAG)
    assert [p for _, p in ears.heard()] == ids


def test_update_that_newly_adds_a_tag(db, ears):
    insert(db, "a", None)
    db.execute("UPDATE ad_strands SET tags = %s", (TAG,))
    assert ears.heard() == [("dm_evaluate_plan", "a")]
    db.execute("UPDATE ad_strands SET tags = '[\"other\", \"dm:evaluate_plan\"]', updated_at = now()")
    db.execute("UPDATE ad_strands SET kind = 'k'")
    assert ears.heard() == []


def test_an_error_mark_announces_nothing(db, ears):
    insert(db, "a", TAG)
    ears.heard()
    db.execute("UPDATE ad_strands SET tags = tags || '[\"error:processing_failed\"]', updated_at = NOW()")
    assert ears.heard() == []
    assert db.value("SELECT tags FROM ad_strands") == ["dm:evaluate_plan", "error:processing_failed"]


def test_pattern_3(db, ears):
    """The execution plan is announced, the unread feedback stays."""
    insert(db, "d", '["alpha:decision_feedback"]', "dm_strands")
    db.execute("UPDATE DM_strands SET dm_decision = '{}', tags = '[\"trader:execute_plan\"]', updated_at = NOW() WHERE id = 'd'")
    assert db.value("SELECT tags FROM dm_strands") == ["trader:execute_plan", "alpha:decision_feedback"]
    assert ears.heard() == [("alpha_decision_feedback", "d"), ("trader_execute_plan", "d")]


def test_update_of_high_priority_goes_first_too(db, ears):
    insert(db, "d", "[]", "dm_strands")
    db.execute("UPDATE dm_strands SET tags = '[\"trader:execute_plan\", \"priority:high\"]'")
    assert ears.heard() == [("trader_execute_plan:high", "d"), ("trader_execute_plan", "d")]


def test_on_conflict_and_merge(db, ears):
    insert(db, "a", '["x"]')
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s) ON CONFLICT (id) DO UPDATE SET tags = excluded.tags, xact_id = excluded.xact_id",
               (TAG,))
    assert ears.heard() == [("dm_evaluate_plan", "a")]
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', '[]') ON CONFLICT (id) DO UPDATE SET tags = excluded.tags")
    assert db.value("SELECT tags FROM ad_strands") == ["dm:evaluate_plan"]
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('a', %s) ON CONFLICT DO NOTHING", (TAG,))
    assert ears.heard() == []
    db.execute("MERGE INTO ad_strands t USING (VALUES ('a', %s::jsonb), ('m', %s::jsonb)) v (id, tags) ON t.id = v.id"
               " WHEN MATCHED THEN UPDATE SET tags = '[\"z\"]' WHEN NOT MATCHED THEN INSERT (id, tags) VALUES (v.id, v.tags)", (TAG, TAG))
    assert ears.heard() == [("dm_evaluate_plan", "m")]
    assert db.execute("SELECT id, tags FROM ad_strands ORDER BY 1") == [("a", ["z", "dm:evaluate_plan"]), ("m", ["dm:evaluate_plan"])]


def test_copy_and_bulk(db, ears):
    db.psql("-c", "COPY ad_strands (id, tags) FROM STDIN", stdin='c1\t["dm:evaluate_plan"]\nc2\t\\N\nc3\t["dm:evaluate_plan"]\n')
    db.execute("INSERT INTO ad_strands (id, tags) SELECT 'b' || i, %s FROM generate_series(1, 3) i", (TAG,))
    assert [p for _, p in ears.heard()] == ["c1", "c3", "b1", "b2", "b3"]


@pytest.mark.parametrize("event", ["INSERT", "UPDATE", "INSERT OR UPDATE"])
def test_a_users_own_trigger_that_edits_tags(db, ears, event):
    """It runs before ours, and what counts is what it leaves."""
    db.execute("CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
               " NEW.tags := CASE WHEN NEW.kind = 'add' THEN '[\"dm:evaluate_plan\"]' WHEN NEW.kind = 'drop' THEN '[]' ELSE NEW.tags END::jsonb;"
               " RETURN NEW; END $$")
    db.execute(f"CREATE TRIGGER zz_own BEFORE {event} ON ad_strands FOR EACH ROW EXECUTE FUNCTION own()")
    db.execute("INSERT INTO ad_strands (id, kind) VALUES ('a', 'add')")
    added_by_insert = "INSERT" in event
    assert ears.heard() == ([("dm_evaluate_plan", "a")] if added_by_insert else [])
    before = db.value("SELECT xact_id::text FROM ad_strands")
    db.execute("UPDATE ad_strands SET kind = 'add'")  # `UPDATE OF tags` would not see this one
    if "UPDATE" in event and not added_by_insert:
        assert ears.heard() == [("dm_evaluate_plan", "a")]
        assert db.value("SELECT xact_id::text FROM ad_strands") != before
    else:
        assert ears.heard() == []
        assert db.value("SELECT xact_id::text FROM ad_strands") == before
    db.execute("UPDATE ad_strands SET kind = 'drop', tags = tags")
    if "UPDATE" in event or added_by_insert:
        assert db.value("SELECT tags FROM ad_strands") == ["dm:evaluate_plan"]
    assert ears.heard() == []


def test_a_trigger_that_runs_after_ours_is_warned_of(db):
    db.execute("CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    db.execute("CREATE TRIGGER zzzz_last BEFORE INSERT ON ad_strands FOR EACH ROW EXECUTE FUNCTION own()")
    db.execute("SELECT strandd.prepare_source('ad_strands')")
    assert "trigger zzzz_last on public.ad_strands runs after strandd's own" in "".join(db.conn.notices)


def test_a_hostile_search_path(db, ears):
    """A session's own operators and functions are not called."""
    db.execute("CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public")
    db.execute("CREATE FUNCTION evil.bad(jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.bad(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.bad(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.octet_length(text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.jsonb_typeof(jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.jsonb_array_length(jsonb) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.pg_current_xact_id() RETURNS xid8 LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;"
               "CREATE OPERATOR evil.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = evil.bad);"
               "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.bad);"
               "CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.bad);"
               "CREATE OPERATOR evil.> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.bad);"
               "CREATE OPERATOR evil.< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.bad)")
    conn = db.connect("producer")
    db.execute("SET search_path = evil, pg_catalog, public", conn=conn)
    db.execute("INSERT INTO public.ad_strands (id, tags, xact_id) VALUES ('a', '[\"dm:evaluate_plan\", \"priority:high\"]', NULL)", conn=conn)
    db.execute("UPDATE public.ad_strands SET tags = '{}', xact_id = '5'", conn=conn)
    db.execute("UPDATE public.ad_strands SET tags = '[\"x\"]'", conn=conn)
    assert ears.heard() == [("dm_evaluate_plan:high", "a"), ("dm_evaluate_plan", "a")]
    assert db.value("SELECT tags FROM ad_strands") == ["x", "dm:evaluate_plan"]
