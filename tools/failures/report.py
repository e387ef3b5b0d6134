"""What was seen, for people: a line of the table for each fault, and a picture of one run's requests over time."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

from tools.failures.client import Request
from tools.failures.measure import median, quantile
from tools.failures.scene import Fault, Seen, no_more

HEADER = (
    "| fault | what | runs | requests | failed | lost | p50 | p99 | longest | out of DNS "
    "| healed after, median | longest | marks | held |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
NOT_HELD = "What did not hold:"
# Shapes of the picture, in its own units.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 380, 70, 20, 56, 46
SLOWEST, FASTEST = 20.0, 0.002
"""Seconds at the top and the bottom."""


def milliseconds(seconds: float) -> str:
    """A time with its unit.

    >>> milliseconds(0.0123), milliseconds(4.56)
    ('12 ms', '4.6 s')
    """
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def wanted(fault: Fault) -> str:
    """What must hold, in few words; that no acknowledged write may be lost is not said."""
    marks = fault.marks
    words = []
    if marks.answer is not None:
        words += [f"0 failed in {marks.absence:g} s, then 503"] if marks.absence else ["503"]
        words[-1] += f" within {marks.answer:g} s"
    elif marks.failed is not None:
        words.append(f"{marks.failed} failed")
    for value, what in ((marks.out, "out"), (marks.serves, "serves"), (marks.healed, "healed")):
        words += [f"{what} in {value:g} s"] if value is not None else []
    words += [f"p99 {milliseconds(marks.p99)}"] if marks.p99 is not None else []
    words += ["names stay"] if marks.stays else []
    if fault.more is not no_more:
        own = (fault.more.__doc__ or "").strip().rstrip(".")
        words.append(own[:1].lower() + own[1:])
    return ", ".join(words)


def row(fault: Fault, runs: Sequence[Seen]) -> str:
    """The line of a fault in the table."""
    times = [request.seconds for seen in runs for request in seen.during]
    out = [seen.out for seen in runs if seen.out is not None]
    healing = [seen.healing for seen in runs if seen.healing is not None]
    held = sum(not seen.problems for seen in runs)
    known = all(not fault.surprises(seen) for seen in runs)
    cells = [
        f"`{fault.name}`",
        fault.what,
        str(len(runs)),
        str(sum(len(seen.requests) for seen in runs)),
        str(sum(len(seen.failed) for seen in runs)),
        str(sum(seen.lost for seen in runs)),
        milliseconds(quantile(times, 0.5)),
        milliseconds(quantile(times, 0.99)),
        milliseconds(max(times, default=0)),
        f"{max(out):.1f} s" if out else "stayed" if fault.victim else "",
        f"{median(healing):.1f} s" if healing else "never",
        f"{max(healing):.1f} s" if len(healing) == len(runs) else "never",
        wanted(fault),
        "yes" if held == len(runs) else (f"{held} of {len(runs)}" if held else "no") + (", as known" if known else ""),
    ]
    return "| " + " | ".join(cells) + " |"


def causes(fault: Fault, runs: Sequence[Seen]) -> list[str]:
    """What did not hold, each sentence once, with the runs in which it did not."""
    found: dict[str, list[int]] = {}
    for number, seen in enumerate(runs, 1):
        for problem in [*seen.problems, *seen.mismatches()]:
            found.setdefault(problem, []).append(number)
    return [f"- `{fault.name}`, run {', '.join(map(str, numbers))}: {problem}." for problem, numbers in found.items()]


def merge(
    text: str,
    order: Sequence[str],
    measured: dict[str, tuple[str, list[str]]],
    size: str,
    shown: str = "",
    table: str = "table",
) -> str:
    """A page with the lines of what was measured in place of its own, the others as they were.

    Args:
        text: the page, which has a line that begins with "Measured on", a table and what did not hold.
        order: the names of all faults.
        measured: to each name its line and the sentences on what did not hold.
        size: when and where it was measured.
        shown: the picture, as Markdown.
        table: the words of the comment that stands before the table; one that says "end" stands behind it.

    """
    before, _, rest = text.partition(f"<!-- {table} -->")
    old, _, after = rest.partition("<!-- end -->")
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `([^`]+)` .*$", old, re.MULTILINE)}
    said: dict[str, list[str]] = {}
    for found in re.finditer(r"^- `([^`]+)`, .*$", old, re.MULTILINE):
        said.setdefault(found[1], []).append(found[0])
    for name, (line, sentences) in measured.items():
        rows[name], said[name] = line, sentences
    lines = [rows[name] for name in order if name in rows]
    missing = [f"`{name}`" for name in order if name not in rows]
    sentences = [sentence for name in order for sentence in said.get(name, [])]
    parts = [f"Measured on {size}", *([shown] if shown else []), "\n".join([HEADER, *lines])]
    parts += [f"Not measured yet: {', '.join(missing)}."] if missing else []
    parts += ["\n".join([NOT_HELD, "", *sentences])] if sentences else []
    return f"{before}<!-- {table} -->\n" + "\n\n".join(parts) + f"\n<!-- end -->{after}"


def marks(seen: Seen) -> list[tuple[float, str]]:
    """What was done when, in seconds from the break."""
    found = [(0.0, "broken")]
    if seen.out is not None:
        found.append((seen.late + seen.out, "out of DNS"))
    if seen.mended is not None:
        found.append((seen.mended - seen.broken, "mended"))
    if seen.healed is not None:
        found.append((seen.healed - seen.broken, "as before"))
    return found


def picture(fault: Fault, seen: Seen) -> str:
    """One run's requests over time, as SVG: a point for each, by when it was due and how long its answer took."""
    first, last = seen.requests[0].at - seen.broken, seen.requests[-1].at - seen.broken
    span = max(last - first, 1.0)

    def x(at: float) -> float:
        return LEFT + (at - first) / span * (WIDTH - LEFT - RIGHT)

    def y(seconds: float) -> float:
        share = math.log(min(max(seconds, FASTEST), SLOWEST) / FASTEST) / math.log(SLOWEST / FASTEST)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def point(request: Request) -> str:
        place = f'cx="{x(request.at - seen.broken):.1f}" cy="{y(request.seconds):.1f}"'
        return f'<circle {place} r="2" class="{request.kind if request.good else "failed"}"/>'

    shapes = [f'<text x="{LEFT}" y="20" class="title">{html.escape(fault.what[0].upper() + fault.what[1:])}</text>']
    for seconds in (0.01, 0.1, 1, 10):
        shapes.append(f'<path d="M{LEFT} {y(seconds):.1f}H{WIDTH - RIGHT}" class="grid"/>')
        shapes.append(f'<text x="{LEFT - 8}" y="{y(seconds) + 4:.1f}" class="end">{milliseconds(seconds)}</text>')
    step = next((step for step in (1, 2, 5, 10, 20, 60) if span / step <= 14), 120)
    for tick in range(math.ceil(first / step) * step, math.floor(last) + 1, step):
        shapes.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" class="middle">{tick}</text>')
    shapes.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" class="end">seconds from the break</text>')
    shapes += [point(request) for request in sorted(seen.requests, key=lambda request: not request.good)]
    for number, (at, what) in enumerate(marks(seen)):
        shapes.append(f'<path d="M{x(at):.1f} {TOP - 6}V{HEIGHT - BOTTOM}" class="mark"/>')
        shapes.append(
            f'<text x="{x(at) + 4:.1f}" y="{TOP - 8 + 13 * (number % 3)}" class="word">{what}, {at:.1f} s</text>'
        )
    legend = [("read", "read"), ("write", "write"), ("status", "status"), ("failed", "failed")]
    for number, (kind, word) in enumerate(legend):
        place = LEFT + number * 80
        shapes.append(f'<circle cx="{place}" cy="{HEIGHT - 14}" r="4" class="{kind}"/>')
        shapes.append(f'<text x="{place + 8}" y="{HEIGHT - 10}">{word}</text>')
    style = (
        "text{font:12px sans-serif;fill:#444}.title{font-size:15px;font-weight:bold;fill:#222}.end{text-anchor:end}"
        ".middle{text-anchor:middle}.grid{stroke:#ddd}.mark{stroke:#555;stroke-dasharray:4 3}.word{fill:#222}"
        ".read{fill:#3b7dd8}.write{fill:#2a9d6f}.status{fill:#9a7bd0}.failed{fill:#d33}"
    )
    body = "\n".join(shapes)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def write_picture(path: Path, fault: Fault, seen: Seen) -> None:
    """Write the picture of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(fault, seen), encoding="utf-8")
