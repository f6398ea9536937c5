"""A TCP proxy that breaks connections, answers in the server's place, or takes its time.

client ──→ proxy ──→ server        a fault sees each block of a request, and may raise Reset
       ←──       ←──               or Answer; `slow` sees each block of an answer, and may wait
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


class Answer(Exception):  # noqa: N818 (no error of ours)
    """Answer this request with an error, as a server that is overloaded or ill."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        body = b"<?xml version='1.0'?><Error><Code>Injected</Code><Message>no</Message></Error>"
        head = f"HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.answer = head.encode() + body


def is_request(block: bytes) -> bool:
    """Tell whether a block begins a request of HTTP."""
    return block.startswith((b"GET /", b"HEAD /", b"PUT /", b"POST /", b"DELETE /"))


def at_request(number: int, act: Callable[[], None]) -> Fault:
    """Do something when a request comes by, counted from 1."""
    seen, lock = [0], threading.Lock()

    def fault(block: bytes) -> None:
        with lock:
            seen[0] += is_request(block)
            if is_request(block) and seen[0] == number:
                act()

    return fault


def _allow(_: bytes) -> None:
    pass


@contextlib.contextmanager
def proxy(port: int, fault: Fault = _allow, slow: Fault = _allow) -> Iterator[int]:
    """Forward a new port to another, until the end; yield it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, port, fault, slow), daemon=True).start()
        yield int(listening.getsockname()[1])
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, port: int, fault: Fault, slow: Fault) -> None:
    with contextlib.suppress(OSError):
        while True:
            client = listening.accept()[0]
            server = socket.create_connection(("127.0.0.1", port))
            for source, sink, check in ((client, server, fault), (server, client, slow)):
                arguments = (source, sink, check)
                threading.Thread(target=_forward, args=arguments, daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket, check: Fault) -> None:
    try:
        while block := source.recv(1 << 12):
            check(block)
            sink.sendall(block)
    except Answer as answer:
        with contextlib.suppress(OSError):
            source.sendall(answer.answer)
            source.shutdown(socket.SHUT_WR)
            source.settimeout(10)  # the rest of the request
            while source.recv(1 << 16):
                pass
    except (OSError, Reset):
        # With no time to linger, closing sends a reset.
        with contextlib.suppress(OSError):
            source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
