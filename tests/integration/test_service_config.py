"""The configuration as an operator meets it: --check-config, --print-config, conf.d,
the environment, --set, one daemon a module, and what the server has room for."""

import json
import os
import subprocess

import pytest

import cluster as private
import service

PLAN, FEEDBACK = "dm:evaluate_plan", "alpha:decision_feedback"
ROUTES = [(PLAN, "AD_strands", "test.record"), (FEEDBACK, "DM_strands", "test.record")]

pytestmark = pytest.mark.usefixtures("build")


@pytest.fixture(name="place")
def fixture_place(tmp_path):
    """A directory with a good strandd.conf and an empty conf.d."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "strandd.conf").write_text(
        'routes = ( { tag = "dm:evaluate_plan"; source = "AD_strands"; handler = "f"; } );\n')
    return tmp_path


def run(place, *args, env=None):
    return service.run("--config", str(place / "strandd.conf"), *args, env=env)


def test_check_says_one_line_when_all_is_well(place):
    done = run(place, "--check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{place}/strandd.conf: good: 1 route of 1, 3 modules, 4 workers\n"


def test_nothing_to_serve_is_an_error_of_the_check_too(place):
    (place / "strandd.conf").write_text("")
    done = run(place, "--check-config")
    assert done.returncode == 2 and "no routes: there is nothing to serve" in done.stderr
    assert run(place, "--print-config").returncode == 0


@pytest.mark.sanitize
def test_check_tells_all_errors_of_all_places(place):
    (place / "conf.d" / "10-a.conf").write_text('workers: {\n  thread = 4;\n  batch = 0;\n};\nscan: { interval = 5; };\n')
    (place / "conf.d" / "20-b.conf").write_text(
        'routes = ( { tag = "dm:evaluate_plan"; source = "ad_strands"; handler = "g"; },\n'
        '  { tag = "dn:x"; source = "s"; handler = "f"; } );\nqueue: { limit = 99999999999; };\n')
    done = run(place, "--check-config", "--set", "log.level=loud", env={"STRANDD_QUEUE_BYTES": "8M"})
    a, b = place / "conf.d" / "10-a.conf", place / "conf.d" / "20-b.conf"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f'{a}:2: unknown setting "workers.thread"; did you mean "workers.threads"?',
        f"{a}:3: workers.batch = 0 is out of bounds: 1 to 1000 strands",
        f'{a}:5: scan.interval = 5 lacks its unit: write "5ms" or "5s" (units: ms, s, min, h, d)',
        f'{b}:1: the route of "dm:evaluate_plan" from "ad_strands" is listed twice ({place}/strandd.conf:1)',
        f'{b}:2: tag "dn:x": no module "dn"; did you mean "dm:x"?',
        f"{b}:3: the number 99999999999 does not fit in 32 bits; write 99999999999L",
        'environment variable STRANDD_QUEUE_BYTES: queue.bytes must be a number and its unit such as "8MiB",'
        ' not "8M" (units: B, KiB, MiB, GiB, kB, MB, GB)',
        '--set: log.level must be one of "error", "warning", "info", "debug", not "loud"',
    ]
    # a start tells them, too
    started = run(place)
    assert started.returncode == 2
    for line in done.stderr.splitlines():
        if line.startswith(str(place)):
            assert f"error main: {line}\n" in started.stderr


def test_workers_for_high_strands_alone_are_an_error_of_the_check(place):
    file = place / "conf.d" / "w.conf"
    file.write_text("\nworkers: { reserved_for_high = 2; };\n")
    assert run(place, "--check-config").returncode == 0
    done = run(place, "--check-config", "--set", "workers.threads=2")
    assert done.returncode == 2
    assert done.stderr == (f"{file}:2: workers.reserved_for_high = 2 of 2 workers.threads leaves none for normal strands;"
                           " at most 1\n")


@pytest.mark.parametrize("ask", ["--check-config", "--print-config"])
def test_an_answer_that_cannot_be_written_is_an_error(place, ask):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([*private.program("strandd"), "--config", str(place / "strandd.conf"), ask], stdout=full,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (1, "standard output: cannot be written: No space left on device\n")


def test_errors_of_a_start_have_the_format_that_is_asked_for(place):
    done = run(place, "--log-format=json", "--set", "workers.threads=0")
    assert done.returncode == 2
    assert "workers.threads = 0 is out of bounds" in json.dumps(json.loads(done.stderr))
    done = run(place, "--check-config", "--set", "log.format=xml")
    assert done.returncode == 2 and "--set: log.format must be one of" in done.stderr


@pytest.mark.sanitize
def test_print_tells_values_and_origins_and_reads_back(place):
    (place / "conf.d" / "m.conf").write_text("\nworkers: { batch = 7; };\n")
    (place / "secret").write_text("hunter2\n")
    (place / "secret").chmod(0o600)
    env = {"STRANDD_SCAN_PAGE": "77", "STRANDD_MODULE_COMMUNICATION_DATABASE_PASSWORD_FILE": str(place / "secret")}
    done = run(place, "--print-config", "--set", "queue.bytes=1MiB", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (f"batch = 7;  # {place}/conf.d/m.conf:2", "page = 77;  # environment variable STRANDD_SCAN_PAGE",
                 'bytes = "1MiB";  # --set', "threads = 4;  # default"):
        assert f"  {line}\n" in done.stdout
    assert "hunter2" not in done.stdout
    (place / "other").mkdir()
    (place / "other" / "strandd.conf").write_text(done.stdout)
    again = run(place / "other", "--print-config")
    assert again.returncode == 0

    def values(text):
        return [line.split("  #")[0] for line in text.splitlines()]
    assert values(again.stdout) == values(done.stdout)


@pytest.mark.parametrize("where", ["check", "start"])
def test_a_password_in_argv_is_refused_and_not_repeated(place, where):
    done = run(place, *(["--check-config"] if where == "check" else []),
               "--set", "module_communication.database.password=hunter2")
    assert done.returncode == 2
    assert "password is refused" in done.stderr and "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("where", ["check", "start"])
@pytest.mark.parametrize("text", ["password = hunter2Secret;", "password = 'hunter2Secret';",
                                  'password = "hunter2Secret" user "y";', "password = 2222222222222;"])
def test_a_password_in_a_broken_file_is_not_repeated(place, where, text):
    file = place / "conf.d" / "p.conf"
    file.write_text("module_communication: { database: {\n  %s\n}; };\n" % text)
    file.chmod(0o604)
    done = run(place, *(["--check-config"] if where == "check" else []))
    assert done.returncode == 2
    said = (done.stderr + done.stdout).replace(str(place), "")
    assert "p.conf:2: " in said and "hunter2" not in said and "2222" not in said
    assert "a password stands here and others can read this file" in said


def test_passwords_that_others_can_read_are_refused(place):
    file = place / "conf.d" / "p.conf"
    file.write_text('module_communication: { database: { password = "hunter2"; }; };\n')
    file.chmod(0o644)
    done = run(place, "--check-config")
    assert done.returncode == 2
    assert f"{file}:1: a password stands here and others can read this file; say: chmod 06" in done.stderr
    assert "hunter2" not in done.stderr
    # the command that it says mends it
    command = done.stderr.split("say: ")[1].split(" (or")[0]
    subprocess.run(command.split(), check=True)
    assert run(place, "--check-config").returncode == 0


def test_variables_that_are_near_are_warned_of(place):
    done = run(place, "--check-config", env={"STRANDD_WORKER_THREADS": "5"})
    assert done.returncode == 0
    assert "warning: STRANDD_WORKER_THREADS is no setting" in done.stderr
    assert "did you mean STRANDD_WORKERS_THREADS?" in done.stderr


def test_a_daemon_by_environment_and_conf_d(db):
    """A main file without routes; the module's own file brings its route."""
    d = private.Daemon(db, routes=[], env={"STRANDD_WORKERS_THREADS": "3"})
    os.mkdir(os.path.join(d.dir, "conf.d"))
    with open(os.path.join(d.dir, "conf.d", "dm.conf"), "w", encoding="utf-8") as f:
        f.write('routes = ( { tag = "dm:evaluate_plan"; source = "AD_strands"; handler = "test.record"; } );\n')
    with d:
        assert "serving 1 route with 3 workers" in d.log()
        service.publish(db, "ad_strands", "AD_1", [PLAN])
        assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"


