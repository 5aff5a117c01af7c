"""Lines in a rectangle, as SVG: what `run` draws its figures with. No colours or fonts to install."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 300, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 30, 40
LINE, GRID, TEXT = "#1f6feb", "#d0d7de", "#57606a"


def figure(panels):
    """Panels side by side: each (title, label of x, [(x, y)])."""
    parts = [panel(title, label, points, WIDTH * number) for number, (title, label, points) in enumerate(panels)]
    width = WIDTH * len(panels)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
            f'font-family="sans-serif" font-size="11">\n<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def panel(title, label, points, shift):
    xs, ys = [x for x, _ in points], [y for _, y in points]
    across, top = x_scale(xs), nice_above(max(ys + [1e-9]))
    place_x = lambda x: shift + LEFT + across(x) * (WIDTH - LEFT - RIGHT)
    place_y = lambda y: HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)
    parts = [text(shift + LEFT, 16, title, "start", "#24292f", 'font-weight="bold"')]
    for step in range(5):
        y = top * step / 4
        parts.append(f'<path d="M{shift + LEFT} {place_y(y):.1f}H{shift + WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(text(shift + LEFT - 6, place_y(y) + 4, short(y), "end"))
    for x in xs:
        parts.append(text(place_x(x), HEIGHT - BOTTOM + 16, short(x), "middle"))
    parts.append(text(shift + (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, label, "middle"))
    line = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    parts += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{LINE}"/>' for x, y in points]
    return "\n".join(parts)


def x_scale(xs):
    """To 0…1: by logarithm where the largest is a hundred times the smallest, else evenly."""
    low, high = min(xs), max(xs)
    if low > 0 and high >= 100 * low:
        return lambda x: (math.log(x) - math.log(low)) / (math.log(high) - math.log(low))
    return lambda x: (x - low) / max(high - low, 1e-9)


def nice_above(value):
    """The smallest of 1, 2, 4, 5 or 8 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10, 20) if step * power >= value)


def short(value):
    for size, letter in [(1e6, "M"), (1e3, "k")]:
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def text(x, y, words, anchor, colour=TEXT, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {more}>{escape(words)}</text>'
