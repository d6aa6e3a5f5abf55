"""libstrand's client when the connection is lost in the COMMIT: a proxy cuts it there."""

import os
import select
import socket
import threading

import pytest

import libstrand_support as lib


class Proxy:
    """Between the client and the server.  `cut`: what happens to the next COMMIT:
    "answer" (the server gets it, its answer is lost), "request" (it never arrives),
    "for ever" (as answer, and nobody is let in any more), None."""

    def __init__(self, directory, server):
        self.server, self.cut, self.shut = server, None, False
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(os.path.join(directory, ".s.PGSQL.5432"))
        self.socket.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            if self.shut:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = socket.socket(socket.AF_UNIX)
        server.connect(self.server)
        with client, server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    cut = self.cut if source is client and b"COMMIT\0" in data else None
                    if cut:
                        self.cut, self.shut = None, cut == "for ever"
                    if cut != "request":
                        (server if source is client else client).sendall(data)
                    if cut:
                        if cut != "request":
                            server.recv(65536)      # it has been done
                        return

    def close(self):
        self.socket.close()


@pytest.fixture(name="proxy")
def fixture_proxy(db, tmp_path):
    directory = tmp_path / "p"
    directory.mkdir()
    proxy = Proxy(str(directory), os.path.join(db.cluster.dir, ".s.PGSQL.5432"))
    proxy.dsn = db.dsn(host=str(directory))
    yield proxy
    proxy.close()


@pytest.fixture(name="client")
def fixture_client(build, proxy):
    c = lib.Client(build, proxy.dsn)
    assert c.opened.code == "STRAND_OK", c.opened
    yield c
    c.close()


def rows(db):
    return db.execute("SELECT id FROM ad_strands ORDER BY 1")


@pytest.mark.sanitize
def test_the_answer_is_lost(client, proxy, db):
    """It is committed: the library asks, and says 0.  It is not written again."""
    proxy.cut = "answer"
    done = client.many([{"symbol": "a"}, {"symbol": "b"}], lib.PLAN)
    assert done.code == "STRAND_OK" and proxy.cut is None, done
    assert sorted(done.lines) == [strand for strand, in rows(db)] and len(done.lines) == 2


def test_the_request_is_lost(client, proxy, db):
    """It is not committed: on a connection that had looked good it is written anew, once."""
    proxy.cut = "request"
    done = client.write({"symbol": "a"})
    assert done.code == "STRAND_OK" and proxy.cut is None, done
    assert rows(db) == [(done.lines[0],)]


def test_nobody_can_be_asked(client, proxy, db):
    """Then it says that it does not know, within its time; and goes on."""
    client.call("timeout", 1500)
    proxy.cut = "for ever"
    doubt = client.write({"id": "AD_1"})
    assert doubt.code == "STRAND_EDOUBT" and "AD_1" in doubt.error and "not known" in doubt.error, doubt
    assert rows(db) == [("AD_1",)]
    proxy.shut = False
    again = client.write({"id": "AD_1"})
    assert (again.code, again.sqlstate) == ("STRAND_ESQL", "23505"), again
    assert client.write({"id": "AD_2"}).code == "STRAND_OK"
    assert rows(db) == [("AD_1",), ("AD_2",)]
