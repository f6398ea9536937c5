"""An S3 server behind a bad network: nothing half-written looks whole, and the run goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import ENVIRONMENT
from proxy import Answer, Fault, Reset, at_request, is_request, proxy
from runs import FIXTURES, SKIPPING, chats, run, tree

from reasonpack.datasets.manifest import read_manifest
from reasonpack.errors import StorageError, UsageError
from reasonpack.records import plan
from reasonpack.run.engine import Watch
from reasonpack.run.pack import merge_parts, pack_files, pack_part
from reasonpack.storage.publish import publish
from tests.changed import replace

pytestmark = pytest.mark.faults
boto3: Any = pytest.importorskip("boto3")
server: Any = pytest.importorskip("moto.server")

BUCKET = "bucket"
KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        running = server.ThreadedMotoServer(port=0, verbose=False)
        running.start()
        yield running.get_host_and_port()[1]
        running.stop()


@pytest.fixture(scope="module")
def client(port: int, source: Path) -> Any:
    found = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    found.create_bucket(Bucket=BUCKET)
    found.upload_file(str(source), BUCKET, "in/chats.jsonl")
    return found


def url(path: str, port: int) -> str:
    query = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    return f"s3://{BUCKET}/{path}?{query}"


def shards(client: Any, out: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{out}/data/").get("Contents", [])
    return {
        item["Key"].removeprefix(f"{out}/"): client.get_object(Bucket=BUCKET, Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
    }


def expected_shards(undisturbed: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in undisturbed.items() if name.startswith("data/")}


def test_input_and_output_on_s3(client: Any, port: int, undisturbed: dict[str, bytes]) -> None:
    inputs, out = [url("in", port)], url("whole", port)
    manifest = pack_files(inputs, out, SKIPPING, run=run(num_proc=2))
    assert shards(client, "whole") == expected_shards(undisturbed)
    packed: list[object] = []
    again = pack_files(inputs, out, SKIPPING, run=run(watch=Watch(on_receipt=packed.append)))
    assert (again, packed) == (manifest, [])
    assert manifest.inputs[0].path == f"s3://{BUCKET}/in/chats.jsonl"
    for index in (0, 1):
        pack_part(inputs, url("parts", port), SKIPPING, index=index, count=2, run=run())
    assert merge_parts(url("parts", port)).shards == manifest.shards
    overwritten = pack_files(inputs, out, SKIPPING, overwrite=True, run=run())
    assert overwritten == manifest


def test_only_an_object_of_another_version_is_read_again(
    client: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size, and perhaps its time, are the same."""
    read: list[str] = []
    planned = plan._planned

    def reading(place: Any, name: str, *more: Any, **named: Any) -> Any:
        read.append(name.rpartition("/")[2])
        return planned(place, name, *more, **named)

    monkeypatch.setattr(plan, "_planned", reading)
    content = chats(5, bad=False)
    for name in ("a.jsonl", "b.jsonl"):
        client.put_object(Bucket=BUCKET, Key=f"versions/{name}", Body=content)
    inputs, out = [url("versions", port)], url("of-versions", port)
    for _ in range(2):
        pack_files(inputs, out, SKIPPING, run=run())
        assert read == ["a.jsonl", "b.jsonl"]
    changed = content.replace(b"chat 1", b"chat X")
    client.put_object(Bucket=BUCKET, Key="versions/b.jsonl", Body=changed)
    with pytest.raises(UsageError, match=r"b\.jsonl has changed"):
        pack_files(inputs, out, SKIPPING, run=run())
    assert read == ["a.jsonl", "b.jsonl", "b.jsonl"]


def test_rows_are_shuffled_on_s3_as_here(client: Any, port: int, tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_bytes(chats(16))
    options = replace(SKIPPING, shuffle=True, split=("validation=0.3",))
    for out in (url("shuffled", port), tmp_path / "out"):
        pack_files([str(tmp_path / "chats.jsonl")], out, options, run=run())
    local = tree(tmp_path / "out")
    assert shards(client, "shuffled") == {name: local[name] for name in local if "data/" in name}
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix="shuffled/")["Contents"]
    assert not [each["Key"] for each in listed if "unshuffled" in each["Key"]]


