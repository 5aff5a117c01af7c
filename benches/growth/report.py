"""What `run` tells: a line of JSON for each point, tables and figures for people."""

import json
import os
import time

import plot
from harness.process import machine
from sweeps import SWEEPS

FIGURES = {
    "cpu_us": "CPU µs a request",
    "rss_mb": "resident MiB",
    "cold_start_ms": "start to first answer, ms",
    "reload_ms": "reload, ms",
    "first_start_ms": "start, code not cached, ms",
}


def line(row):
    return json.dumps(row)


def tables(rows, goals, picture=None):
    """Markdown; `picture` gives the address of a sweep's figure."""
    blocks = []
    for name in dict.fromkeys(row["sweep"] for row in rows):
        sweep, of_sweep = SWEEPS[name], [row for row in rows if row["sweep"] == name]
        lines = [f"**{sweep.title}**", ""]
        if picture:
            lines += [f"![{sweep.title}]({picture(name)})", ""]
        lines.append("| " + " | ".join([sweep.axis, *(FIGURES[figure] for figure in sweep.figures), "errors"]) + " |")
        lines.append("| ---: " * (len(sweep.figures) + 2) + "|")
        for row in of_sweep:
            cells = [f"{row['n']:,}", *(str(row[figure]) for figure in sweep.figures), str(row["errors"])]
            lines.append("| " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    if goals:
        lines = ["**Goals of a whole gateway**", "", "| | measured | goal |", "| --- | ---: | ---: |"]
        lines += [f"| {goal['goal']} | {goal['value']} {goal['unit']} | < {goal['limit']} {goal['unit']} |" for goal in goals]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def save(directory, rows, goals):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "growth.json"), "w") as file:
        file.writelines(line(row) + "\n" for row in [*rows, *goals])
    for name in dict.fromkeys(row["sweep"] for row in rows):
        sweep = SWEEPS[name]
        panels = [(FIGURES[figure], sweep.axis, [(row["n"], row[figure]) for row in rows if row["sweep"] == name])
                  for figure in sweep.figures]
        with open(os.path.join(directory, f"growth-{name}.svg"), "w") as file:
            file.write(plot.figure(panels))
    with open(os.path.join(directory, "growth.md"), "w") as file:
        file.write(f"{stamp()}\n\n{tables(rows, goals, lambda name: f'growth-{name}.svg')}")


def stamp():
    return f"{time.strftime('%Y-%m-%d')}, {machine()}"
