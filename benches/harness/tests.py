"""Checks of the harness itself, without proxies: `python3 -m unittest benches/harness/tests.py`.

`make bench-peers` and `make bench-growth` run them first.
"""

import os
import sys
import unittest
import xml.etree.ElementTree

BENCHES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# `report` is the one of `peers`, which comes first.
sys.path[:0] = [BENCHES, os.path.join(BENCHES, "peers"), os.path.join(BENCHES, "growth")]
sys.dont_write_bytecode = True

from harness import parse

WRK = """\
Running 2s test @ http://127.0.0.1:33001/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms    1.20ms  40.57ms   92.63%
    Req/Sec    49.20k     1.08k   54.92k    80.95%
  Latency Distribution
     50%    1.11ms
     75%    1.80ms
     90%    2.00ms
     99%  977.00us
  98772 requests in 2.10s, 119.20MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  47034.28
Transfer/sec:     56.76MB
"""

H2LOAD = """\
finished in 2.00s, 45807.50 req/s, 51.59MB/s
requests: 91615 total, 91679 started, 91615 done, 91615 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 91615 2xx, 0 3xx, 0 4xx, 0 5xx
"""


class Parsers(unittest.TestCase):
    def test_wrk(self):
        self.assertEqual(parse.wrk(WRK), {
            "requests": 98772, "rps": 47034.28, "p50_us": 1110.0, "p99_us": 977.0, "errors": 15})

    def test_wrk_without_errors(self):
        lines = [line for line in WRK.splitlines() if "errors" not in line and "Non-2xx" not in line]
        self.assertEqual(parse.wrk("\n".join(lines))["errors"], 0)

    def test_h2load(self):
        log = [f"1\t200\t{micros}\n" for micros in range(1, 101)]
        self.assertEqual(parse.h2load(H2LOAD, log), {
            "requests": 100, "rps": 45807.5, "p50_us": 50.0, "p99_us": 99.0, "errors": 2})

    def test_h2load_counts_statuses(self):
        log = ["1\t200\t7\n", "1\t503\t7\n", "1\t401\t7\n", "1\t-1\t7\n"]
        self.assertEqual(parse.h2load(H2LOAD, log)["errors"], 3)

    def test_h2load_that_could_not_connect(self):
        self.assertEqual(parse.h2load("failed to connect\n", [])["errors"], 1)

    def test_percentile(self):
        self.assertEqual(parse.percentile([], 99), 0.0)
        self.assertEqual(parse.percentile([3], 50), 3.0)
        self.assertEqual(parse.percentile([3, 1, 2, 4], 50), 2.0)
        self.assertEqual(parse.percentile([3, 1, 2, 4], 99), 4.0)


class Reports(unittest.TestCase):
    def test_line_has_the_keys_that_others_read(self):
        import json
        import report
        from cases import CASES
        from harness.load import Measured
        result = report.Result(CASES["plain"], "nginx", Measured(10, 5.0, 1.0, 2.0, 0, 12.345, 7.0), [12.345])
        self.assertEqual(
            list(json.loads(report.line(result))),
            ["case", "proxy", "cpu_us", "rps", "p50_us", "p99_us", "rss_mb", "errors"])
        self.assertIn("plain: reverse proxy", report.table([result]))

    def test_memory_of_a_connection_is_a_difference(self):
        import report
        from cases import CASES, FEW, MANY
        from harness.load import Measured
        measured = lambda mib: Measured(1, 1.0, 1.0, 1.0, 0, 1.0, mib)
        results = [report.Result(CASES["idle-100"], "nginx", measured(10.0), [1.0]),
                   report.Result(CASES["idle-10000"], "nginx", measured(10.0 + (MANY - FEW) / 1024), [1.0]),
                   report.Result(CASES["idle-100"], "caddy", measured(10.0), [1.0])]
        self.assertEqual({name: round(kib, 6) for name, kib in report.idle_kib(results).items()}, {"nginx": 1.0})
        self.assertIn("at rest, KiB | 1.0 |  |", report.markdown(results))


class Growth(unittest.TestCase):
    def test_pictures_are_xml_with_all_points(self):
        import plot
        svg = plot.figure([("CPU <us>", "APIs", [(10, 1.0), (100, 2.5), (10_000, 9.0)]), ("memory", "APIs", [(0, 0.0)])])
        root = xml.etree.ElementTree.fromstring(svg)
        circles = root.findall("{http://www.w3.org/2000/svg}circle")
        self.assertEqual([round(float(one.get("cx"))) for one in circles[:3]], [52, 131, 288])
        self.assertEqual(len(circles), 4)

    def test_scales(self):
        import plot
        self.assertEqual([plot.nice_above(value) for value in (0.9, 1, 3, 45, 81)], [1, 1, 4, 50, 100])
        self.assertEqual(plot.x_scale([0, 5, 20])(5), 0.25)
        self.assertAlmostEqual(plot.x_scale([10, 100, 1000])(100), 0.5)
        self.assertEqual([plot.short(value) for value in (0, 0.5, 1500, 2_000_000)], ["0", "0.5", "1.5k", "2M"])

    def test_copies_of_a_component_differ_behind_its_code(self):
        import sweeps
        self.assertEqual(sweeps.custom_section(b"copy", b"\x01\x00\x00\x00"), b"\x00\x09\x04copy\x01\x00\x00\x00")

    def test_any_of_draws_from_all(self):
        import sweeps
        script = sweeps.any_of(10, path="/api/s%d/x", header=("X-Key", "key-%d"))
        self.assertIn("math.random(0, 9)", script)
        self.assertIn("string.format('/api/s%d/x', n)", script)
        self.assertIn("headers['X-Key'] = string.format('key-%d', n)", script)


class Readme(unittest.TestCase):
    def test_only_what_is_between_the_marks_changes(self):
        import tempfile
        from harness import readme
        with tempfile.NamedTemporaryFile("w+", suffix=".md") as file:
            file.write("a\n<!-- peers -->\nold\n<!-- end of peers -->\nb\n")
            file.flush()
            readme.replace("peers", "\nnew\n\n", file.name)
            with open(file.name) as text:
                self.assertEqual(text.read(), "a\n<!-- peers -->\nnew\n<!-- end of peers -->\nb\n")
            with self.assertRaises(SystemExit):
                readme.replace("growth", "new", file.name)


if __name__ == "__main__":
    unittest.main()
