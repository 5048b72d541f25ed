"""Charts as server-rendered SVG: geometry here, colours in the stylesheet by class.

Every chart is a `<figure>` with a caption, a sentence that says what it shows, and the same figures
as a table, so that it reads without eyes and works under a policy that forbids inline styles.
Pure functions: numbers in, safe HTML out. `None` is a gap, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

Number = int | float | Decimal
Value = Number | None

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 24


@dataclass(frozen=True)
class Series:
    """One named row of values, one per label."""

    name: str
    values: Sequence[Value]


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ⁿ that is not below `value` (1 for nothing)."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def number_text(value: Value, unit: str = "") -> str:
    """Short human text: 1,204 or 2.4 or –, with the unit when one is given."""
    if value is None:
        return "–"
    number = float(value)
    text = (
        f"{number:,.0f}"
        if abs(number) >= 100 or number == int(number)
        else f"{number:,.2f}".rstrip("0").rstrip(".")
    ).replace("-", "−")
    return f"{text} {unit.removesuffix('s') if number == 1 and len(unit) > 2 else unit}".strip()


def axis_text(level: float) -> str:
    """A figure beside the grid, short enough for a phone: 250, 2.5k, 40k, 1.2M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if abs(level) >= size:
            return f"{level / size:,.2f}".rstrip("0").rstrip(".").replace("-", "−") + letter
    return number_text(level)


def _known(series: Sequence[Series]) -> list[float]:
    return [float(value) for one in series for value in one.values if value is not None]


def _x(index: int, count: int) -> float:
    """Middle of the band of point `index`."""
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / max(count, 1), 1)


def _y(value: float, top: float, floor: float = 0.0) -> float:
    part = min(max((value - floor) / (top - floor), 0), 1)
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part, 1)


def _levels(floor: float, top: float, whole: bool) -> list[float]:
    """Where the grid's lines stand: half an order says nothing, so what is counted in wholes gets fifths."""
    middle = (floor + top) / 2
    if not whole or middle == int(middle):
        return [floor, middle, top]
    fifth = (top - floor) / 5
    return [floor + fifth * n for n in range(6)] if fifth == int(fifth) else [floor, top]


def _frame(
    labels: Sequence[str], top: float, unit: str, floor: float = 0.0, *, whole: bool = False
) -> SafeString:
    """Horizontal grid with its figures, and at most eight labels below (every other one on a phone)."""
    grid = format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (LEFT, WIDTH - RIGHT, _y(level, top, floor), _y(level, top, floor), LEFT - 6,
             _y(level, top, floor) + 4, axis_text(level))
            for level in _levels(floor, top, whole)
        ),
    )  # fmt: skip
    step = max(1, math.ceil(len(labels) / 8))
    below = format_html_join(
        "",
        '<text class="axis below{}" x="{}" y="{}" text-anchor="middle">{}</text>',
        (
            (" other" if i // step % 2 else "", _x(i, len(labels)), HEIGHT - 6, label)
            for i, label in enumerate(labels)
            if i % step == 0
        ),
    )
    return mark_safe(grid + below)  # noqa: S308 - both parts come from format_html


def _table(labels: Sequence[str], series: Sequence[Series], unit: str) -> SafeString:
    head = format_html_join("", '<th scope="col">{}</th>', ((one.name,) for one in series))
    rows = format_html_join(
        "",
        '<tr><th scope="row">{}</th>{}</tr>',
        (
            (label, format_html_join("", '<td class="num">{}</td>', (
                (number_text(one.values[i] if i < len(one.values) else None, unit),) for one in series)))
            for i, label in enumerate(labels)
        ),
    )  # fmt: skip
    return format_html(
        '<details class="chart-data"><summary>Figures as a table</summary>'
        '<div class="table-wrap" tabindex="0" role="region" '
        'aria-label="Figures"><table><thead><tr><th scope="col">When</th>{}</tr></thead>'
        "<tbody>{}</tbody></table></div></details>",
        head,
        rows,
    )


def _figure(kind: str, title: str, summary: str, body: SafeString, labels: Sequence[str], series: Sequence[Series],
            unit: str) -> SafeString:  # fmt: skip
    legend = SafeString("")
    if len(series) > 1:
        keys = format_html_join(
            "",
            '<li><span class="key s{}" aria-hidden="true"></span>{}</li>',
            ((i + 1, one.name) for i, one in enumerate(series)),
        )
        legend = format_html('<ul class="legend">{}</ul>', keys)
    return format_html(
        '<figure class="chart chart-{}"><figcaption>{}</figcaption>{}'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}. {}" '
        'preserveAspectRatio="xMidYMid meet">{}</svg><p class="chart-summary">{}</p>{}</figure>',
        kind, title, legend, WIDTH, HEIGHT, title, summary, body, summary, _table(labels, series, unit),
    )  # fmt: skip


