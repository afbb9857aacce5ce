"""Joins stdin and stdout to a TCP port of the container that it runs in: python3 forward.py PORT.

A plus sign on stdout says that the connection is there; all after it is the server's. It ends with either side.
"""

import contextlib
import os
import socket
import sys
import threading

CHUNK = 1 << 16
WITHIN_SECONDS = 5


def send(connection: socket.socket) -> None:
    """Send what comes on stdin, to its end."""
    try:
        while True:
            data = os.read(0, CHUNK)
            if not data:
                break
            connection.sendall(data)
    finally:
        os._exit(0)


def receive(connection: socket.socket) -> None:
    """Write what the server sends, to its end."""
    with open(1, "wb", closefd=False) as out:
        while True:
            data = connection.recv(CHUNK)
            if not data:
                return
            out.write(data)
            out.flush()


def main() -> None:
    """Connect, and forward."""
    try:
        connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), WITHIN_SECONDS)
    except OSError as err:
        sys.exit(str(err))
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    os.write(1, b"+")
    threading.Thread(target=send, args=(connection,), daemon=True).start()
    with contextlib.suppress(OSError):  # the server, or who reads stdout, is gone
        receive(connection)
    os._exit(0)


main()
