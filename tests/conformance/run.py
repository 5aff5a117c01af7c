"""Runs all conformance checks, or those that are named, and prints a table of what was found.

`tools/conformance.sh` prepares what this needs. Ends with 1 if a check failed.
"""

import argparse
import pathlib
import sys
import time
import traceback

import clients
import differential
import httpwg
import origins as servers
from scene import Scene


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", help="the gateway")
    parser.add_argument("--httpwg", help="the program of httpwg-cli")
    parser.add_argument("--generated", type=int, default=1000, help="generated inputs of the differential check")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("checks", nargs="*")
    arguments = parser.parse_args()
    scene = Scene(str(pathlib.Path(arguments.binary).resolve()))
    failed, rows = False, []
    try:
        origins = servers.start_all(scene)
        checks = {
            "curl": lambda: clients.check_curl(scene, origins),
            "httpwg": lambda: httpwg.check(scene, origins, arguments.httpwg),
            "gRPC": lambda: clients.check_grpc(scene),
            "WebSocket": lambda: clients.check_websocket(scene),
            "h2load": lambda: clients.check_h2load(scene, origins),
            "differential": lambda: differential.check(scene, origins, arguments.generated, arguments.seed),
            "sslyze": lambda: clients.check_tls(scene, origins, pathlib.Path(sys.executable)),
            "slowhttptest": lambda: clients.check_slow(scene, origins),
        }
        unknown = set(arguments.checks) - set(checks)
        if unknown:
            parser.error(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(checks)}")
        for name, check in checks.items():
            if arguments.checks and name not in arguments.checks:
                continue
            if name == "httpwg" and not arguments.httpwg:
                rows.append("| httpwg | not run: no `--httpwg` |")
                continue
            started = time.monotonic()
            try:
                found = check()
            except Exception as error:
                traceback.print_exc()
                found, failed = f"FAILED: {error}", True
            rows.append(f"| {name} | {found} |")
            print(f"== {name} ({time.monotonic() - started:.0f} s): {found}", flush=True)
    finally:
        scene.close()
    print("\n| check | found |\n| --- | --- |\n" + "\n".join(rows))
    sys.exit(failed)


main()
