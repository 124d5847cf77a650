"""A model hub on this machine: what huggingface_hub's client asks of the real one, served from folders."""

import hashlib
import http.server
import json
import threading
from pathlib import Path


class Hub:
    """repos: folder by id. mode: "serve", "hang" (accept and say nothing), "reset", or a status to answer with."""

    def __init__(self, mode="serve"):
        self.repos, self.mode, self.asked = {}, mode, []
        self.released = threading.Event()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler, *, body):
        self.asked.append(handler.path)
        if self.mode == "hang":
            self.released.wait(60)
        if self.mode in ("hang", "reset"):
            handler.close_connection = True
            handler.connection.close()
            return None
        if self.mode != "serve":
            return self._send(handler, int(self.mode), b"{}", {}, body=body)
        path = handler.path.partition("?")[0]
        for repo, folder in self.repos.items():
            if path == f"/api/models/{repo}":
                files = [{"rfilename": f.name, "size": f.stat().st_size} for f in Path(folder).iterdir() if f.is_file()]
                content = json.dumps({"id": repo, "sha": "a" * 40, "siblings": files}).encode()
                return self._send(handler, 200, content, {"Content-Type": "application/json"}, body=body)
            if path.startswith(f"/{repo}/resolve/"):
                file = Path(folder) / path.rpartition("/")[2]
                if file.is_file():
                    content = file.read_bytes()
                    digest = hashlib.sha256(content).hexdigest()
                    headers = {"ETag": f'"{digest}"', "X-Repo-Commit": "a" * 40, "Accept-Ranges": "bytes"}
                    return self._send(handler, 200, content, headers, body=body)
        return self._send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def _send(self, handler, status, content, headers, *, body):
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if body:
            handler.wfile.write(content)
