"""As much of the W&B service as a client needs, on the loopback interface, and its failures."""

import json
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlparse

KEY = "0" * 40
ENTITY = "tester"


@dataclass
class StubRun:
    """What the service has been told of one run."""

    fields: dict[str, Any] = field(default_factory=dict)  # of UpsertBucket, the last that was set
    history: dict[int, dict[str, Any]] = field(default_factory=dict)  # by line number
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The run's config as plain values."""
        return {k: v["value"] for k, v in json.loads(self.fields.get("config") or "{}").items()}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, line by line."""
        return [self.history[line] for line in sorted(self.history)]


@dataclass
class Stub:
    """A service that works, or one that is ``unavailable`` (503), ``refusing`` keys (401) or
    ``hanging``. ``dies_after`` requests it closes its connections without an answer."""

    mode: str = "working"
    dies_after: int | None = None
    runs: dict[str, StubRun] = field(default_factory=lambda: defaultdict(StubRun))
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    unknown: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Stub":
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mode = "closed"
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What points a client here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ENTITY": ENTITY}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is nothing to report."""


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _answer(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _troubled(self) -> bool:
            """Misbehave, if it is time to."""
            dead = stub.dies_after is not None and len(stub.asked) >= stub.dies_after
            if stub.mode == "hanging":
                while stub.mode == "hanging":
                    time.sleep(0.1)
            if dead or stub.mode in ("closed", "hanging"):
                self.close_connection = True
                self.connection.close()
                return True
            if stub.mode == "unavailable":
                self._answer({"error": "try later"}, 503)
                return True
            if stub.mode == "refusing":
                self._answer({"errors": [{"message": "invalid API key"}]}, 401)
                return True
            return False

        def do_GET(self) -> None:
            stub.asked.append(f"GET {self.path}")
            if not self._troubled():
                self._answer({})

        def do_PUT(self) -> None:
            body = self._body()
            stub.asked.append(f"PUT {self.path}")
            if self._troubled():
                return
            _, _, run, name = urlparse(self.path).path.split("/", 3)
            stub.runs[run].files[name] = body
            self._answer({})

        def do_POST(self) -> None:
            body = self._body()
            path = urlparse(self.path).path
            if path.endswith("/file_stream"):
                stub.asked.append("file_stream")
                if not self._troubled():
                    _stream(stub.runs[path.split("/")[-2]], json.loads(body))
                    self._answer({"exitcode": None, "limits": {}})
                return
            asked = json.loads(body)
            query, variables = asked["query"], asked.get("variables") or {}
            found = re.search(r"(?:query|mutation)\s+(\w+)", query)
            name = asked.get("operationName") or (found.group(1) if found else "")
            stub.asked.append(name)
            if not self._troubled():
                self._answer({"data": _resolve(stub, name, query, variables)})

    return Handler


def _stream(run: StubRun, chunk: dict[str, Any]) -> None:
    for name, part in (chunk.get("files") or {}).items():
        for number, line in enumerate(part["content"], start=part["offset"]):
            if name == "wandb-history.jsonl":
                run.history[number] = json.loads(line)
            elif name == "wandb-summary.json":
                run.summary = json.loads(line)
    if chunk.get("complete"):
        run.exit_code = chunk.get("exitcode")


def _resolve(stub: Stub, name: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The ``data`` of a GraphQL answer."""
    if name == "Viewer":
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}, "email": "", "admin": False}}
    if name == "UpsertBucket":
        run = stub.runs[variables["name"]]
        run.fields |= {key: value for key, value in variables.items() if value is not None}
        project = {"name": variables.get("project"), "entity": {"name": ENTITY}, "id": "p"}
        bucket = {"id": f"id-{variables['name']}", "name": variables["name"], "project": project}
        shown = variables.get("displayName") or variables["name"]
        bucket |= {"displayName": shown, "historyLineCount": 0, "sweepName": None, "config": "{}"}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}
    if name == "CreateRunFiles":
        run_name = variables["run"]
        files = [
            {"name": file, "uploadUrl": f"{stub.url}/upload/{run_name}/{file}"}
            for file in variables["files"]
        ]
        answer = {"runID": f"id-{run_name}", "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}
    if name == "ServerFeaturesQuery":
        return {"serverInfo": {"features": []}}
    if name == "CreateArtifact":
        stub.artifacts.append(variables["input"])
        sequence = {"latestArtifact": None}
        artifact = {"id": f"artifact-{len(stub.artifacts)}", "state": "COMMITTED"}
        return {"createArtifact": {"artifact": artifact | {"artifactSequence": sequence}}}
    if name == "UpsertView2":
        identity = variables.get("id") or f"view-{len(stub.views) + 1}"
        inserted = identity not in stub.views
        stub.views[identity] = variables
        view = {"id": identity, "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": inserted}}
    stub.unknown.append((name, query, variables))
    return {}
