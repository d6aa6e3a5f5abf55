"""strandctl cleanup."""

import json
import subprocess

import pytest

import cluster as private
from clean_support import age_everything, ids, old, old_many, receipt, receipts_for_all
from ctl_support import interrupt, ok, on_terminal, refused, start


def result(done):
    return json.loads(ok(done).stdout)["cleanup"][0]


def mixed(db):
    """Old strands of every kind: 600 that may go, 101 that may not."""
    old_many(db, "done", 500)
    receipts_for_all(db, "done", 500)
    old_many(db, "open", 100)
    old(db, "retried", at="now() - interval '20 days'")
    receipt(db, "retried", "retry")
    db.execute("INSERT INTO dm_strands (id, created_at) SELECT i::text, now() - interval '9 days' FROM generate_series(1, 100) i")
    old(db, "young", at="now()", tags="[]")


def test_a_dry_run_equals_the_run(db, strandctl):
    mixed(db)
    dry = result(strandctl("--json", "cleanup", "--dry-run"))
    assert (dry["dry_run"], dry["deleted"], dry["kept"], dry["receipts"]) == (True, 600, 101, 0)
    assert len(ids(db)) == 602
    done = result(strandctl("--json", "cleanup"))
    assert done == dry | {"dry_run": False}
    ad, dm, tr = done["tables"]
    assert (ad["table"], ad["old"], ad["deleted"], ad["kept"], ad["oldest_kept"]) == ("ad_strands", 601, 500, 101, "retried")
    assert (dm["deleted"], tr["old"]) == (100, 0)
    assert len(ids(db)) == 102
    again = result(strandctl("--json", "cleanup"))
    assert (again["deleted"], again["kept"]) == (0, 101)
    age_everything(db, "25 hours")
    dry = result(strandctl("--json", "cleanup", "--dry-run"))
    assert dry["receipts"] == 500
    assert result(strandctl("--json", "cleanup"))["receipts"] == 500
    assert db.value("SELECT count(*) FROM dm_receipts") == 1


def test_json_is_indented_throughout(db, strandctl):
    """As smartcols does it, whatever is inside: three blanks a level."""
    for command in (["cleanup", "--dry-run"], ["status"]):
        said = ok(strandctl("--json", *command)).stdout.strip()
        depth = 0
        for line in said.splitlines():
            opens, closes = line.rstrip(",").endswith(("[", "{")), line.lstrip().startswith(("]", "}"))
            depth -= closes
            assert len(line) - len(line.lstrip()) == 3 * depth, said
            depth += opens


def test_for_people(db, strandctl):
    mixed(db)
    said = ok(strandctl("cleanup", "--dry-run")).stdout
    assert "600 strands and 0 receipts would be deleted, 101 old strands kept" in said
    assert "retried" in said
    assert "600 strands and 0 receipts deleted, 101 old strands kept" in ok(strandctl("cleanup")).stdout


def test_retention_and_table(db, strandctl):
    mixed(db)
    assert result(strandctl("--json", "cleanup", "--retention-days", "15"))["deleted"] == 0
    assert result(strandctl("--json", "cleanup", "--table", "DM_strands"))["tables"][0]["table"] == "dm_strands"
    assert len(ids(db)) == 602 and ids(db, "dm_strands") == []


def test_drop_unprocessed(db, strandctl):
    mixed(db)
    assert result(strandctl("--json", "cleanup", "--drop-unprocessed", "--dry-run"))["deleted"] == 701
    done = result(strandctl("--json", "cleanup", "--drop-unprocessed"))
    assert (done["deleted"], done["kept"]) == (701, 0)
    assert ids(db) == ["young"]


