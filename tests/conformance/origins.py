"""Real web servers as upstreams, each writing a line `METHOD TARGET [BODY-BYTES]` for every request.

Which requests a server saw is read from that file; how it answers does not matter.
"""

import pathlib
import shutil
import sys

from scene import free_port

HERE = pathlib.Path(__file__).parent

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
events {{ worker_connections 4096; }}
http {{
    log_format seen '$request_method $request_uri';
    access_log {seen} seen;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{ listen 127.0.0.1:{port}; keepalive_timeout 60s; location / {{ return 200 "ok"; }} location /files/ {{ alias {folder}/files/; }} }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.error
DefaultRuntimeDir {folder}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LogFormat "%m %U%q" seen
CustomLog {seen} seen
"""

HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend seen
    bind 127.0.0.1:{port}
    log global
    log-format "%HM %HU"
    option http-buffer-request
    http-request return status 200 content-type text/plain string ok
"""


class Origin:
    """A server under its name, its port, the file in which it writes what it saw, whether it tells how
    long bodies are, and the status of what it takes well."""

    def __init__(self, name, port, seen, bodies, well):
        self.name, self.port, self.seen, self.bodies, self.well = name, port, seen, bodies, well

    def requests(self):
        """Lists of method, target and, where the server tells, bytes of the body."""
        if not self.seen.exists():
            return []
        lines = (line.split() for line in self.seen.read_text(errors="replace").splitlines())
        return [words for words in lines if len(words) >= 2 and words[1].startswith("/")]


def start_all(scene):
    folder = scene.folder
    origins = []

    def launch(name, command, port, seen=None, bodies=False, well=200, **options):
        scene.start(name, command, port, **options)
        origins.append(Origin(name, port, seen or folder / f"{name}.log", bodies, well))

    def configured(name, template):
        port, seen = free_port(), folder / f"{name}.seen"
        path = folder / f"{name}.conf"
        path.write_text(template.format(folder=folder, port=port, seen=seen))
        return path, port, seen

    (folder / "files").mkdir()
    (folder / "files" / "bytes.txt").write_bytes(bytes(range(48, 58)) * 100_000)
    path, port, seen = configured("nginx", NGINX)
    launch("nginx", ["nginx", "-c", str(path)], port, seen)
    path, port, seen = configured("apache", APACHE)
    launch("apache", ["apache2", "-f", str(path), "-DFOREGROUND"], port, seen, well=404)
    path, port, _ = configured("haproxy", HAPROXY)
    launch("haproxy", ["haproxy", "-f", str(path)], port)
    port = free_port()
    launch("node", ["node", str(HERE / "origin.js"), str(port)], port, bodies=True)
    python = pathlib.Path(sys.executable).parent
    for name, command in (
        ("gunicorn", lambda port: [str(python / "gunicorn"), "-b", f"127.0.0.1:{port}", "--keep-alive", "60", "-k", "gthread", "--threads", "32", "origin:wsgi"]),
        ("waitress", lambda port: [str(python / "waitress-serve"), f"--listen=127.0.0.1:{port}", "--threads=16", "origin:wsgi"]),
        ("hypercorn", lambda port: [str(python / "hypercorn"), "-b", f"127.0.0.1:{port}", "origin:asgi"]),
    ):
        port = free_port()
        shutil.copy(HERE / "origin.py", folder / "origin.py")
        launch(name, command(port), port, bodies=True)
    return origins
