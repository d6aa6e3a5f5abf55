"""The server is not there: at start, later, for a while, or not for us."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import psycopg2
import pytest

import cluster as private
import service

TAG = "dm:evaluate_plan"
RECORD = [(TAG, "AD_strands", "test.record")]
SECRET = "s3cret-of-the-test"


@pytest.fixture
def server(cluster, db):
    """The cluster, for tests that stop it; runs again at their end."""
    yield cluster
    db.close()
    if not cluster.running:
        cluster.start()


@pytest.fixture
def password_role(cluster):
    """A role that must give its password, here and nowhere else."""
    path = os.path.join(cluster.data, "pg_hba.conf")
    with open(path, encoding="utf-8") as f:
        before = f.read()
    cluster.admin("DO $$ BEGIN CREATE ROLE careful LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
                  f"ALTER ROLE careful PASSWORD '{SECRET}'")
    with open(path, "w", encoding="utf-8") as f:
        f.write("local all careful scram-sha-256\n" + before)
    cluster.admin("SELECT pg_reload_conf()")
    time.sleep(0.1)
    yield "careful"
    with open(path, "w", encoding="utf-8") as f:
        f.write(before)
    cluster.admin("SELECT pg_reload_conf()")


def database(**options):
    return {"module_communication": {"database": options}}


def assert_waits(d, *words, port="5432", secret=None):
    """It runs, and has said whom it waits for and why."""
    d.wait_log("waiting for it")
    log = d.log()
    for word in words:
        assert word in log, log
    assert "warning loader: " in log and f"port {port}" in log
    assert not secret or secret not in log
    assert d.process.poll() is None


def leaves(d, within=2.0):
    since = time.monotonic()
    d.signal(signal.SIGTERM)
    assert d.wait(within + 10) == 0, d.log()
    assert time.monotonic() - since < within


# --- at start


@pytest.mark.sanitize
def test_server_is_waited_for_at_start(db, server, daemon):
    service.publish(db, "ad_strands", "AD_1", [TAG])
    db.close()
    server.stop()
    d = daemon(RECORD, ready=False)
    assert_waits(d, server.dir, f'"{db.name}"', f'"{private.SERVICE}"')
    assert d.log().count("waiting for it") == 1
    server.start()
    d.wait_ready()
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


def test_wait_at_start_ends_by_signal(db, server, daemon):
    db.close()
    server.stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        d = daemon(RECORD, ready=False)
        d.wait_log("waiting for it")
        since = time.monotonic()
        d.signal(number)
        assert d.wait(10) == 0
        assert time.monotonic() - since < 1.0


def test_hangup_does_not_end_the_wait(db, server, daemon):
    db.close()
    server.stop()
    d = daemon(RECORD, ready=False)
    d.wait_log("waiting for it")
    d.signal(signal.SIGHUP)
    d.wait_log("SIGHUP")
    time.sleep(0.5)
    assert d.process.poll() is None, d.log()
    server.start()
    d.wait_ready()


@pytest.mark.parametrize("options, words", [
    ({"database": "no_such_database"}, ['"no_such_database"', "does not exist"]),
    ({"user": "no_such_role"}, ['"no_such_role"', "does not exist"]),
    ({"host": "/no/such/directory"}, ['"/no/such/directory"', "No such file"]),
])
def test_unknown_names_are_told_and_waited_for(daemon, options, words):
    d = daemon(RECORD, ready=False, conf=database(password=SECRET, **options))
    assert_waits(d, *words, secret=SECRET)
    leaves(d)


def test_refused_port_is_told_and_waited_for(daemon):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    d = daemon(RECORD, ready=False, conf=database(host="127.0.0.1", port=port))
    assert_waits(d, '"127.0.0.1"', "refused", port=str(port))
    leaves(d)


def test_unknown_host_is_told_and_waited_for(daemon):
    """How long the resolver takes is not ours to say."""
    since = time.monotonic()
    with contextlib.suppress(OSError):
        socket.getaddrinfo("no-such-host.invalid", 5432)
    resolver = time.monotonic() - since
    if resolver > 5:
        pytest.skip(f"the resolver takes {resolver:.0f} s for a name that does not exist")
    d = daemon(RECORD, ready=False, conf=database(host="no-such-host.invalid"))
    assert_waits(d, '"no-such-host.invalid"')
    leaves(d, within=2.0 + resolver)


def test_silent_server_is_told_and_waited_for(daemon):
    """Something accepts the connection and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        d = daemon(RECORD, ready=False, conf=database(host="127.0.0.1", port=port, connect_timeout="300ms"))
        assert_waits(d, "no answer within the connect timeout", port=str(port))
        leaves(d)


