"""A TCP proxy that breaks connections where it is told to.

client ──→ proxy ──→ server        a fault sees each block that is sent, and may raise Reset
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Fault = Callable[[bytes], None]


class Reset(Exception):  # noqa: N818 (no error, but a wish)
    """Break this connection, as a network does."""


@contextlib.contextmanager
def proxy(port: int, fault: Fault) -> Iterator[int]:
    """Forward a new port to another, until the end; yield it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, port, fault), daemon=True).start()
        yield int(listening.getsockname()[1])
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, port: int, fault: Fault) -> None:
    with contextlib.suppress(OSError):
        while True:
            client = listening.accept()[0]
            server = socket.create_connection(("127.0.0.1", port))
            for source, sink, check in ((client, server, fault), (server, client, _allow)):
                arguments = (source, sink, check)
                threading.Thread(target=_forward, args=arguments, daemon=True).start()


def _allow(_: bytes) -> None:
    pass


def _forward(source: socket.socket, sink: socket.socket, check: Fault) -> None:
    try:
        while block := source.recv(1 << 12):
            check(block)
            sink.sendall(block)
    except (OSError, Reset):
        # With no time to linger, closing sends a reset.
        with contextlib.suppress(OSError):
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
