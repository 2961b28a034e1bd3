"""A stand-in for the W&B service on the loopback interface, and its failures."""

import json
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlparse

KEY = ("5ec7e7" * 7)[:40]  # such as nothing else is
ENTITY = "tester"
MANIFEST = "wandb_manifest.json"


@dataclass
class StubRun:
    """What the service has received of one run."""

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
class StubArtifact:
    """What the service has received of one artifact."""

    name: str
    fields: dict[str, Any]  # of CreateArtifact
    files: dict[str, bytes] = field(default_factory=dict)  # the manifest among them
    committed: bool = False


@dataclass
class Stub:
    """A service that works, or one that is ``unavailable`` (503), ``refusing`` keys (401),
    ``hanging``, or ``full`` (403 to every file of an artifact). After ``dies_after`` requests it
    closes its connections without an answer. Each answer comes after ``delay`` seconds."""

    mode: str = "working"
    delay: float = 0.0
    dies_after: int | None = None
    runs: dict[str, StubRun] = field(default_factory=lambda: defaultdict(StubRun))
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, StubArtifact] = field(default_factory=dict)
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
        """The environment that makes a client use this service."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_ENTITY": ENTITY}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


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
            """Fail, if this request is to fail."""
            time.sleep(stub.delay)
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
            _, kind, owner, name = urlparse(self.path).path.split("/", 3)
            if stub.mode == "full" and kind == "artifacts":
                self._answer({"error": "no room"}, 403)
                return
            owners: dict[str, Any] = stub.runs if kind == "runs" else stub.artifacts
            owners[owner].files[unquote(name)] = body
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
            variables = asked.get("variables") or {}
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            name = asked.get("operationName") or (found.group(1) if found else "")
            stub.asked.append(name)
            if not self._troubled():
                self._answer({"data": _resolve(stub, name, variables)})

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


def _resolve(stub: Stub, name: str, variables: dict[str, Any]) -> dict[str, Any]:
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
            {"name": file, "uploadUrl": f"{stub.url}/runs/{run_name}/{quote(file)}"}
            for file in variables["files"]
        ]
        answer = {"runID": f"id-{run_name}", "uploadHeaders": [], "files": files}
        return {"createRunFiles": answer}
    if name == "ServerFeaturesQuery":
        return {"serverInfo": {"features": []}}
    if "Artifact" in name:
        return _resolve_artifact(stub, name, variables)
    if name == "UpsertView2":
        identity = variables.get("id") or f"view-{len(stub.views) + 1}"
        inserted = identity not in stub.views
        stub.views[identity] = variables
        view = {"id": identity, "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": inserted}}
    stub.unknown.append((name, variables))
    return {}


def _resolve_artifact(stub: Stub, name: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The ``data`` of an answer about artifacts: created, given its files, committed."""
    if name == "CreateArtifact":
        identity = f"artifact-{len(stub.artifacts) + 1}"
        fields = variables["input"]
        stub.artifacts[identity] = StubArtifact(fields["artifactCollectionName"], fields)
        artifact = {"id": identity, "state": "PENDING"}
        artifact |= {"artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}
    if name == "CreateArtifactManifest":
        identity = variables["artifactID"]
        url = f"{stub.url}/artifacts/{identity}/{MANIFEST}"
        manifest = {"id": identity, "file": {"id": "-", "uploadUrl": url, "uploadHeaders": []}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}
    if name == "CreateArtifactFiles":
        nodes = [
            {
                **{"id": "-", "name": file["name"], "displayName": file["name"]},
                "storagePath": file["name"],
                "uploadUrl": f"{stub.url}/artifacts/{file['artifactID']}/{quote(file['name'])}",
                **{"uploadHeaders": [], "uploadMultipartUrls": None},
                "artifact": {"id": file["artifactID"]},
            }
            for file in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
    if name == "CommitArtifact":
        stub.artifacts[variables["artifactID"]].committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "-"}}}
    stub.unknown.append((name, variables))
    return {}