def _empty(kind: str, title: str) -> SafeString:
    return format_html(
        '<figure class="chart chart-{}"><figcaption>{}</figcaption>'
        '<p class="chart-none">No figures for this range yet.</p></figure>',
        kind,
        title,
    )


def summarise(labels: Sequence[str], series: Sequence[Series], unit: str = "") -> str:
    """One sentence per series: last value, and lowest and highest where they differ, with their labels."""
    parts = []
    for one in series:
        known = [(float(value), i) for i, value in enumerate(one.values) if value is not None]
        if not known:
            parts.append(f"{one.name}: no figures.")
            continue
        low, high, last = min(known), max(known), known[-1]
        text = f"{one.name}: {number_text(last[0], unit)} ({labels[last[1]]})"
        if low[0] != high[0]:
            text += (
                f", lowest {number_text(low[0], unit)} ({labels[low[1]]})"
                f", highest {number_text(high[0], unit)} ({labels[high[1]]})"
            )
        parts.append(f"{text}.")
    return " ".join(parts)


def _limit(value: Value, top: float, name: str, unit: str, floor: float = 0.0) -> SafeString:
    if value is None:
        return SafeString("")
    y = _y(float(value), top, floor)
    return format_html(
        '<line class="limit" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="limit-text" x="{}" y="{}" text-anchor="end">{} {}</text>',
        LEFT, WIDTH - RIGHT, y, y, WIDTH - RIGHT, max(y - 4, 10), name, number_text(value, unit),
    )  # fmt: skip


def line(title: str, labels: Sequence[str], series: Sequence[Series], *, unit: str = "", target: Value = None,
         target_name: str = "target", shaded: Sequence[int] = (), floor: float = 0.0) -> SafeString:  # fmt: skip
    """Lines over time. `shaded` holds indexes of bands to shade (stock-out days); the axis begins at `floor`."""
    known = _known(series)
    if not known:
        return _empty("line", title)
    top = floor + nice_ceiling(max([*known, float(target or 0)]) - floor)
    count = len(labels)
    band = (WIDTH - LEFT - RIGHT) / max(count, 1)
    shades = format_html_join(
        "",
        '<rect class="shade" x="{}" y="{}" width="{}" height="{}"/>',
        ((round(_x(i, count) - band / 2, 1), TOP, round(band, 1), HEIGHT - TOP - BOTTOM) for i in shaded),
    )
    paths = []
    for number, one in enumerate(series, 1):
        path, pen_down = [], False
        for i, value in enumerate(one.values):
            if value is None:
                pen_down = False
                continue
            path.append(f"{'L' if pen_down else 'M'}{_x(i, count)} {_y(float(value), top, floor)}")
            pen_down = True
        dots = format_html_join(
            "",
            '<circle class="dot s{}" cx="{}" cy="{}" r="{}"><title>{}, {}: {}</title></circle>',
            (
                (
                    number,
                    _x(i, count),
                    _y(float(value), top, floor),
                    2 if count > 40 else 3,
                    one.name,
                    labels[i],
                    number_text(value, unit),
                )
                for i, value in enumerate(one.values)
                if value is not None
            ),
        )
        paths.append(format_html('<path class="line s{}" d="{}"/>{}', number, " ".join(path), dots))
    limit = _limit(target, top, target_name, unit, floor)
    body = mark_safe(_frame(labels, top, unit, floor) + shades + "".join(paths) + limit)  # noqa: S308 - all from format_html
    return _figure("line", title, summarise(labels, series, unit), body, labels, series, unit)


