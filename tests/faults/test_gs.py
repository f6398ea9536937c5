"""A server that speaks Google's protocol: the same bytes, resumed, begun anew."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import ENVIRONMENT
from proxy import at_request, proxy
from runs import SKIPPING, run

from reasonpack.errors import UsageError
from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files
from reasonpack.storage.place import file_names, remove, stamp
from reasonpack.storage.publish import publish
from reasonpack.storage.read import read_bytes

pytestmark = pytest.mark.faults
pytest.importorskip("gcp_storage_emulator")

SERVER = """
import os, sys
from gcp_storage_emulator.server import create_server
running = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
running.start()
print(running._api._httpd.server_port, flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        assert running.stdout
        yield int(running.stdout.readline())
        running.communicate()


def url(path: str, port: int) -> str:
    query = f"endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=5"
    return f"gs://anonymous@bucket/{path}?{query}"


def shards(out: str, port: int) -> dict[str, bytes | None]:
    names = file_names(url(f"{out}/data", port))
    return {f"data/{name}": read_bytes(url(f"{out}/data/{name}", port)) for name in names}


def test_input_and_output_on_gs(source: Path, port: int, undisturbed: dict[str, bytes]) -> None:
    expected = {name: data for name, data in undisturbed.items() if name.startswith("data/")}
    with publish(url("in/chats.jsonl", port)) as file:
        file.write(source.read_bytes())
    inputs, out = [url("in", port)], url("out", port)
    manifest = pack_files(inputs, out, SKIPPING, run=run())
    assert manifest.inputs[0].path == "gs://bucket/in/chats.jsonl"
    assert shards("out", port) == expected
    packed: list[object] = []
    again = pack_files(inputs, out, SKIPPING, run=run(watch=Watch(on_receipt=packed.append)))
    assert (again, packed) == (manifest, [])
    with publish(url("out/data/notes.txt", port)) as file:
        file.write(b"mine")
    with pytest.raises(UsageError, match=r"^gs://bucket/out/data/notes\.txt: reasonpack did not"):
        pack_files(inputs, out, SKIPPING, overwrite=True, run=run())
    remove(url("out/data/notes.txt", port))
    with publish(url("out/data/train-00000-of-00099.parquet", port)) as file:
        file.write(b"of another run")
    assert pack_files(inputs, out, SKIPPING, overwrite=True, run=run()) == manifest
    assert shards("out", port) == expected


PUBLISH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from reasonpack.storage.publish import publish
try:
    with publish(sys.argv[1]) as file:
        file.write(b"x" * 3_000_000)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_client_that_is_stopped_in_an_upload(
    number: int, sent: signal.Signals, port: int
) -> None:
    key = f"stopped/{sent.name}{number}"
    clients: list[subprocess.Popen[bytes]] = []
    with proxy(port, at_request(number, lambda: clients[0].send_signal(sent))) as counted:
        command = [sys.executable, "-c", PUBLISH, url(key, counted)]
        with subprocess.Popen(command, env=ENVIRONMENT) as stopped:
            clients.append(stopped)
    there = stamp(url(key, port))
    assert there is None or there.bytes == 3_000_000
