"""Two goals of a whole gateway: how soon one with twenty plugins answers, and what it takes at rest."""

import statistics
import subprocess
import time

import gateway
import sweeps
from harness.load import Load
from harness.process import resident

PLUGINS, WORKERS, STARTS = 20, 2, 5
START_MS, MEMORY_MIB = 100, 60


def measure(place):
    point = sweeps.plugins(place, PLUGINS)
    settings = {**point.config, "server": {"workers": WORKERS}}
    point = gateway.Point(settings, point.load)
    # Once for the code cache.
    gateway.start_and_reload(place, point, 0)
    starts = [gateway.start_and_reload(place, point, 0)[0] for _ in range(STARTS)]
    return [
        {"goal": f"cold start with {PLUGINS} plugins, code cached, to the first answer",
         "value": round(statistics.median(starts), 1), "limit": START_MS, "unit": "ms"},
        {"goal": f"memory, {PLUGINS} plugins on {WORKERS} workers, at rest after the start",
         "value": round(memory(place, point, None), 1), "limit": MEMORY_MIB, "unit": "MiB"},
        {"goal": f"memory, {PLUGINS} plugins on {WORKERS} workers, at rest after load on all of them",
         "value": round(memory(place, point, Load(script=sweeps.any_of(PLUGINS, path="/api/s%d/LX1234"))), 1),
         "limit": MEMORY_MIB, "unit": "MiB"},
    ]


def memory(place, point, load):
    process = subprocess.Popen(gateway.write(place, point.config), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + gateway.PATIENCE
        while not gateway.answers(place):
            if process.poll() is not None or time.monotonic() > deadline:
                raise gateway.Failed("the gateway does not start")
            time.sleep(0.01)
        if load:
            load.run(place, 2)
        return settled(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def settled(pid):
    """Memory when it stays as it is for a second, or after ten."""
    seen = [resident(pid)]
    while len(seen) < 100 and len(set(seen[-10:])) > 1 or len(seen) < 10:
        time.sleep(0.1)
        seen.append(resident(pid))
    return seen[-1]
