"""Git over HTTP for a demo: everybody may read and push; a repository is made when it is first asked for.

    git_server.py DIRECTORY [PORT]
"""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(sys.argv[1])
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
MAKING = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        path, _, query = self.path.partition("?")
        body = self.body()
        found = re.fullmatch(r"/([a-z0-9][a-z0-9-]*\.git)/(info/refs|git-upload-pack|git-receive-pack)", path)
        if not found:
            return self.send(404, {}, b"no such repository\n")
        make(ROOT / found[1])
        request = {
            "GIT_PROJECT_ROOT": str(ROOT),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env={**os.environ, **request})
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        return self.send(int(fields.pop("Status", "200").split()[0]), fields, content)

    do_GET = do_POST = answer

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def send(self, status, fields, content):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def make(repository):
    with MAKING:
        if repository.exists():
            return
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
        # Everybody may push; what was pushed when can be read in the reflog.
        for setting in ("http.receivepack=true", "core.logAllRefUpdates=always"):
            subprocess.run(["git", "-C", repository, "config", *setting.split("=")], check=True)


ThreadingHTTPServer(("", PORT), Handler).serve_forever()