def test_wrong_password_is_told_and_waited_for(db, cluster, daemon, password_role):
    db.execute("SELECT strandd.grant_service(%s)", (password_role,))
    db.execute("GRANT USAGE ON SCHEMA test TO careful; GRANT INSERT ON test.calls TO careful;"
               " GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO careful")
    wrong = SECRET + "-wrong"
    d = daemon(RECORD, ready=False, conf=database(user=password_role, password=wrong))
    assert_waits(d, "password authentication failed", '"careful"', f'"{db.name}"', secret=SECRET)
    # the operator sets it right, on the server's side
    cluster.admin(f"ALTER ROLE careful PASSWORD '{wrong}'")
    d.wait_ready()
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    d.stop()
    assert SECRET not in d.log()


def test_each_reason_is_told(db, server, daemon):
    """Down, and then up and without the database: both must be in the log."""
    db.close()
    server.stop()
    d = daemon(RECORD, ready=False, conf=database(database="later"))
    d.wait_log("waiting for it")
    server.start()
    d.wait_log("does not exist")
    server.database(name="sooner").close()  # adopted before anyone finds it
    server.admin("ALTER DATABASE sooner RENAME TO later")
    try:
        d.wait_ready()
        leaves(d)
    finally:
        server.admin("DROP DATABASE later WITH (FORCE)")


def test_service_file(db, daemon, tmp_path):
    """What the configuration does not say comes from libpq's service file."""
    (tmp_path / "pg_service.conf").write_text(
        f"[trading]\nhost={db.cluster.dir}\ndbname={db.name}\nuser={private.SERVICE}\n")
    settings = {"module_communication": {"database": {"service": "trading"}}, "stats": {},
                "routes": [dict(zip(("tag", "source", "handler"), RECORD[0]))]}
    text = "".join(f"{k} = {private.libconfig(v)};\n" for k, v in settings.items())
    (tmp_path / "c").write_text(text)
    log = open(tmp_path / "log", "wb")
    with subprocess.Popen([*private.program("strandd"), "--config", str(tmp_path / "c")], stderr=log,
                          env=dict(os.environ, PGSERVICEFILE=str(tmp_path / "pg_service.conf")),
                          preexec_fn=private.die_with_parent) as p:
        service.publish(db, "ad_strands", "AD_1", [TAG])
        assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
        p.send_signal(signal.SIGTERM)
        assert p.wait(20) == 0


# --- several hosts


