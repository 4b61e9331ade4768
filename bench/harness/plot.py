"""A bar for each ratio, on a logarithmic scale around 1, as SVG."""

import math
from xml.sax.saxutils import escape

from report import number

ROW, GAP, LEFT, WIDTH, RIGHT, TOP = 18, 14, 330, 460, 150, 56
COLOURS = {"api": "#1b7837", "shim": "#1b7837", "api-forwarded": "#5aae61",
           "shim-forwarded": "#5aae61", "haproxy": "#9970ab", "envoy": "#762a83"}


def _text(x, y, text, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _scale(ratios):
    low = min([1.0] + [least for _, least, _ in ratios])
    high = max([1.0] + [most for _, _, most in ratios])
    first = math.floor(math.log10(low) * 2) / 2
    last = math.ceil(math.log10(high) * 2) / 2
    if last - first < 0.5:
        first, last = first - 0.5, last + 0.5

    def place(value):
        return LEFT + (math.log10(value) - first) / (last - first) * WIDTH
    ticks = [m * 10.0 ** e for e in range(math.floor(first), math.ceil(last) + 1) for m in (1, 2, 5)]
    return place, [t for t in ticks if first - 1e-9 <= math.log10(t) <= last + 1e-9]


def svg(groups, machine):
    """groups as for report.markdown()."""
    bars = [[(row, row.ratios(rows[0])) for row in rows[1:] if row.ratios(rows[0])]
            for rows in groups]
    shown = [(rows[0].case, group) for rows, group in zip(groups, bars) if group]
    place, ticks = _scale([r for _, group in shown for _, r in group])
    height = TOP + sum(GAP + ROW + ROW * len(group) for _, group in shown) + 30
    width = LEFT + WIDTH + RIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(12, 20, "Times better than the kernel's TCP loopback", extra=' font-size="15"'),
        _text(12, 38, f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; "
              "line: least to most of the rounds", extra=' fill="#555"'),
    ]
    for tick in ticks:
        x = place(tick)
        strong = tick == 1.0
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - 22}" '
                   f'stroke="{"#333" if strong else "#ddd"}"/>')
        out.append(_text(x, height - 8, f"{tick:g}x", "middle", ' fill="#555"'))
    y = TOP
    for case, group in shown:
        y += GAP + ROW
        out.append(_text(12, y - 5, case.title, extra=' font-weight="bold"'))
        for row, (median, least, most) in group:
            left, right = sorted((place(1.0), place(median)))
            middle = y + ROW / 2
            out.append(_text(LEFT - 8, middle + 4, row.label, "end"))
            out.append(f'<rect x="{left:.1f}" y="{y + 3}" width="{max(right - left, 1):.1f}" '
                       f'height="{ROW - 6}" fill="{COLOURS.get(row.way, "#777")}"/>')
            out.append(f'<line x1="{place(least):.1f}" y1="{middle}" x2="{place(most):.1f}" '
                       f'y2="{middle}" stroke="black"/>')
            out.append(_text(max(place(most), right) + 6, middle + 4, f"{number(median)}x"))
            y += ROW
    if not shown:
        out.append(_text(LEFT, TOP + 10, "nothing to compare"))
    out.append("</svg>\n")
    return "\n".join(out)
