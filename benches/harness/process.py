"""Processes under measurement: started on a core, ended whatever happens, what they cost so far.

Cost is read from /proc and covers a process with its children, for proxies that fork workers.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")
PROXY_CORE, LOAD_CORE = "0", "1"
# How long a proxy may take until it answers on its port.
START_SECONDS = 120


class started:
    """A process on a core, from when it answers on its port until the end of the block."""

    def __init__(self, command, core, port, directory, environment=None):
        self.command, self.core, self.port = command, core, port
        self.environment = environment or {}
        self.log = os.path.join(directory, os.path.basename(command[0]) + ".out")

    def __enter__(self):
        if is_open(self.port):
            sys.exit(f"127.0.0.1:{self.port} is taken")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", self.core, *self.command], env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while not is_open(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"{self.command[0]} does not start:\n{self.output()[-4000:]}")
            time.sleep(0.005)
        return self.process.pid

    def output(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end_on_sigterm():
    """Ends this process as Ctrl-C would, so that `with` blocks end what they started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def raise_descriptor_limit():
    """To what the system allows, for this process and those it starts; what that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def family(pid):
    """A process with its children and theirs."""
    found, open_ = [], [pid]
    while open_:
        pid = open_.pop()
        found.append(pid)
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    open_ += [int(child) for child in file.read().split()]
        except FileNotFoundError:
            pass
    return found


def cpu_seconds(pid):
    """User and system time so far, that of children that have ended included."""
    ticks = 0
    for member in family(pid):
        with open(f"/proc/{member}/stat") as file:
            # Behind the name, which may hold anything: utime, stime, cutime, cstime.
            fields = file.read().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICK


def resident(pid):
    """MiB of all processes together."""
    pages = 0
    for member in family(pid):
        with open(f"/proc/{member}/statm") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine():
    """What the figures were taken on, in a line."""
    def field(file, name):
        try:
            with open(file) as text:
                return next((line.split(":", 1)[1].strip() for line in text if line.startswith(name)), "?")
        except FileNotFoundError:
            return "?"
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    return f"{os.cpu_count()} cores, {field('/proc/cpuinfo', 'model name')}, {memory:.0f} GiB, Linux {os.uname().release}"