def bars(title: str, labels: Sequence[str], series: Sequence[Series], *, unit: str = "", target: Value = None,
         target_name: str = "target", stacked: bool = False, shaded: Sequence[int] = ()) -> SafeString:  # fmt: skip
    """Bars side by side, or stacked on each other. Values are not negative."""
    if not _known(series):
        return _empty("bar", title)
    count = len(labels)
    columns = [
        [float(one.values[i] or 0) if i < len(one.values) else 0.0 for one in series] for i in range(count)
    ]
    highest = max((sum(column) if stacked else max(column)) for column in columns)
    top = nice_ceiling(max(highest, float(target or 0)))
    whole = all(value == int(value) for value in _known(series))
    band = (WIDTH - LEFT - RIGHT) / count
    gap = min(band * 0.25, 12)
    marks = []
    for i in shaded:
        marks.append(format_html(
            '<rect class="shade" x="{}" y="{}" width="{}" height="{}"/>',
            round(LEFT + i * band, 1), TOP, round(band, 1), HEIGHT - TOP - BOTTOM,
        ))  # fmt: skip
    for i, column in enumerate(columns):
        base = 0.0
        for number, value in enumerate(column):
            width = (band - gap) if stacked else (band - gap) / len(column)
            x = LEFT + i * band + gap / 2 + (0 if stacked else number * width)
            y_top, y_base = _y(base + value, top), _y(base, top)
            marks.append(format_html(
                '<rect class="bar s{}" x="{}" y="{}" width="{}" height="{}"><title>{}, {}: {}</title></rect>',
                number + 1, round(x, 1), y_top, round(max(width, 1), 1), round(y_base - y_top, 1),
                series[number].name, labels[i],
                number_text(value, unit),
            ))  # fmt: skip
            base += value if stacked else 0
    frame = _frame(labels, top, unit, whole=whole)
    body = mark_safe(frame + "".join(marks) + _limit(target, top, target_name, unit))  # noqa: S308 - as above
    return _figure(
        "stacked" if stacked else "bar", title, summarise(labels, series, unit), body, labels, series, unit
    )


def histogram(
    title: str, values: Sequence[Number], *, bins: int = 12, unit: str = "", target: Value = None
) -> SafeString:
    """How often each size occurs; the last bin holds its upper border."""
    known = sorted(float(value) for value in values)
    if not known:
        return _empty("bar", title)
    top = nice_ceiling(known[-1])
    width = top / bins
    counts = [0] * bins
    for value in known:
        counts[min(int(value / width), bins - 1)] += 1
    labels = [f"{number_text(i * width)}–{number_text((i + 1) * width)}" for i in range(bins)]
    chart = bars(title, labels, [Series("count", counts)])
    middle = known[len(known) // 2]
    note = f"{len(known)} values, median {number_text(middle, unit)}"
    if target is not None:
        within = sum(1 for value in known if value <= float(target))
        note += f", {within / len(known):.1%} within {number_text(target, unit)}"
    return format_html('<div class="histogram">{}<p class="chart-summary">{}.</p></div>', chart, note)


def sparkline(values: Sequence[Value], label: str = "") -> SafeString:
    """A word-sized line; `label` says what it is for those who do not see it."""
    known = [float(value) for value in values if value is not None]
    if len(known) < 2:
        return SafeString("")
    top, low = max(known), min(known)
    span = (top - low) or 1
    count = len(values) - 1
    points = " ".join(
        f"{round(1 + 78 * i / count, 1)},{round(19 - 18 * (float(value) - low) / span, 1)}"
        for i, value in enumerate(values)
        if value is not None
    )
    text = f"from {number_text(known[0])} to {number_text(known[-1])}, highest {number_text(top)}"
    text = f"{label}: {text}" if label else text
    return format_html(
        '<svg class="sparkline" viewBox="0 0 80 20" role="img" aria-label="{}"><title>{}</title>'
        '<polyline points="{}"/></svg>',
        text,
        text,
        points,
    )


def heat(title: str, labels: Sequence[str], values: Sequence[Value], *, unit: str = "") -> SafeString:
    """One strip of cells in five shades, for a day by hours or a month by days."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return _empty("heat", title)
    top = max(known) or 1
    width = (WIDTH - RIGHT) / len(values)
    cells = format_html_join(
        "",
        '<rect class="heat h{}" x="{}" y="0" width="{}" height="26"><title>{}: {}</title></rect>',
        (
            (0 if not value else min(5, 1 + int(4.999 * float(value) / top)), round(i * width, 1),
             round(max(width - 2, 1), 1), labels[i], number_text(value, unit))
            for i, value in enumerate(values)
        ),
    )  # fmt: skip
    series = [Series(title, values)]
    summary = summarise(labels, series, unit)
    return format_html(
        '<figure class="chart chart-heat"><figcaption>{}</figcaption>'
        '<svg viewBox="0 0 {} 26" role="img" aria-label="{}">{}</svg>'
        '<p class="chart-summary">{}</p>{}</figure>',
        title, WIDTH - RIGHT, summary, cells, summary, _table(labels, series, unit),
    )  # fmt: skip
