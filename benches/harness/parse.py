"""What load generators print, as numbers. Checked by `tests.py`, against output that was seen."""

import re

UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def wrk(text):
    """The output of `wrk --latency`."""
    number = lambda pattern: float((re.search(pattern, text) or [0, "0"])[1])
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return {
        "requests": int(number(r"(\d+) requests in")),
        "rps": number(r"Requests/sec:\s+([\d.]+)"),
        "p50_us": _micros(re.search(r"\b50%\s+([\d.]+)(us|ms|s|m)\b", text)),
        "p99_us": _micros(re.search(r"\b99%\s+([\d.]+)(us|ms|s|m)\b", text)),
        "errors": int(number(r"Non-2xx or 3xx responses: (\d+)")) + sum(map(int, sockets.groups() if sockets else ())),
    }


def h2load(text, log):
    """The output of `h2load`, and the lines of its log file: start, status, microseconds."""
    times, bad = [], 0
    for line in log:
        _, status, micros = line.split("\t")[:3]
        times.append(int(micros))
        bad += not 200 <= int(status) < 400
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    # A request that failed may have a line too.
    return {
        "requests": len(times), "rps": float(rate[1]) if rate else 0.0,
        "p50_us": percentile(times, 50), "p99_us": percentile(times, 99),
        "errors": max(bad, int(counts[1]) if counts else 0) if rate else 1,
    }


def percentile(values, percent):
    """The smallest value that so many percent are not above; 0 where there is none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return float(ordered[max(0, -(-len(ordered) * percent // 100) - 1)])


def _micros(match):
    return float(match[1]) * UNITS[match[2]] if match else 0.0
