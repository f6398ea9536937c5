"""An S3 server behind a bad network: nothing half-written looks whole, and the run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import ENVIRONMENT
from proxy import Fault, Reset, proxy
from runs import FIXTURES, SKIPPING, run

from reasonpack.errors import ReasonpackError
from reasonpack.run.pack import Watch, merge_parts, pack_files, pack_part, read_manifest

pytestmark = pytest.mark.slow
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


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_are_reset(
    seed: int, client: Any, port: int, undisturbed: dict[str, bytes]
) -> None:
    out = f"reset{seed}"
    with proxy(port, resets(seed)) as bad:
        for _ in range(3):
            try:
                pack_files([url("in", port)], url(out, bad), SKIPPING, run=run())
            except ReasonpackError as error:
                assert "Fix: " in str(error)  # noqa: PT017 (it may get through)
    if client.list_objects_v2(Bucket=BUCKET, Prefix=f"{out}/manifest.json")["KeyCount"]:
        assert shards(client, out) == expected_shards(undisturbed)
    client.delete_object(Bucket=BUCKET, Key=f"{out}/.lock")
    pack_files([url("in", port)], url(out, port), SKIPPING, run=run())
    assert shards(client, out) == expected_shards(undisturbed)


SCRIPT = """
import sys, runs
from reasonpack.run.pack import pack_files
pack_files([sys.argv[1]], sys.argv[2], runs.SKIPPING, run=runs.run())
"""


@pytest.mark.parametrize("block", [20, 60, 90, 120, 150])
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
    # The lock of a dead process on this machine is taken over.
    pack_files([str(source)], url(out, port), SKIPPING, run=run())
    assert shards(client, out) == expected_shards(undisturbed)
