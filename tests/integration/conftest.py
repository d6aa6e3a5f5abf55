"""Fixtures of the integration tests: see cluster.py."""

import signal
import threading

import pytest

import cluster as private
import service


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: short, and about threads or memory: for sanitizer lanes too")
    config.addinivalue_line("markers", "long: takes minutes; left out of the quick run by -m 'not long'")
    if threading.current_thread() is threading.main_thread():
        # let fixtures clean up
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster():
    """One server per worker process, with its ordinary settings but fsync."""
    with private.Cluster() as c:
        yield c


@pytest.fixture
def db(cluster):
    """A database of the test's own, with strandd's SQL, grants and handlers."""
    d = cluster.database()
    yield d
    d.drop()


@pytest.fixture
def plain_db(cluster):
    """An empty database of the test's own, owned by trading_owner."""
    d = cluster.database(installed=False)
    yield d
    d.drop()


@pytest.fixture(scope="session")
def build():
    """The build tree; skips the test where there is none."""
    found = private.build_dir()
    if found is None:
        pytest.skip("STRANDD_BUILD is not set: no programs to test")
    for name in ("strandd", "strandctl"):
        if not (found / name).exists():
            pytest.fail(f"STRANDD_BUILD is {found}, and {name} is not there")
    return found


@pytest.fixture
def daemon(build, db):
    """daemon(routes=..., conf=..., ...) starts a strandd on the test's database;
    at the end each is stopped by SIGTERM and must exit 0."""
    started = []

    def start(*args, ready=True, **options):
        d = private.Daemon(options.pop("db", db), *args, **options)
        started.append(d)
        return d.start(ready=ready)

    yield start
    faults = []
    for d in reversed(started):
        try:
            d.stop()
        except AssertionError as error:
            faults.append(str(error))
        finally:
            d.remove()
    assert not faults, "\n".join(faults)


@pytest.fixture
def strandctl(build, db):
    """strandctl(*args, user=..., stdin=...) on the test's database."""
    def run(*args, **options):
        return private.strandctl(options.pop("db", db), *args, **options)
    return run


@pytest.fixture
def held(db, daemon):  # pylint: disable=unused-argument
    """Handlers that are held (service.Held): until held.release(), or the test's end,
    before its daemons are told to stop."""
    h = service.Held(db)
    yield h
    h.release()


@pytest.fixture
def wait_until():
    return private.wait_until
