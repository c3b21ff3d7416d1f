"""A TCP proxy before a server, for tests of what becomes of connections."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from urllib.parse import urlsplit

# A connection that is closed with this is reset.
_AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """
    Hands bytes on, as long as it is asked to.

    :param url: The server's address.
    """

    def __init__(self, url):
        self._server = (urlsplit(url).hostname, urlsplit(url).port)
        self._open = set()
        self._lock = threading.Lock()
        self._listening = None
        self._port = 0
        # The share of connections that are reset once they have been written to.
        self.drops = 0.0
        self.dropped = 0
        self._draw = random.Random(7)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def start(self):
        """Take connections, always at the same port."""
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listening.getsockname()[1]
        threading.Thread(target=self._take, args=[self._listening], daemon=True).start()

    def stop(self):
        """Refuse connections, and reset those that are open."""
        with self._lock:
            listening, self._listening = self._listening, None
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        self.reset()

    def reset(self):
        """Reset the connections that are open."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            _reset(connection)

    def _take(self, listening):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                with self._lock:
                    # One may be taken in the moment when nothing is to be taken any more.
                    taken = self._listening is listening
                    self._open |= {client} if taken else set()
                if not taken:
                    _reset(client)
                    return
                drops = self._draw.random() < self.drops
                threading.Thread(target=self._serve, args=[client, drops], daemon=True).start()

    def _serve(self, client, drops):
        with contextlib.suppress(OSError):
            if drops:
                client.recv(65_536)
                self.dropped += 1
                _reset(client)
                return
            server = socket.create_connection(self._server)
            with self._lock:
                still_open = client in self._open
                self._open |= {server} if still_open else set()
            if not still_open:
                _reset(server)
                return
            back = threading.Thread(target=_hand_on, args=[server, client], daemon=True)
            back.start()
            _hand_on(client, server)
            back.join()
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()


def _hand_on(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _reset(connection):
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        connection.shutdown(socket.SHUT_RD)
    connection.close()