@pytest.fixture
def silent(tmp_path):
    """A directory with a socket on which somebody accepts and says nothing."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / ".s.PGSQL.5432"))
        s.listen(50)
        tmp_path.chmod(0o755)
        (tmp_path / ".s.PGSQL.5432").chmod(0o777)
        yield str(tmp_path)


def test_silent_first_host_leaves_time_for_the_second(db, daemon, silent):
    since = time.monotonic()
    d = daemon(RECORD, conf=database(host=f"{silent},/no/such/directory,{db.cluster.dir}", connect_timeout="1500ms"))
    service.publish(db, "ad_strands", "AD_1", [TAG])
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"
    assert time.monotonic() - since < 8, d.log()
    assert "no connection" not in d.log()


def test_several_hosts_of_a_service_file(db, daemon, silent):
    """With ports of their own; a silent one does not keep the others from being tried."""
    service_file = os.path.join(silent, "pg_service.conf")
    with open(service_file, "w", encoding="utf-8") as f:
        f.write(f"[trading]\nhost=127.0.0.1,{silent},{db.cluster.dir}\nport=1,5432,{db.cluster.settings.get('port', 5432)}\n"
                f"dbname={db.name}\nuser={private.SERVICE}\n")
    d = private.Daemon(db, RECORD, database(service="trading", connect_timeout="1500ms"), env={"PGSERVICEFILE": service_file})
    for key in ("host", "port", "database", "user"):
        del d.settings["module_communication"]["database"][key]
    try:
        d.start()
        d.stop()
    finally:
        d.remove()


def test_each_host_is_told(daemon, silent):
    d = daemon(RECORD, ready=False, conf=database(host=f"{silent},/no/such/directory", connect_timeout="600ms"))
    assert_waits(d, f'"{silent}"', "no answer within the connect timeout", '"/no/such/directory"', "No such file")
    leaves(d)


def test_primary_among_several_hosts(db, daemon, standby):
    place, _ = standby
    service.publish(db, "ad_strands", "AD_1", [TAG])
    daemon(RECORD, conf=database(host=f"{place},{db.cluster.dir}"))
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


@pytest.fixture
def standby(cluster, db):
    """A hot standby of the cluster, (socket directory, promote())."""
    place = os.path.join(cluster.dir, "standby")
    data = os.path.join(place, "data")
    os.makedirs(place, exist_ok=True)
    if cluster.user:
        os.chown(place, *cluster.user)

    def run(name, *args):
        return cluster._run(os.path.join(cluster.bin, name), "-D", data, *args)  # pylint: disable=protected-access
    run("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", cluster.dsn("postgres", "postgres"))
    run("pg_ctl", "-w", "-l", os.path.join(place, "log"), "-o", f"-c unix_socket_directories={place}", "start")
    yield place, lambda: run("pg_ctl", "-w", "promote")
    run("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(place)


def test_standby_is_waited_for_until_it_is_promoted(db, daemon, standby):
    """A server that only reads may become the primary: that is no mistake of ours."""
    place, promote = standby
    d = daemon(RECORD, ready=False, conf=database(host=place))
    d.wait_log("waiting for it")
    time.sleep(0.5)
    assert d.process.poll() is None, d.log()
    assert "standby" in d.log() and place in d.log()
    promote()
    d.wait_ready()
    copy = psycopg2.connect(host=place, dbname=db.name, user=private.OWNER)
    copy.autocommit = True
    db.execute("INSERT INTO ad_strands (id, tags) VALUES ('AD_1', %s)", (f'["{TAG}"]',), conn=copy)
    private.wait_until(lambda: db.execute("SELECT state FROM dm_receipts", conn=copy) == [("done",)])
    copy.close()
    d.stop()


# --- later


@pytest.mark.sanitize
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_goes_and_comes_back(db, server, daemon, mode):
    d = daemon(RECORD)
    service.publish(db, "ad_strands", "AD_before", [TAG])
    service.final(db, "dm", "AD_before", TAG)
    db.close()
    server.stop(mode)
    d.wait_log("trying again")
    time.sleep(0.5)
    server.start()
    service.publish(db, "ad_strands", "AD_meanwhile", [TAG])
    assert service.final(db, "dm", "AD_meanwhile", TAG, timeout=20)["state"] == "done"
    service.publish(db, "ad_strands", "AD_after", [TAG])
    assert service.final(db, "dm", "AD_after", TAG)["state"] == "done"
    assert service.calls(db) == {"AD_before": 1, "AD_meanwhile": 1, "AD_after": 1}
    # a thread tells each reason (lost, refused, starting up) once, not at each attempt
    assert d.log().count("trying again") <= 4 * 3, d.log()
    d.wait_log("connected again")


def test_server_crashes_while_a_handler_runs(db, server, daemon):
    service.publish_many(db, "ad_strands", "AD_", 3, [TAG], timeframe="20")
    daemon([(TAG, "AD_strands", "test.slow")])
    private.wait_until(lambda: service.sleeping(db))
    server.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT 0")
    db.close()
    try:
        server.restart("immediate")
        db.execute("UPDATE ad_strands SET timeframe = '0'")
    finally:
        server.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT -1")
    for i in (1, 2, 3):
        assert service.final(db, "dm", f"AD_{i}", TAG, timeout=20)["state"] == "done"
    assert service.calls(db) == {"AD_1": 1, "AD_2": 1, "AD_3": 1}


def test_signal_ends_a_daemon_whose_server_is_gone(db, server, daemon):
    d = daemon(RECORD)
    db.close()
    server.stop("immediate")
    d.wait_log("trying again")
    time.sleep(1.0)  # into its waits
    leaves(d)


@pytest.mark.sanitize
def test_sessions_ended_by_an_administrator(db, daemon):
    """Each thread opens a new one; nothing is lost, what comes meanwhile is found."""
    d = daemon(RECORD)
    service.publish(db, "ad_strands", "AD_0", [TAG])
    service.final(db, "dm", "AD_0", TAG)
    for i in range(1, 6):
        for row in service.sessions(db):
            db.cluster.admin(f"SELECT pg_terminate_backend({row['pid']})")
        service.publish(db, "ad_strands", f"AD_{i}", [TAG])
        assert service.final(db, "dm", f"AD_{i}", TAG)["state"] == "done"
    assert service.calls(db) == {f"AD_{i}": 1 for i in range(6)}
    assert d.metrics()["strandd_reconnects_total"] >= 1


def test_connections_refused_for_a_while(db, daemon):
    """No slots for us: waited for, as an outage is."""
    d = daemon(RECORD)
    db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT 0")
    try:
        for row in service.sessions(db):
            db.cluster.admin(f"SELECT pg_terminate_backend({row['pid']})")
        service.publish(db, "ad_strands", "AD_1", [TAG])
        d.wait_log("too many connections for role")  # not only that the old ones were lost
        time.sleep(0.5)
        assert service.receipt(db, "dm", "AD_1", TAG) is None
    finally:
        db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT -1")
    assert service.final(db, "dm", "AD_1", TAG)["state"] == "done"


# --- connections


def workers(db):
    """Sessions but for the listener's, the scanner's and the marker's."""
    return len(service.sessions(db)) - 3


