"""
Measures the emulator from outside: how many submissions it accepts in a second, what one takes, how long it
works through a full queue with a model that does nothing, and how much memory it has then.

The emulator is one process and this is another. The model is a function in the emulator's process. Until all
requests are queued it holds the first ones back, so that every submission meets a growing queue and no work
goes on beside it; then it lets go. Each round is done twice: with bare connections that stay open and a fixed
signature, which shows the emulator, and with boto3, which shows what a program sees.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

# A program that is run by its path sees the modules beside it, and not the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.outside import NotAsExpected, NotReady, emulator, eventually, expect

BUCKET = "bench"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/sagemaker/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
MODEL = """
import pathlib
import time

GO = pathlib.Path({go!r})

def answer(body, headers):
    give_up_at = time.monotonic() + 600
    while body == b"hold" and not GO.exists() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return b"{{}}"
"""

Submit = Callable[[bytes], None]


class Figures(NamedTuple):
    """What one round gave."""

    accepted_per_second: float
    median: float
    p99: float
    slowest: float
    queued: int
    completion: float
    memory: float


class Bench:
    """
    One emulator and what is asked of it.

    :param url: Its address.
    :param pid: Its process.
    :param go: The file that lets the model go on.
    :param args: Of the command.
    """

    def __init__(self, url: str, pid: int, go: Path, args: argparse.Namespace) -> None:
        self._url, self._pid, self._go, self._args = url, pid, go, args
        session = boto3.Session(
            aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
        )
        config = Config(proxies={}, retries={"total_max_attempts": 1}, max_pool_connections=args.connections)
        self._client = lambda service: session.client(service, endpoint_url=url, config=config)
        self._client("s3").create_bucket(Bucket=BUCKET)

    def round(self, name: str, clients: Callable[[str], list[Submit]]) -> Figures:
        """Fill the queue of a new endpoint, let it run empty, delete the endpoint, and return the figures."""
        self._go.unlink(missing_ok=True)
        self._deploy(name)
        senders = clients(name)
        # One request for everything that can work at the same time, so that nothing else is begun.
        for _ in range(self._args.concurrency):
            senders[0](b"hold")
        eventually(lambda: self._counts(name).get("running") == self._args.concurrency, "a busy model")
        each = self._args.requests // len(senders)
        began = time.monotonic()
        latencies = sorted(_send(senders, each))
        took = time.monotonic() - began
        queued = self._counts(name).get("queued", 0)
        memory = self._memory()
        released = time.monotonic()
        self._go.touch()
        total = len(latencies) + self._args.concurrency
        eventually(lambda: self._counts(name).get("succeeded", 0) == total, f"{total} answers", within=1800)
        completion = time.monotonic() - released
        self._client("sagemaker").delete_endpoint(EndpointName=name)
        return Figures(
            accepted_per_second=len(latencies) / took,
            median=latencies[len(latencies) // 2] * 1000,
            p99=latencies[int(len(latencies) * 0.99)] * 1000,
            slowest=latencies[-1] * 1000,
            queued=queued,
            completion=completion,
            memory=memory,
        )

    def bare(self, name: str) -> list[Submit]:
        """Return one submit function for each of the connections, which stay open."""
        return [_bare_connection(self._url, name) for _ in range(self._args.connections)]

    def boto3(self, name: str) -> list[Submit]:
        """Return one submit function for each of the connections, all of one client."""
        client = self._client("sagemaker-runtime")

        def submit(body: bytes) -> None:
            answer = client.invoke_endpoint_async(EndpointName=name, Body=body)
            expect(answer["ResponseMetadata"]["HTTPStatusCode"] == 202, "status 202")

        return [submit] * self._args.connections

    def _deploy(self, name: str) -> None:
        control = self._client("sagemaker")
        control.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "noop"})
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
        output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failures"}
        control.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[variant],
            AsyncInferenceConfig={
                "OutputConfig": output,
                "ClientConfig": {"MaxConcurrentInvocationsPerInstance": self._args.concurrency},
            },
        )
        control.create_endpoint(EndpointName=name, EndpointConfigName=name)
        waiter = control.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300})

    def _counts(self, name: str) -> dict[str, int]:
        """Return how many requests of the endpoint are in each state."""
        # Asked seldom: the answer is made by the process that is measured.
        time.sleep(0.2)
        connection = _connect(self._url)
        connection.request("GET", "/_emulator/endpoints")
        endpoints = json.load(connection.getresponse())
        connection.close()
        found = next(found for found in endpoints if found["EndpointName"] == name)
        counts: dict[str, int] = found["Requests"]
        return counts

    def _memory(self) -> float:
        status = Path(f"/proc/{self._pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


def _connect(url: str) -> http.client.HTTPConnection:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _bare_connection(url: str, name: str) -> Submit:
    connection = _connect(url)
    path = f"/endpoints/{name}/async-invocations"
    headers = {"Authorization": SIGNATURE}

    def submit(body: bytes) -> None:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        expect(answer.status == 202, f"status 202, not {answer.status}")

    return submit


def _send(senders: list[Submit], each: int) -> Iterator[float]:
    """Submit so many requests with each sender, all at the same time, and return what each call took."""
    latencies: list[list[float]] = [[] for _ in senders]
    failures: list[BaseException] = []

    def run(submit: Submit, seconds: list[float]) -> None:
        try:
            for _ in range(each):
                began = time.perf_counter()
                submit(b"{}")
                seconds.append(time.perf_counter() - began)
        except Exception as failure:  # noqa: BLE001 - raised below, where somebody sees it
            failures.append(failure)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(senders, latencies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return (latency for seconds in latencies for latency in seconds)


def _print(figures: dict[str, Figures], requests: int) -> None:
    rows: list[tuple[str, Callable[[Figures], str]]] = [
        ("accepted per second", lambda f: f"{f.accepted_per_second:,.0f}"),
        ("one submission, median", lambda f: f"{f.median:.1f} ms"),
        ("one submission, 99 %", lambda f: f"{f.p99:.1f} ms"),
        ("one submission, slowest", lambda f: f"{f.slowest:.1f} ms"),
        ("queued at the same time", lambda f: f"{f.queued:,}"),
        (f"until {requests:,} are answered", lambda f: f"{f.completion:.1f} s"),
        ("answered per second", lambda f: f"{requests / f.completion:,.0f}"),
        ("memory with the full queue", lambda f: f"{f.memory:.0f} MB"),
    ]
    print(f"{'':<30}" + "".join(f"{name:>18}" for name in figures))
    for title, value in rows:
        print(f"{title:<30}" + "".join(f"{value(found):>18}" for found in figures.values()))


def main() -> int:
    """Run both rounds, print their figures, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Measures how many requests the emulator accepts in a second."
    )
    parser.add_argument("--requests", type=int, default=10_000, help="per round (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=4, help="of the client (default: %(default)s)")
    parser.add_argument(
        "--concurrency", type=int, default=4, help="of the model: calls at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--at-least", type=float, default=0, metavar="N", help="fail below N accepted per second (bare)"
    )
    args = parser.parse_args()
    args.requests -= args.requests % args.connections
    with tempfile.TemporaryDirectory(prefix="bench-emulator-") as path:
        folder = Path(path)
        go = folder / "go"
        (folder / "bench_model.py").write_text(MODEL.format(go=str(go)))
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"images": {"noop": "bench_model:answer"}}))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
        try:
            with emulator(folder, "--settings", str(settings)) as (url, pid):
                bench = Bench(url, pid, go, args)
                print(f"{args.requests:,} requests over {args.connections} connections", flush=True)
                figures = {"bare connections": bench.round("bare", bench.bare)}
                figures["boto3"] = bench.round("boto3", bench.boto3)
                _print(figures, args.requests)
        except (NotReady, NotAsExpected) as reason:
            print(f"The benchmark did not come to its end: {reason}", file=sys.stderr)
            return 2
    return int(figures["bare connections"].accepted_per_second < args.at_least)


if __name__ == "__main__":
    sys.exit(main())
