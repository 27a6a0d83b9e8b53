"""As much of S3 as the store asks for, on loopback, in memory: it takes any keys.

    python tests/store/s3_server.py      prints its port

What a real server does is tried in tests/end_to_end. It is a process of its own: a client in C++ may wait for an answer
while it keeps all of Python waiting.
"""

from __future__ import annotations

import hashlib
import re
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4
from xml.sax.saxutils import escape, unescape

PAGE = 1000  # keys of a listing, at most


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()  # the client waits for it
        return True

    def do_GET(self) -> None:
        name, query = self._asked()
        bucket, _, key = name.partition("/")
        content = self.server.objects.get(name)
        if not key:
            self._answer(200, self._listing(bucket, query) if query else b"")
        elif content is None:
            self._refuse(404, "NoSuchKey")
        elif (wanted := self.headers.get("Range")) and self.command == "GET":
            start, end = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted).groups()  # type: ignore[union-attr]
            first = int(start) if start else max(len(content) - int(end), 0)
            last = min(int(end) + 1 if start and end else len(content), len(content))
            about = {"Content-Range": f"bytes {first}-{last - 1}/{len(content)}"}
            self._answer(206, content[first:last], ETag=_etag(content), **about)
        else:
            self._answer(200, content, ETag=_etag(content))

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_PUT(self) -> None:
        name, query = self._asked()
        content = self._body()
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = content
        else:
            with self.server.lock:
                if self.headers.get("If-None-Match") == "*" and name in self.server.objects:
                    return self._refuse(412, "PreconditionFailed")
                self.server.objects[name] = content
        return self._answer(200, ETag=_etag(content))

    def do_POST(self) -> None:
        name, query = self._asked()
        content = self._body()
        if "delete" in query:
            keys = re.findall(rb"<Key>(.*?)</Key>", content)
            for key in keys:
                self.server.objects.pop(f"{name.strip('/')}/{unescape(key.decode())}", None)
            deleted = b"".join(b"<Deleted><Key>%s</Key></Deleted>" % key for key in keys)
            self._answer(200, b"<DeleteResult>%s</DeleteResult>" % deleted)
        elif "uploads" in query:
            upload = f"{uuid4()}"
            self.server.uploads[upload] = {}
            told = f"<UploadId>{upload}</UploadId>"
            self._answer(200, f"<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>".encode())
        else:
            parts = self.server.uploads.pop(query["uploadId"])
            whole = self.server.objects[name] = b"".join(parts[number] for number in sorted(parts))
            told = f"<ETag>{escape(_etag(whole))}</ETag>"
            self._answer(200, f"<CompleteMultipartUploadResult>{told}</CompleteMultipartUploadResult>".encode())

    def do_DELETE(self) -> None:
        name, query = self._asked()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(name, None)
        self._answer(204)

    def _asked(self) -> tuple[str, dict[str, str]]:
        """Bucket and key, and the query."""
        address = urlsplit(self.path)
        return unquote(address.path).lstrip("/"), dict(parse_qsl(address.query, keep_blank_values=True))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, most = query.get("prefix", ""), int(query.get("max-keys", PAGE))
        after = query.get("continuation-token") or query.get("start-after", "")
        with self.server.lock:
            keys = sorted(
                name.partition("/")[2] for name in self.server.objects if name.startswith(f"{bucket}/{prefix}")
            )
        keys = [key for key in keys if key > after]
        if "delimiter" in query:  # all names of folders at once, and no objects
            names = dict.fromkeys(key[: key.index("/", len(prefix)) + 1] for key in keys if "/" in key[len(prefix) :])
            folders = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in names)
            return f"<ListBucketResult>{folders}</ListBucketResult>".encode()
        page, now = keys[: min(most, PAGE)], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        told = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{now}</LastModified><Size>{len(content)}</Size>"
            f"<ETag>{escape(_etag(content))}</ETag></Contents>"
            for key in page
            if (content := self.server.objects.get(f"{bucket}/{key}")) is not None
        )
        if len(page) < len(keys):
            told += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return f"<ListBucketResult>{told}</ListBucketResult>".encode()

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


if __name__ == "__main__":
    server = Server()
    print(server.server_port, flush=True)
    server.serve_forever()