def test_a_tokenizer_on_s3(client: Any, port: int, source: Path, tmp_path: Path) -> None:
    for path in (FIXTURES / "tokenizer").iterdir():
        client.upload_file(str(path), BUCKET, f"tokenizer/{path.name}")
    options = SKIPPING.__class__(tokenizer=url("tokenizer", port), on_error="skip")
    pack_files([str(source)], tmp_path / "out", options, run=run())
    assert read_manifest(tmp_path / "out").options.tokenizer == f"s3://{BUCKET}/tokenizer"


def test_an_object_that_was_altered_is_found(
    client: Any, port: int, undisturbed: dict[str, bytes]
) -> None:
    inputs, out = [url("in", port)], url("altered", port)
    pack_files(inputs, out, SKIPPING, run=run())
    for at, change in enumerate((lambda data: data[:-9], lambda data: b"\0" + data[1:])):
        key = f"altered/{sorted(expected_shards(undisturbed))[at]}"
        data = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        client.put_object(Bucket=BUCKET, Key=key, Body=change(data))
    notes: list[str] = []
    pack_files(inputs, out, SKIPPING, run=run(watch=Watch(on_note=notes.append)))
    assert len(notes) == 2
    assert shards(client, "altered") == expected_shards(undisturbed)


def resets(seed: int) -> Fault:
    """Break every fifth block or so."""
    draw, lock = random.Random(seed), threading.Lock()

    def fault(_: bytes) -> None:
        with lock:
            if draw.random() < 0.2:
                raise Reset

    return fault


def errors(status: int, seed: int, share: float = 0.2) -> Fault:
    """Answer a share of the requests with an error."""
    draw, lock = random.Random(seed), threading.Lock()

    def fault(block: bytes) -> None:
        with lock:
            if is_request(block) and draw.random() < share:
                raise Answer(status)

    return fault


def check_whole(client: Any, out: str, undisturbed: dict[str, bytes]) -> None:
    """See that whatever has a name is whole."""
    assert shards(client, out).items() <= expected_shards(undisturbed).items()
    for name in ("plan.json", "manifest.json", "receipts/00000.json"):
        if client.list_objects_v2(Bucket=BUCKET, Prefix=f"{out}/{name}")["KeyCount"]:
            json.loads(client.get_object(Bucket=BUCKET, Key=f"{out}/{name}")["Body"].read())


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *[pytest.param(f"reset{n}", resets(n), marks=pytest.mark.slow) for n in range(3)],
        *[(f"errors{status}", errors(status, status)) for status in (500, 503)],
        *[(f"more{status}", errors(status, status, 0.6)) for status in (500, 503)],
    ],
)
def test_a_server_that_fails_now_and_then(
    name: str, fault: Fault, client: Any, port: int, undisturbed: dict[str, bytes]
) -> None:
    with proxy(port, fault) as bad:
        for _ in range(3):
            try:
                pack_files([url("in", port)], url(name, bad), SKIPPING, run=run())
            except StorageError as error:
                assert "Fix: " in str(error)  # noqa: PT017 (it may get through)
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert shards(client, name) == expected_shards(undisturbed)
            check_whole(client, name, undisturbed)
    pack_files([url("in", port)], url(name, port), SKIPPING, run=run())
    assert shards(client, name) == expected_shards(undisturbed)


@pytest.mark.parametrize("status", [500, pytest.param(503, marks=pytest.mark.slow)])
def test_an_input_that_the_server_does_not_give(
    status: int, client: Any, port: int, tmp_path: Path
) -> None:
    """One error, no shorter input."""
    with proxy(port, errors(status, 0, 1.0)) as bad, pytest.raises(StorageError) as caught:
        pack_files([url("in", bad)], tmp_path / "out", SKIPPING, run=run())
    assert str(caught.value).startswith(f"s3://{BUCKET}/in: ")
    assert "Fix: " in str(caught.value)


