"""
A pretended S3 and SageMaker in one process, made to be asked a lot.

It knows HEAD, GET, PUT and LIST of objects, with addresses that have the bucket in their path, and
DescribeEndpoint of an endpoint that is in service. Objects are there from a moment on that was given before.
It counts what it is asked. ``python -m benchmarks.fake_aws`` prints its port, and ends with its input.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from benchmarks.fake_http import Answer, Asked, HttpProtocol
from benchmarks.fake_store import Bucket, Coverage, Page
from benchmarks.telling import say

CONTROL = "/_control/"
_DATE = "%a, %d %b %Y %H:%M:%S GMT"
_LONGEST_LIFE = 4 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    What is not ideal about the service.

    :param latency: How long an answer takes on average, in seconds; each takes half of it to one and a
        half. Default 0.
    :param most_per_second: Requests in a second above which S3 answers 503; 0: any number. Default 0.
    :param refused: The share of S3's answers that are 403. Default 0.
    """

    latency: float = 0.0
    most_per_second: float = 0.0
    refused: float = 0.0


class FakeAws:
    """What is stored, what goes wrong, and what was asked."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.coverage = Coverage()
        self.counts: Counter[str] = Counter()
        self.faults = Faults()
        self._draw = random.Random(7)
        self._allowed, self._allowed_at = 0.0, time.monotonic()

    def answer(self, asked: Asked) -> Answer:
        """Answer one request."""
        if asked.path.startswith(CONTROL):
            return self._controlled(asked)
        after = self.faults.latency * (0.5 + self._draw.random())
        target = asked.headers.get("x-amz-target", "")
        if target:
            return self._of_sagemaker(target.rpartition(".")[2], asked, after)
        bucket, _, key = asked.path.lstrip("/").partition("/")
        kind = asked.method if key else f"{asked.method} bucket"
        kind = "LIST" if kind == "GET bucket" else kind
        self.counts[kind] += 1
        if fault := self._fault():
            return _s3_error(*fault, after)
        return self._of_s3(kind, asked, bucket, unquote(key), after)

    def _fault(self) -> tuple[int, str] | None:
        if most := self.faults.most_per_second:
            now = time.monotonic()
            self._allowed = min(most, self._allowed + (now - self._allowed_at) * most)
            self._allowed_at = now
            if self._allowed < 1:
                return 503, "SlowDown"
            self._allowed -= 1
        return (403, "AccessDenied") if self._draw.random() < self.faults.refused else None

    def _of_s3(self, kind: str, asked: Asked, bucket: str, key: str, after: float) -> Answer:
        if kind == "LIST":
            return self._list(bucket, asked.query, after)
        if kind in ("HEAD", "GET"):
            return self._read(kind, bucket, key, after)
        if kind == "PUT":
            stored = self._bucket(bucket).put(key, asked.body, time.monotonic())
            return Answer(200, headers={"ETag": f'"{stored.etag}"'}, after=after)
        return _s3_error(501, "NotImplemented", after)

    def _bucket(self, name: str) -> Bucket:
        return self.buckets.setdefault(name, Bucket())

    def _read(self, kind: str, bucket: str, key: str, after: float) -> Answer:
        if kind == "HEAD":
            self.coverage.head(bucket, key)
        stored = self._bucket(bucket).get(key)
        if stored is None:
            return _s3_error(404, "NoSuchKey", after)
        changed = time.strftime(_DATE, time.gmtime(stored.changed_at))
        headers = {"ETag": f'"{stored.etag}"', "Last-Modified": changed, "Accept-Ranges": "bytes"}
        return Answer(200, stored.body, "application/octet-stream", headers, after)

    def _list(self, bucket: str, query: str, after: float) -> Answer:
        given = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        prefix, start = given.get("prefix", ""), given.get("start-after", "")
        if token := given.get("continuation-token"):
            start = base64.urlsafe_b64decode(token).decode()
        most = min(1000, int(given.get("max-keys", "1000")))
        page = self._bucket(bucket).page(prefix, start, given.get("delimiter", ""), most)
        self.coverage.listed(bucket, prefix, start, page.last)
        encoded = given.get("encoding-type") == "url"
        return Answer(200, _listing(bucket, prefix, most, page, encoded=encoded).encode(), after=after)

    def _of_sagemaker(self, operation: str, asked: Asked, after: float) -> Answer:
        self.counts[operation] += 1
        if operation != "DescribeEndpoint":
            body = {"__type": "ValidationException", "message": f"{operation} is not pretended"}
            return Answer(400, json.dumps(body).encode(), "application/x-amz-json-1.1", after=after)
        described = _described(json.loads(asked.body)["EndpointName"])
        return Answer(200, json.dumps(described).encode(), "application/x-amz-json-1.1", after=after)

    def _controlled(self, asked: Asked) -> Answer:
        controls: Mapping[str, Callable[..., Any]] = {
            "expect": self._expect,
            "faults": self._set_faults,
            "figures": self._figures,
            "history": self._add_history,
            "lists-count": self._let_lists_count,
            "objects": self._add_objects,
        }
        said = controls[asked.path.removeprefix(CONTROL)](**json.loads(asked.body or b"{}"))
        return Answer(200, json.dumps(said).encode(), "application/json")

    def _expect(self, bucket: str, keys: list[str]) -> None:
        self.coverage.expect(bucket, keys)

    def _let_lists_count(self, at: float) -> None:
        self.coverage.lists_count_from = at

    def _set_faults(self, **faults: float) -> None:
        self.faults = Faults(**faults)

    def _add_history(self, bucket: str, folder: str, count: int, seed: int) -> None:
        self._bucket(bucket).add_history(folder, count, seed=seed)

    def _add_objects(self, bucket: str, objects: list[tuple[str, float]]) -> None:
        for key, visible_at in objects:
            self._bucket(bucket).put(key, b'{"answer": 42}', visible_at)

    def _figures(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "at": time.monotonic(),
            "counts": dict(self.counts),
            "cpu_s": used.ru_utime + used.ru_stime,
            "unasked": self.coverage.left,
        }


def _s3_error(status: int, code: str, after: float) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Answer(status, body.encode(), after=after)


def _listing(bucket: str, prefix: str, most: int, page: Page, *, encoded: bool) -> str:
    token = base64.urlsafe_b64encode(page.last.encode()).decode()
    name = quote if encoded else escape
    return "".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
            f"<Name>{bucket}</Name><Prefix>{name(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>",
            f"<KeyCount>{len(page.rows) + len(page.folders)}</KeyCount>",
            "<EncodingType>url</EncodingType>" if encoded else "",
            f"<IsTruncated>{'true' if page.last else 'false'}</IsTruncated>",
            f"<NextContinuationToken>{token}</NextContinuationToken>" if page.last else "",
            *page.rows,
            *(f"<CommonPrefixes><Prefix>{name(f)}</Prefix></CommonPrefixes>" for f in page.folders),
            "</ListBucketResult>",
        ]
    )


def _described(endpoint_name: str) -> dict[str, Any]:
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{endpoint_name}"
    variant = {"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "DesiredInstanceCount": 1}
    return {
        "EndpointName": endpoint_name,
        "EndpointArn": arn,
        "EndpointConfigName": f"{endpoint_name}-config",
        "EndpointStatus": "InService",
        "ProductionVariants": [variant],
        "CreationTime": 1_700_000_000.0,
        "LastModifiedTime": 1_700_000_000.0,
    }


async def _serve(fake: FakeAws) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: HttpProtocol(fake.answer), "127.0.0.1", 0, backlog=8192)
    say("ready", port=server.sockets[0].getsockname()[1])

    def end_with_the_input() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=end_with_the_input, daemon=True).start()
    await asyncio.wait([loop.create_task(ended.wait())], timeout=_LONGEST_LIFE)


def main(fake: FakeAws) -> None:
    """Serve until standard input ends."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(fake))
    else:
        uvloop.run(_serve(fake))


if __name__ == "__main__":
    main(FakeAws())
