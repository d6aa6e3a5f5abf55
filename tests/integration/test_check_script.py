"""scripts/check.sh ends everything that it has started when it is told to end, and
the scripts refuse directories that no build can be in.  Long, because it builds."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import cluster as private

SCRIPTS = private.REPO / 'scripts'


@pytest.fixture(scope='module')
def places():
    """(temporary directory of what runs, build root), both in one scratch directory."""
    top = tempfile.mkdtemp(prefix='check-')
    os.chmod(top, 0o755)
    for name in 't', 'build':
        os.mkdir(os.path.join(top, name), 0o755)
    yield os.path.join(top, 't'), os.path.join(top, 'build')
    shutil.rmtree(top, ignore_errors=True)


def processes_of(top):
    """Processes in whose arguments or environment the directory stands."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as line, open(f'/proc/{pid}/environ', 'rb') as environment:
                if top.encode() in line.read() + environment.read():
                    found.append(pid)
        except OSError:
            pass
    return found


def has_clusters(scratch):
    return any(os.path.exists(os.path.join(scratch, name, 'data', 'postmaster.pid')) for name in os.listdir(scratch))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize('lane', ['gcc', 'integration'])
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(places, lane, number, wait_until):
    scratch, build_root = places
    environment = {**os.environ, 'TMPDIR': scratch, 'STRANDD_BUILD_ROOT': build_root}
    with open(os.path.join(build_root, 'log'), 'w+', encoding='utf-8') as log:
        check = subprocess.Popen([SCRIPTS / 'check.sh', lane], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                 stderr=log, start_new_session=True)
        try:
            if lane == 'gcc':
                wait_until(lambda: os.path.exists(os.path.join(build_root, 'gcc', 'configured')), 120)
            else:
                wait_until(lambda: has_clusters(scratch), 300)
            time.sleep(1)
            begun = time.monotonic()
            check.send_signal(number)
            check.wait(60)
            log.seek(0)
            assert check.returncode == 128 + number, log.read()
            # a janitor of the tests' may be about to end
            wait_until(lambda: processes_of(scratch) == [] and os.listdir(scratch) == [], 5,
                       what=lambda: f'{processes_of(scratch)} {os.listdir(scratch)} in {scratch}')
            print(f'ended within {time.monotonic() - begun:.1f} s')
        finally:
            check.kill()
            check.wait()


@pytest.mark.parametrize('script, variable', [('demo.sh', 'TMPDIR'), ('demo.sh', 'STRANDD_BUILD_ROOT'),
                                              ('check.sh', 'STRANDD_BUILD_ROOT')])
@pytest.mark.parametrize('name', ['a b', "a'b", 'a|b', 'a&b', 'a$b'])
def test_a_directory_that_no_build_can_be_in(tmp_path, script, variable, name):
    place = tmp_path / name
    place.mkdir()
    for path in str(place), name:
        done = subprocess.run([SCRIPTS / script], env={**os.environ, 'TMPDIR': '/tmp', variable: path}, cwd=tmp_path,
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert f'set {variable} to ' in done.stderr and name in done.stderr
    assert os.listdir(place) == []
