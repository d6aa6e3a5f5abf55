"""scripts/demo.sh: what it shows, and that it leaves nothing behind, whenever
it is interrupted.  Long, because it builds everything once."""
import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

import cluster as private

pytestmark = pytest.mark.long
DEMO = private.REPO / 'scripts' / 'demo.sh'


@pytest.fixture(scope='module')
def places():
    """(scratch, environment): demos run in scratch, and share one build."""
    top = tempfile.mkdtemp(prefix='demo-')
    os.chmod(top, 0o755)
    scratch = os.path.join(top, 's')
    os.mkdir(scratch, 0o755)
    yield scratch, {**os.environ, 'TMPDIR': scratch, 'STRANDD_BUILD_ROOT': os.path.join(top, 'build')}
    shutil.rmtree(top, ignore_errors=True)


def assert_nothing_left(scratch):
    assert os.listdir(scratch) == []
    processes = subprocess.run(['ps', '-eo', 'pid,args'], capture_output=True, text=True, check=True).stdout
    assert [line for line in processes.splitlines() if scratch in line] == []


def test_demo_shows_the_account(places):
    scratch, environment = places
    done = subprocess.run([DEMO], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ''
    assert '\r' not in done.stdout and '\033' not in done.stdout
    for text in ('619 plans: 549 approved, 70 refused', ': 345,731.35', 'not done: 0',
                 'dm:execution_feedback', '└─TR_'):
        assert text in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if scratch not in line) <= 80
    assert_nothing_left(scratch)


def on_terminal(environment, until, then):
    """Runs the demo on a terminal; once it has written `until`, calls then(fd, pid).
    Returns (exit status, what it wrote)."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(DEMO, [str(DEMO)], {**environment, 'TERM': 'xterm'})
    written, done, end = b'', False, time.monotonic() + 900
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.02)[0]:
            try:
                written += os.read(fd, 65536)
            except OSError:     # the other side is closed
                break
        if not done and until in written:
            then(fd, pid)
            done = True
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


@pytest.mark.parametrize('delay', [0, 0.4])
@pytest.mark.parametrize('until', ['packages', 'build  ', 'PostgreSQL', 'database', 'strandd  ', 'replay',
                                   'rush', 'Strands by route'])
def test_ctrl_c_leaves_nothing(places, until, delay):
    scratch, environment = places

    def interrupt(fd, _):
        time.sleep(delay)
        os.write(fd, b'\x03')

    status, written = on_terminal(environment, until.encode(), interrupt)
    # after its last line it may be faster than the key
    assert status == 130 or (until.startswith('Strands') and status == 0), written
    assert_nothing_left(scratch)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('until', ['build  ', 'database', 'replay'])
def test_a_signal_leaves_nothing(places, until, number):
    scratch, environment = places
    status, written = on_terminal(environment, until.encode(), lambda _, pid: os.kill(pid, number))
    assert status == 128 + number, written
    assert_nothing_left(scratch)


def test_kept_until_it_is_stopped(places):
    scratch, environment = places
    done = subprocess.run([DEMO, '--keep'], env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    place, = os.listdir(scratch)
    place = os.path.join(scratch, place)
    try:
        around = done.stdout[done.stdout.index('Look around'):]
        commands = [line.strip() for line in around.splitlines()
                    if line.strip().startswith(('psql', 'curl')) or '/strandctl -d' in line]
        assert len(commands) == 3
        said = [subprocess.run(command, shell=True, input='SELECT equity FROM trading.result;', text=True,
                               capture_output=True, check=True, timeout=60).stdout for command in commands]
        assert '345731.35' in said[0] and 'dm:evaluate_plan' in said[1]
        assert 'strandd_settled_total' in said[2]
    finally:
        subprocess.run([os.path.join(place, 'stop')], check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert_nothing_left(scratch)
