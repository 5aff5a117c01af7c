"""The parts of `benches/README.md` that runs write themselves, between two comments."""

import os

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE = os.path.join(FOLDER, "README.md")


def replace(name, text, file=FILE):
    """Puts `text` between `<!-- NAME -->` and `<!-- end of NAME -->`."""
    with open(file) as old:
        before, begin, rest = old.read().partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->\n")
    if not end:
        raise SystemExit(f"{file} has no part `{name}`")
    with open(file, "w") as new:
        new.write(f"{before}{begin}{text.strip()}\n{end}{after}")
