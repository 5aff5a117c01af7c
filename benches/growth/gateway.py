"""The gateway in the runs of growth: configurations of any size, start, reload, what it takes.

`measure` is what `run` calls for each point. Cold start and reload are timed on all cores, as they
would happen; CPU time of a request with one worker on one core, as in the comparison with others.
"""

import dataclasses
import http.client
import json
import os
import statistics
import subprocess
import time

from harness.load import Load
from harness.process import PROXY_CORE, cpu_seconds, is_open, resident, started

WARM_SECONDS = 1
# How long one start or reload may take.
PATIENCE = 300


@dataclasses.dataclass
class Point:
    """A configuration and what is asked of it."""

    config: dict
    load: Load = Load()
    # Before anything is measured: loads that make the gateway know what it shall know.
    fill: object = None


class Failed(Exception):
    """The gateway does not start or reload with a configuration; in its own words."""


def config(place, apis, **rest):
    """A whole configuration around some APIs."""
    return {
        "server": {"workers": 1},
        "listeners": [{"name": "public", "address": f"127.0.0.1:{place.port}"}],
        "admin": {"address": f"127.0.0.1:{place.admin}"},
        "plugins": {"cache": place.file("cache"), "directory": place.file("plugins")},
        "access_log": {"enabled": False},
        "upstreams": {"flights": {"endpoints": [f"http://127.0.0.1:{place.upstream}"]}},
        "apis": apis,
        **rest,
    }


def api(name, path, chain=()):
    return {"name": name, "path": path, "upstream": "flights", "chain": list(chain)}


def write(place, settings):
    """By a rename, so that the gateway, which looks at the file itself too, sees all of it or nothing."""
    # YAML takes JSON as it is.
    path = place.write("witgate.yaml.new", json.dumps(settings, separators=(",", ":")))
    os.rename(path, place.file("witgate.yaml"))
    return [place.witgate, "run", "-c", place.file("witgate.yaml")]


def measure(place, point, seconds, times):
    """All figures of a point, by name; None for what this point has not."""
    # Once for the code cache: compiling plugins is a matter of its own.
    first_ms, _, _ = start_and_reload(place, point, 0)
    starts = [start_and_reload(place, point, 1) for _ in range(times)]
    figures = {
        "first_start_ms": round(first_ms, 1),
        "cold_start_ms": round(statistics.median(start for start, _, _ in starts), 1),
        "idle_mb": round(statistics.median(memory for _, memory, _ in starts), 1),
        "reload_ms": round(statistics.median(reload for _, _, reloads in starts for reload in reloads), 1),
    }
    with started(write(place, point.config), PROXY_CORE, place.port, place.directory) as pid:
        if point.fill:
            point.fill(place)
        point.load.run(place, WARM_SECONDS)
        before = cpu_seconds(pid)
        measured = point.load.run(place, seconds)
        figures["cpu_us"] = round((cpu_seconds(pid) - before) / max(measured.requests, 1) * 1e6, 2)
        figures["rss_mb"] = round(resident(pid), 1)
        figures["errors"] = measured.errors
    return figures


def start_and_reload(place, point, reloads):
    """Milliseconds from the start of the process to its first answer, MiB then, and milliseconds
    of each of so many reloads that add or remove one API."""
    command = write(place, point.config)
    with open(place.file("gateway.out"), "wb") as log:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not answers(place):
                if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                    with open(place.file("gateway.out"), errors="replace") as text:
                        raise Failed(f"the gateway does not start:\n{text.read()[-3000:]}")
                time.sleep(0.001)
            start_ms = (time.monotonic() - begun) * 1e3
            memory = resident(process.pid)
            # The admin port opens last.
            while reloads and not is_open(place.admin):
                time.sleep(0.001)
            more = {**point.config, "apis": [*point.config["apis"], api("one-more", "/api/one-more")]}
            reload_ms = []
            for _ in range(reloads):
                for settings in [more, point.config]:
                    write(place, settings)
                    reload_ms.append(reload(place))
        finally:
            process.terminate()
            process.wait(30)
    return start_ms, memory, reload_ms


def answers(place):
    """Whether the listener is there and answers anything at all."""
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=10)
    try:
        connection.request("GET", "/api/flights/LX1234")
        return connection.getresponse().status < 500
    except ConnectionError:
        return False
    finally:
        connection.close()


def reload(place):
    connection = http.client.HTTPConnection("127.0.0.1", place.admin, timeout=PATIENCE)
    begun = time.monotonic()
    connection.request("POST", "/reload")
    answer = connection.getresponse()
    text = answer.read()
    milliseconds = (time.monotonic() - begun) * 1e3
    connection.close()
    if answer.status != 200:
        raise Failed(f"the gateway refuses to reload: {answer.status} {text[:2000].decode(errors='replace')}")
    return milliseconds