@pytest.mark.slow
def test_a_slow_server(client: Any, port: int, undisturbed: dict[str, bytes]) -> None:
    """Slow enough for the client to give up two requests and repeat them."""
    never, seen, lock = threading.Event(), [0], threading.Lock()

    def slow(_: bytes) -> None:
        with lock:
            seen[0] += 1
            stalls = seen[0] in {30, 60}
        never.wait(4 if stalls else 0.02)

    with proxy(port, slow=slow) as bad:
        pack_files([url("in", bad)], url("slow", bad), SKIPPING, run=run(num_proc=2))
    assert seen[0] > 60
    assert shards(client, "slow") == expected_shards(undisturbed)


SCRIPT = """
import sys, runs
from reasonpack.run.pack import pack_files
pack_files([sys.argv[1]], sys.argv[2], runs.SKIPPING, run=runs.run())
"""


@pytest.mark.parametrize(
    "block", [60, 120, *[pytest.param(n, marks=pytest.mark.slow) for n in (20, 90, 150)]]
)
def test_a_client_that_is_killed_in_an_upload(
    block: int, client: Any, port: int, source: Path, undisturbed: dict[str, bytes]
) -> None:
    out, seen, lock = f"killed{block}", [0], threading.Lock()
    pids: list[int] = []

    def fault(_: bytes) -> None:
        with lock:
            seen[0] += 1
            if seen[0] == block:
                os.kill(pids[0], signal.SIGKILL)

    with proxy(port, fault) as counted:
        command = [sys.executable, "-c", SCRIPT, str(source), url(out, counted)]
        with subprocess.Popen(command, env={**ENVIRONMENT, **KEYS}) as killed:
            pids.append(killed.pid)
        assert killed.returncode == -signal.SIGKILL
    check_whole(client, out, undisturbed)
    # The lock of a dead process on this machine is taken over.
    pack_files([str(source)], url(out, port), SKIPPING, run=run())
    assert shards(client, out) == expected_shards(undisturbed)


PUBLISH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from reasonpack.storage.publish import publish
try:
    with publish(sys.argv[1]) as file:
        file.write(b"x" * int(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "sent"),
    [
        *((number, signal.SIGKILL) for number in range(1, 7)),
        *((number, signal.SIGINT) for number in (1, 3, 5)),
    ],
)
def test_a_client_that_is_stopped_in_an_upload_of_many_parts(
    number: int, sent: signal.Signals, client: Any, port: int
) -> None:
    """Each request once: begin, three parts, complete, look. The object is whole or not there."""
    size, key = 25_000_000, f"parts/{sent.name}{number}"
    clients: list[subprocess.Popen[bytes]] = []
    with proxy(port, at_request(number, lambda: clients[0].send_signal(sent))) as counted:
        command = [sys.executable, "-c", PUBLISH, url(key, counted), str(size)]
        with subprocess.Popen(command, env={**ENVIRONMENT, **KEYS}) as stopped:
            clients.append(stopped)
    assert stopped.returncode in {-sent, 130}
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
    assert [item["Size"] for item in found] in ([], [size])


@pytest.mark.parametrize(
    "fault", [pytest.param(Reset, marks=pytest.mark.slow), lambda: Answer(500)]
)
@pytest.mark.parametrize("part", [b"?uploads", b"partNumber=2", b"partNumber=3", b"?uploadId"])
def test_a_request_of_an_upload_that_never_succeeds(
    part: bytes, fault: Callable[[], Exception], client: Any, port: int
) -> None:
    def failing(block: bytes) -> None:
        if is_request(block) and part in block.split(b"\r\n")[0]:
            raise fault()

    key = f"never/{part.decode()[1:]}-{fault().__class__.__name__}"
    with proxy(port, failing) as bad, pytest.raises(StorageError, match="expected to write it"):
        write(url(key, bad), 25_000_000)
    assert not client.list_objects_v2(Bucket=BUCKET, Prefix=key)["KeyCount"]
    write(url(key, port), 25_000_000)
    assert client.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == 25_000_000


def write(place: str, size: int) -> None:
    with publish(place) as file:
        file.write(b"x" * size)