def test_idle_connections_are_closed(db, daemon, wait_until):
    daemon(RECORD, conf=database(idle_timeout="10s"))
    service.publish(db, "ad_strands", "AD_1", [TAG])
    service.final(db, "dm", "AD_1", TAG)
    assert workers(db) >= 1
    wait_until(lambda: workers(db) == 0, timeout=20, what="no worker's session")
    service.publish(db, "ad_strands", "AD_2", [TAG])
    assert service.final(db, "dm", "AD_2", TAG)["state"] == "done"


def test_old_connections_are_renewed_while_strands_flow(db, daemon, wait_until):
    d = daemon(RECORD, conf={"workers": {"batch": 5}}, failpoints="session.old=error")
    end = time.monotonic() + 3.5
    n = 0
    while time.monotonic() < end:
        service.publish_many(db, "ad_strands", f"AD_{n}_", 20, [TAG])
        n += 1
        time.sleep(0.05)
    wait_until(lambda: service.count_receipts(db, "dm", TAG) == 20 * n, timeout=20)
    assert set(service.calls(db).values()) == {1}
    assert db.value("SELECT count(DISTINCT backend) FROM test.calls") > 4  # of two workers
    assert "warning" not in d.log()


@pytest.mark.sanitize
def test_renewal_is_refused_while_strands_flow(db, daemon, wait_until):
    """A worker whose next batch finds no connection still ends the one before, once."""
    db.execute("ALTER FUNCTION test.slow(jsonb) COST 1")
    service.publish_many(db, "ad_strands", "AD_", 1600, [TAG], timeframe="0.005")
    d = daemon([(TAG, "AD_strands", "test.slow")],
               conf={"workers": {"batch": 5}}, failpoints="session.old=error")
    wait_until(lambda: service.count_receipts(db, "dm", TAG) > 0)
    db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT 0")
    try:
        d.wait_log("too many connections for role")
        time.sleep(2)
    finally:
        db.cluster.admin(f"ALTER ROLE {private.SERVICE} CONNECTION LIMIT -1")
    wait_until(lambda: service.count_receipts(db, "dm", TAG) == 1600, timeout=60)
    assert set(service.calls(db).values()) == {1}
    labels = '{tag="dm:evaluate_plan",source="AD_strands"}'
    wait_until(lambda: d.metrics()["strandd_settled_total" + labels] == 1600)
    wait_until(lambda: d.metrics()["strandd_in_flight" + labels] == 0)


