"""strandctl report: all that a bug report wants, and nothing that it must not hold."""

import json
import os
import re
import subprocess

import pytest

import cluster as private
import service
from ctl_support import on_screen, refused, write_config

pytestmark = pytest.mark.usefixtures("build")

PARTS = ["versions", "configuration", "doctor", "status", "failures"]


def run(*args, env=None):
    return subprocess.run([*private.program("strandctl"), *args], capture_output=True, text=True, check=False,
                          env=dict(os.environ, **(env or {})), timeout=60)


def parts(text):
    return re.findall(r"^=== (\w+)$", text, re.M)


@pytest.fixture
def secrets(db, tmp_path):
    """A configuration and a database with "hunter2" wherever a secret or a strand's
    content may stand."""
    path = tmp_path / "c"
    write_config(path, db, password="hunter2-file")
    path.write_text(path.read_text() + """
        routes: ({ tag = "dm:evaluate_plan"; source = "AD_strands"; command: ["/usr/bin/handler", "--token=hunter2-argument"];
                   process: { environment: ["API_KEY=hunter2-environment"]; }; });\n""")
    service.publish(db, "AD_strands", "hunter2-id", ["dm:evaluate_plan", "customer:hunter2-tag"], kind="hunter2-kind",
                    trading_plan={"secret": "hunter2-plan"})
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, error, sqlstate, attempt, finished_at)"
               " SELECT route, 'hunter2-id', 'failed', 'invalid input: hunter2-error', '22P02', 3, now() FROM dm_routes WHERE tag = 'dm:evaluate_plan'")
    db.execute("UPDATE dm_routes SET suspended_at = now(), suspended_error = 'no function for hunter2-suspended', suspended_sqlstate = '42883'"
               " WHERE tag = 'dm:evaluate_plan'")
    return path, {"STRANDD_MODULE_COMMUNICATION_DATABASE_PASSWORD": "hunter2-variable", "PGPASSWORD": "hunter2-libpq"}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_and_no_content(secrets, form):
    path, env = secrets
    done = run("--config", str(path), *form, "report", env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "hunter2" not in said, re.findall(r"hunter2\S*", said)
    # and yet it says that they are there
    for word in ("password is set and not shown", "API_KEY=(not shown)", "/usr/bin/handler", "PGPASSWORD", "22P02", "42883",
                 "a tag (not shown)", "dm:evaluate_plan"):
        assert word in said, word


def test_a_password_in_the_connection_string(db):
    for form in ([], ["--json"]):
        done = run("--dbname", db.dsn() + " password=hunter2", *form, "report")
        assert done.returncode == 0 and "hunter2" not in done.stdout + done.stderr and db.name in done.stdout


def test_its_parts(secrets, db):
    path, env = secrets
    done = run("--config", str(path), "report", env=env)
    assert parts(done.stdout) == PARTS
    report = json.loads(run("--config", str(path), "--json", "report", env=env).stdout)
    assert list(report) == ["reported_at", *PARTS]
    versions = {v["name"]: v["value"] for v in report["versions"]["versions"]}
    assert versions["server"].startswith("PostgreSQL ") and versions["strandctl"] and versions["kernel"] and int(versions["libpq"]) >= 140000
    assert "PGPASSWORD" in versions["variables"].split()
    assert 'tag = "dm:evaluate_plan";' in "\n".join(report["configuration"])
    assert {"triggers", "pooler"} <= {f["check"] for f in report["doctor"]["findings"]}
    route = next(r for r in report["status"]["server"][0]["routes"] if r["tag"] == "dm:evaluate_plan")
    assert route["state"] == "suspended" and report["status"]["server"][0]["database"] == db.name
    failure, = report["failures"]["failures"]
    assert (failure["state"], failure["sqlstate"], failure["attempts"]) == ("failed", "22P02", 3) and "error" not in failure


def test_the_newest_failures_of_each_route(db):
    db.execute("INSERT INTO dm_receipts (route, strand_id, state, sqlstate, finished_at) SELECT route, i::text, 'failed', lpad(i::text, 5, '0'),"
               " now() - i * interval '1 s' FROM dm_routes, generate_series(1, 30) i")
    failures = json.loads(private.strandctl(db, "--json", "report").stdout)["failures"]["failures"]
    plans = [f["sqlstate"] for f in failures if f["tag"] == "dm:evaluate_plan"]
    assert plans == [f"{i:05}" for i in range(1, 21)] and len(failures) == 40


def test_without_a_database(plain_db):
    done = private.strandctl(plain_db, "--json", "report")
    report = json.loads(done.stdout)
    assert done.returncode == 3 and "strandctl init" in report["status"]["error"] and report["doctor"]["findings"]
    assert parts(private.strandctl(plain_db, "report").stdout) == PARTS


def test_without_a_server(tmp_path, db):
    path = write_config(tmp_path / "c", db, host="/nowhere", password="hunter2")
    done = run("--config", path, "--json", "report")
    report = json.loads(done.stdout)
    assert "/nowhere" in refused(done, 4) and "/nowhere" in report["doctor"]["error"] and "hunter2" not in done.stdout + done.stderr
    assert report["versions"]["versions"] and 'host = "/nowhere";' in "\n".join(report["configuration"])
    said = run("--config", path, "report")
    assert said.returncode == 4 and "not to be had: no connection" in said.stdout and parts(said.stdout) == PARTS


def test_without_a_configuration(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("module_communication: {\n  database: { password = 'hunter2 };\n};\n")
    broken.chmod(0o600)
    done = run("--config", str(broken), "--json", "report")
    report = json.loads(done.stdout)
    assert done.returncode == 2 and str(broken) in report["configuration"]["error"] and report["versions"]["versions"]
    assert "hunter2" not in done.stdout + done.stderr


def test_what_a_role_may_not_see(db):
    done = private.strandctl(db, "--json", "report", user=private.PRODUCER)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and "permission denied" in report["status"]["error"] and report["doctor"]["findings"]


def test_on_a_terminal(db):
    lines = on_screen(db, "report", columns=70)
    shown = [line for line in lines if "#" not in line and " = " not in line and line[:1] != " "]
    assert max(map(len, shown)) <= 70, max(shown, key=len)