def test_what_is_configured_counts(db, tmp_path, build):
    mixed(db)
    path = tmp_path / "strandd.conf"
    path.write_text("module_communication = %s;\n" % private.libconfig({
        "database": {"host": db.cluster.dir, "database": db.name, "user": private.OWNER},
        "cleanup": {"retention_days": 12, "drop_unprocessed": True}}))
    done = subprocess.run([*private.program("strandctl"), "--config", str(path), "--json", "cleanup"],
                          capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["cleanup"][0]["deleted"] == 1, done
    assert "retried" not in ids(db)


@pytest.mark.parametrize("args, words", [
    (("--table", "nowhere"), ("nowhere",)),
    (("--table", "other"), ("no module's table",)),
    (("--retention-days", "1.5"), ("whole number",)),
    (("--retention-days", "0"), ("whole number",)),
    (("--retention-days", "-1"), ("whole number",)),
    (("--retention-days", "99999999999999999999"), ("whole number",)),
    (("ad_strands",), ()),
])
def test_bad_arguments(db, strandctl, args, words):
    db.execute("CREATE TABLE other (id text)")
    old(db, "a", tags="[]")
    refused(strandctl("cleanup", *args), 2, *words)
    assert ids(db) == ["a"]


def test_one_at_a_time(db, strandctl):
    """The other one is named; a dry run needs no lock."""
    old(db, "a", tags="[]")
    holder = db.connect(application_name="some daemon")
    db.execute("SELECT pg_advisory_lock(hashtextextended('strandd cleanup', 0))", conn=holder)
    pid = db.value("SELECT pg_backend_pid()", conn=holder)
    refused(strandctl("cleanup"), 1, f"pid {pid}", "some daemon", "trading_owner")
    assert ids(db) == ["a"]
    assert result(strandctl("--json", "cleanup", "--dry-run"))["deleted"] == 1
    holder.close()
    private.wait_until(lambda: strandctl("cleanup").returncode == 0)
    assert ids(db) == []


def test_interrupted_and_repeated(db, wait_until, strandctl):
    old_many(db, "s", 50000, tags="[]")
    process = start(db, "--json", "cleanup")
    wait_until(lambda: db.value("SELECT count(*) FROM ad_strands") < 49000)
    code, out, err = interrupt(process)
    assert code == 5 and "interrupted" in err
    said = json.loads(out)["cleanup"][0]
    left = len(ids(db))
    assert said["finished"] is False
    # a batch of which no answer came may have been committed
    assert 0 < left < 50000 and 50000 - left - said["deleted"] in (0, 1000)
    assert result(strandctl("--json", "cleanup"))["deleted"] == left


def test_interrupted_within_a_batch(db, wait_until):
    old(db, "a", tags="[]")
    db.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN OLD; END'")
    db.execute("CREATE TRIGGER slow BEFORE DELETE ON ad_strands FOR EACH ROW EXECUTE FUNCTION slow()")
    process = start(db, "cleanup")
    wait_until(lambda: db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"))
    code, _, _ = interrupt(process)
    assert code == 5
    wait_until(lambda: not db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"))
    assert ids(db) == ["a"]


def test_progress(db, build):
    old_many(db, "s", 5000, tags="[]")
    code, out, shown = on_terminal(db, "cleanup", columns=100)
    assert code == 0 and "ad_strands" in shown and "5000" in out


def test_refused_strands_and_a_table_left_off(db, strandctl):
    old(db, "a", "b", tags="[]")
    db.execute("CREATE TABLE child (strand text REFERENCES ad_strands)")
    db.execute("INSERT INTO child VALUES ('a')")
    done = strandctl("--json", "cleanup")
    assert "1 strands could not be deleted" in done.stderr and "child" in done.stderr
    assert result(done)["tables"][0]["refused"] == 1
    db.execute("CREATE TABLE zz_strands (id text PRIMARY KEY, tags jsonb)")
    db.attach("zz:any", "ad_strands", "zz_strands")
    old(db, "c", tags="[]")
    refused(strandctl("cleanup"), 1, "zz_strands: left off", "no age is known", "not every table")
    assert ids(db) == ["a"]


def test_before_init(plain_db, build):
    refused(private.strandctl(plain_db, "cleanup"), 3, "strandctl init")


def test_the_grant(db, strandctl):
    old(db, "a", tags="[]")
    refused(strandctl("cleanup", user=private.SERVICE), 1, "--grant-cleanup")
    assert "and clean up" in ok(strandctl("init", "--grant-cleanup", private.SERVICE)).stdout
    ok(strandctl("cleanup", user=private.SERVICE))
    assert ids(db) == []
    ok(strandctl("init", "--grant", private.SERVICE))