def with_channels(*channels):
    return {"module_communication": {"notifications": {"channels": list(channels)}}}


@pytest.mark.sanitize
def test_each_module_runs_its_own_daemon(db, daemon):
    """Two daemons on one configuration: each serves its channel and no other."""
    dm = daemon(ROUTES, conf=with_channels("dm_evaluate_plan"))
    service.publish(db, "dm_strands", "DM_1", [FEEDBACK])
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert "1 of 2 routes are served here, 1 are left to others" in dm.log()
    private.wait_until(lambda: [k for k in dm.metrics() if PLAN in k])
    assert not [k for k in dm.metrics() if FEEDBACK in k]
    assert service.receipt(db, "ad", "DM_1", FEEDBACK) is None
    daemon(ROUTES, conf=with_channels("alpha_decision_feedback"))
    assert service.final(db, "ad", "DM_1", FEEDBACK)["state"] == "done"
    for i in range(2, 20):
        service.publish(db, "dm_strands", f"DM_{i}", [FEEDBACK])
        service.publish(db, "ad_strands", f"AD_{i}", [PLAN])
    for i in range(2, 20):
        ours, theirs = service.final(db, "dm", f"AD_{i}", PLAN), service.final(db, "ad", f"DM_{i}", FEEDBACK)
        assert ours["state"] == theirs["state"] == "done"
        assert ours["instance"] != theirs["instance"]