# --- a full disk


@pytest.fixture
def small_disk(cluster):
    """A file system of 80 MB that the server may write to."""
    place = os.path.join(cluster.dir, "small")
    os.makedirs(place, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", place], check=False,
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    # unmounts also when this process is killed: its stdin ends with us
    keeper = subprocess.Popen(["/bin/sh", "-c", 'cat >/dev/null; umount -l "$1"', "keeper", place],
                              stdin=subprocess.PIPE, start_new_session=True)
    if cluster.user:
        os.chown(place, *cluster.user)
    yield place
    keeper.stdin.close()
    keeper.wait()


def fill(place):
    """Writes a file until nothing more fits; returns its path."""
    path = os.path.join(place, "balloon")
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as f:
        while True:
            f.write(b"\0" * 65536)
    return path


def publish_until_full(db):
    """Producers fill what is left of the last pages; returns how many could."""
    for n in range(10000):
        try:
            service.publish(db, "ad_strands", f"AD_more{n}", [TAG], kind="x" * 500)
        except psycopg2.errors.DiskFull:
            return n
    raise AssertionError("the disk does not fill up")


def test_full_disk(cluster, small_disk, daemon, wait_until):
    """Producers fail, strandd tries on and goes on when there is space again."""
    cluster.admin(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    db = cluster.copy(cluster.template(), "on_small", "TABLESPACE small")
    db.adopt()
    try:
        big = service.function(db, """BEGIN
            INSERT INTO test.calls (handler, id) VALUES ('big', strand->>'id');
            RETURN QUERY SELECT jsonb_build_object('dm_alpha', jsonb_agg(gen_random_uuid())) FROM generate_series(1, 3000);
        END""")
        service.publish_many(db, "ad_strands", "AD_", 20, [TAG])
        balloon = fill(small_disk)
        d = daemon([(TAG, "AD_strands", big)], db=db)
        d.wait_log("sqlstate=53100")
        more = publish_until_full(db)
        time.sleep(0.5)
        assert d.process.poll() is None
        assert "failed" not in service.states(db, "dm", TAG).values()
        os.unlink(balloon)
        service.publish(db, "ad_strands", "AD_last", [TAG])
        wait_until(lambda: service.count_receipts(db, "dm", TAG) == 21 + more, timeout=60)
        assert set(service.states(db, "dm", TAG).values()) == {"done"}
        assert set(service.calls(db).values()) == {1}
        assert db.value("SELECT count(*) FROM dm_strands") == 21 + more
        d.stop()
    finally:
        db.drop()
        cluster.admin("DROP TABLESPACE small")
