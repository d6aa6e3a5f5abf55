"""A pooler in transaction mode, as small as one can be: one server connection, which
each client has from its first message until the server says that no transaction is open."""

import os
import socket
import struct
import threading


def read(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def message(sock):
    """(type, whole message)"""
    head = read(sock, 5)
    return head[:1], head + read(sock, struct.unpack("!I", head[1:])[0] - 4)


class SharedPool:
    """Listens on a Unix socket in `directory`, port 5432, for databases of `cluster`."""

    def __init__(self, cluster, directory):
        self.cluster = cluster
        self.server, self.greeting = None, b""
        self.turn = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(directory, ".s.PGSQL.5432"))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def start(self, startup):
        """The server connection, with the first client's words; its answer is everybody's."""
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(os.path.join(self.cluster.dir, ".s.PGSQL.5432"))
        self.server.sendall(startup)
        kind = b""
        while kind != b"Z":
            kind, whole = message(self.server)
            self.greeting += whole

    def serve(self, client):
        held = False
        try:
            startup = read(client, 4)
            startup += read(client, struct.unpack("!I", startup)[0] - 4)
            with self.turn:
                if not self.server:
                    self.start(startup)
            client.sendall(self.greeting)
            while True:
                kind, whole = message(client)
                if kind == b"X":
                    return
                if not held:
                    self.turn.acquire()  # pylint: disable=consider-using-with
                    held = True
                self.server.sendall(whole)
                if kind not in b"QS":
                    continue
                answer = b""
                while answer != b"Z":
                    answer, whole = message(self.server)
                    client.sendall(whole)
                if whole[5:] == b"I":
                    held = False
                    self.turn.release()
        except (ConnectionError, OSError):
            pass
        finally:
            if held:
                self.turn.release()
            client.close()

    def close(self):
        self.listener.close()
        if self.server:
            self.server.close()