def test_the_specifications_own_shape(db, daemon):
    """Its three groups and four channels, and one route: three channels are warned of."""
    conf = {"module_communication": {
        "notifications": {"enabled": True, "channels": ["dm_evaluate_plan", "alpha_decision_feedback",
                                                        "trader_execute_plan", "alpha_execution_feedback"]},
        "cleanup": {"enabled": True, "retention_days": 7, "cleanup_interval_hours": 24}}}
    d = daemon([ROUTES[0]], conf=conf)
    service.publish(db, "ad_strands", "AD_1", [PLAN])
    assert service.final(db, "dm", "AD_1", PLAN)["state"] == "done"
    assert d.log().count("no route has the channel") == 3


# --- connections


def test_connections_that_are_needed_are_told(daemon):
    d = daemon([ROUTES[0]], conf={"workers": {"threads": 3}})
    d.wait_log("up to 6 connections: 3 workers, scanner, marker, listener")
    assert "connections are needed, but" not in d.log()


def test_more_workers_than_the_server_lets_in(db, daemon):
    room = int(db.value("SELECT current_setting('max_connections')::int"
                        " - current_setting('superuser_reserved_connections')::int"))
    db.execute(f"ALTER DATABASE {db.name} CONNECTION LIMIT 4")
    d = daemon([ROUTES[0]], conf={"workers": {"threads": 2}})
    d.wait_log(f'up to 5 connections are needed, but database "{db.name}" lets in 4 (its CONNECTION LIMIT) and')
    db.execute(f"ALTER DATABASE {db.name} CONNECTION LIMIT -1")
    if room < 64:
        d = daemon([ROUTES[0]], conf={"workers": {"threads": 64}})
        d.wait_log(f"but the server lets in {room} (max_connections less the reserved ones)")


def test_a_roles_limit(db):
    db.cluster.admin("DO $$ BEGIN CREATE ROLE limited LOGIN CONNECTION LIMIT 4; EXCEPTION WHEN duplicate_object THEN END $$")
    db.execute("SELECT strandd.grant_service('limited'); GRANT USAGE ON SCHEMA test TO limited;"
               "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO limited")
    with private.Daemon(db, [(PLAN, "AD_strands", "test.nothing")], user="limited") as d:
        d.wait_log('but role "limited" lets in 4 (its CONNECTION LIMIT) and 0 are taken: lower workers.threads to 1, or raise the limit')
