"""nginx with docs/deploy/nginx.conf in front of two servers, on ports of its own, with a certificate of its own."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.redis_server import free_port
from tests.server.test_server_thread import make_certificate
from tests.waiting import until

CONFIGURATION = Path(__file__).parents[1] / "docs" / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx")

needs_nginx = pytest.mark.skipif(
    NGINX is None and "CI" not in os.environ, reason="needs nginx: apt-get install nginx-light"
)

BODIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """folder: made for its files. ports: of the two servers. url: by TLS. trust: what a client has to trust."""

    def __init__(self, folder, ports):
        self.folder, self.port = folder, free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        folder.mkdir(mode=0o755)
        for above in list(folder.parents)[:4]:  # nginx's workers are another user, who reads nothing there
            if os.access(above, os.W_OK) and above != Path("/dev/shm"):
                above.chmod(above.stat().st_mode | 0o011)
        make_certificate(folder / "cert.pem", folder / "key.pem")
        self.trust = ssl.create_default_context(cafile=folder / "cert.pem")
        text = CONFIGURATION.read_text(encoding="utf-8")
        for given, own in (
            ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("/etc/harmonia/", f"{folder}/"),
            ("/var/log/nginx/error.log", f"{folder}/error.log"),
            ("127.0.0.1:3341", f"127.0.0.1:{ports[0]}"),
            ("127.0.0.1:3342", f"127.0.0.1:{ports[1]}"),
            ("worker_processes auto;", "worker_processes 2;\ndaemon off;\n" + f"pid {folder}/nginx.pid;"),
            ("worker_rlimit_nofile 65536;", ""),
            ("worker_connections 32768;", "worker_connections 1024;"),
            ("http {", "http {" + "".join(f"{name}_temp_path {folder}/{name};" for name in BODIES)),
        ):
            assert given in text, given
            text = text.replace(given, own)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        for file in ("key.pem", "cert.pem"):
            (folder / file).chmod(0o644)

    def __enter__(self):
        command = [NGINX, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        self.process = subprocess.Popen([*command, "-e", str(self.folder / "start.log")], stderr=subprocess.DEVNULL)
        until((self.folder / "nginx.pid").exists, "nginx")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
