"""The tests' own cluster: nothing of it outlives its process, whatever ends that."""

import os
import subprocess
import sys
import tempfile

import cluster as private

RUN = """
import cluster, sys, time
c = cluster.Cluster()
d = cluster.Daemon(c.database()).start()
print(d.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_run_leaves_nothing(build, wait_until):
    with tempfile.TemporaryDirectory() as top:      # a shorter path than pytest's own
        os.chmod(top, 0o755)
        env = {**os.environ, "TMPDIR": top, "PYTHONPATH": os.path.dirname(private.__file__)}
        with subprocess.Popen([sys.executable, "-c", RUN], env=env, stdout=subprocess.PIPE, text=True) as run:
            daemon = run.stdout.readline().strip()
            assert daemon and os.listdir(top)
            run.kill()
        wait_until(lambda: not os.listdir(top) and not os.path.exists(f"/proc/{daemon}"), 10,
                   what=lambda: f"nothing in {top}: {os.listdir(top)}")
