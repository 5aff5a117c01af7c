"""What `run` tells: a line of JSON for each result, or a table for each case."""

import dataclasses
import json
import os
import sys
import time

from cases import CASES, FEW, GOAL, MANY, Case
from harness.load import Measured
from harness.process import machine


@dataclasses.dataclass
class Result:
    case: Case
    proxy: str
    # The median round; errors of all rounds.
    measured: Measured
    rounds_cpu_us: list


def line(result):
    one = result.measured
    return json.dumps({
        "case": result.case.name, "proxy": result.proxy, "cpu_us": round(one.cpu_us, 2), "rps": round(one.rps),
        "p50_us": round(one.p50_us), "p99_us": round(one.p99_us), "rss_mb": round(one.rss_mb, 1),
        "errors": one.errors,
    })


def progress(result):
    rounds = " ".join(f"{cpu_us:.1f}" for cpu_us in result.rounds_cpu_us)
    print(f"  {result.case.name}: {result.proxy} {result.measured.cpu_us:.2f} us ({rounds})", file=sys.stderr, flush=True)


ROW = "{:9} {:>9} {:>8} {:>10} {:>8} {:>9} {:>9} {:>8} {:>7}"


def table(results):
    """For people: a block for each case, the cheapest proxy first."""
    plain = {result.proxy: result.measured.cpu_us for result in results if result.case.name == "plain"}
    nginx = plain.get("nginx")
    lines = []
    for case in dict.fromkeys(result.case.name for result in results):
        of_case = [result for result in results if result.case.name == case]
        own = next((result.measured.cpu_us for result in of_case if result.proxy == "witgate"), None)
        lines += ["", f"{case}: {CASES[case].title}",
                  ROW.format("", "cpu us", "x nginx*", "x witgate", "rps", "p50 us", "p99 us", "rss MB", "errors")]
        for result in sorted(of_case, key=lambda result: result.measured.cpu_us):
            one = result.measured
            lines.append(ROW.format(
                result.proxy, f"{one.cpu_us:.2f}", ratio(one.cpu_us, nginx), ratio(one.cpu_us, own), round(one.rps),
                round(one.p50_us), round(one.p99_us), f"{one.rss_mb:.1f}", one.errors))
    lines += ["", "* to nginx in the case `plain` of this run"]
    return "\n".join(lines + idle(results))


def markdown(results):
    """CPU time of a request, a row for each case, and what a connection at rest takes."""
    cost = {(result.case.name, result.proxy): result.measured for result in results}
    names = list(dict.fromkeys(result.proxy for result in results))
    lines = ["| CPU µs a request | " + " | ".join(names) + " | witgate to nginx* | to Envoy |",
             "| --- |" + " ---: |" * (len(names) + 2)]
    for case in (CASES[name] for name in dict.fromkeys(result.case.name for result in results)):
        if case.idle:
            continue
        own, envoy = cost.get((case.name, "witgate")), cost.get((case.name, "envoy"))
        nginx = cost.get(("plain" if case.rounds == GOAL else case.name, "nginx"))
        cells = [cell(cost.get((case.name, name))) for name in names]
        cells.append(ratio(own.cpu_us, nginx.cpu_us) if own and nginx else "")
        cells.append(ratio(own.cpu_us, envoy.cpu_us) if own and envoy else "")
        lines.append(f"| {case.name}: {case.title} | " + " | ".join(cells) + " |")
    each = idle_kib(results)
    if each:
        cells = [f"{each[name]:.1f}" if name in each else "" for name in names]
        lines.append("| memory of a connection at rest, KiB | " + " | ".join(cells) + " | | |")
    return "\n".join(lines) + "\n\n\\* to its `plain` in the cases that a goal is set on, else to the same case\n"


def cell(measured):
    if measured is None:
        return ""
    figure = f"{measured.cpu_us:.1f}" if measured.cpu_us < 1000 else f"{measured.cpu_us:.0f}"
    return figure + (f" ({measured.errors} errors)" if measured.errors else "")


def stamp():
    return f"{time.strftime('%Y-%m-%d')}, {machine()}"


def save(directory, results):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "peers.json"), "w") as file:
        file.writelines(line(result) + "\n" for result in results)
    with open(os.path.join(directory, "peers.txt"), "w") as file:
        file.write(f"{stamp()}\n{table(results)}\n")


def idle_kib(results):
    """What a connection at rest takes: the difference of two cases."""
    memory = {(result.case.name, result.proxy): result.measured.rss_mb for result in results}
    return {
        proxy: (memory["idle-10000", proxy] - memory["idle-100", proxy]) * 1024 / (MANY - FEW)
        for case, proxy in memory if case == "idle-100" and ("idle-10000", proxy) in memory
    }


def idle(results):
    each = idle_kib(results)
    if not each:
        return []
    lines = ["", "resident memory of a connection at rest, without the kernel's part:"]
    return lines + [f"{proxy:9} {kib:6.1f} KiB" for proxy, kib in sorted(each.items(), key=lambda pair: pair[1])]


def ratio(value, other):
    return f"{value / other:.2f}" if other else "-"
