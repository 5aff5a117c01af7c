"""What the checks stand on: a witgate process, other processes, and free ports.

Everything that is started here is ended by `Scene.close`, and lies in one temporary folder.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time

PATIENCE = 30.0


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process=None):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


class Scene:
    def __init__(self, binary):
        self.binary = binary
        self.place = tempfile.TemporaryDirectory(prefix="witgate-conformance-")
        self.folder = pathlib.Path(self.place.name)
        # nginx's workers are somebody else if it is started by root.
        self.folder.chmod(0o755)
        self.processes = []

    def start(self, name, command, port, **options):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **options)
        self.processes.append(process)
        wait_for_port(port, process)
        return process

    def gateway(self, config, name="witgate"):
        """Starts a gateway with this configuration; returns its listeners' ports."""
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(config))
        log = self.folder / f"{name}.log"
        process = subprocess.Popen(
            [self.binary, "run", "-c", str(path)], stdout=open(log, "wb"), stderr=subprocess.STDOUT, cwd=self.folder
        )
        self.processes.append(process)
        end = time.monotonic() + 3 * PATIENCE
        while time.monotonic() < end:
            ready = re.search(r"witgate ready:(.*)", log.read_text(errors="replace"))
            if ready:
                return {name: int(port) for name, port in re.findall(r"(\S+)=127\.0\.0\.1:(\d+)", ready[1])}
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the gateway did not start: {log.read_text(errors='replace')}")

    def access_log(self, name="witgate"):
        entries = []
        for line in (self.folder / f"{name}.log").read_text(errors="replace").splitlines():
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    entries.append(json.loads(line))
        return entries

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.place.cleanup()


def config(upstreams, apis, **more):
    """A configuration with one listener, `public`."""
    return {
        "listeners": [{"name": "public", "address": "127.0.0.1:0", **more.pop("listener", {})}],
        "server": {"workers": 2},
        "upstreams": upstreams,
        "apis": apis,
        **more,
    }


def require(condition, what):
    if not condition:
        raise AssertionError(what)


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "LC_ALL": "C"}, **options)
