"""The picture of a run: each figure as a share of its bar, as SVG that is written here and depends on nothing."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.bars import Row, Verdict
from benchmarks.report import ABOUT, Report, figure

_WIDTH, _LEFT, _RIGHT = 960, 340, 150
_LINE, _HEADING, _TOP, _BOTTOM = 21, 38, 54, 34
_LARGEST = 2.0
"""Right end of the axis, in bars; what lies beyond is cut there and says so."""
_COLOURS = {Verdict.met: "#2b8a5b", Verdict.missed: "#c8452f", Verdict.unmeasured: "#8a8f98"}
_INK, _QUIET, _GRID, _PAPER = "#1f2430", "#5c6370", "#dfe3e8", "#ffffff"


def svg(report: Report) -> str:
    """The picture; rows without a bar are left out."""
    rows = [one.row for one in report.measured if one.row.bar]
    groups = {_group(row): [other for other in rows if _group(other) == _group(row)] for row in rows}
    sections = {section for section, _ in groups}
    height = _TOP + len(sections) * _HEADING + (len(groups) + len(rows)) * _LINE + _BOTTOM
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img" aria-label="Each figure as a share of its bar">',
        f'<rect width="{_WIDTH}" height="{height}" fill="{_PAPER}"/>',
        _text(16, 28, "Each figure as a share of its bar", size=17, weight=600),
        _text(16, 47, "left of the line the bar is met; the shorter, the better", colour=_QUIET),
        *_axis(height),
    ]
    y = _TOP
    above = ""
    for (section, quantity), members in groups.items():
        if section != above:
            y += _HEADING
            parts.append(_text(16, y - 8, ABOUT[section].heading, size=14, weight=600))
            above = section
        parts.append(_text(16, y + 15, quantity, colour=_QUIET, size=12))
        y += _LINE
        for row in members:
            parts += _bar(row, y)
            y += _LINE
    return "\n".join([*parts, "</svg>"]) + "\n"


def _group(row: Row) -> tuple[str, str]:
    return row.section, row.quantity


def _x(share: float) -> float:
    return round(_LEFT + min(share, _LARGEST) / _LARGEST * (_WIDTH - _LEFT - _RIGHT), 1)


def _axis(height: int) -> Sequence[str]:
    parts = []
    for tick in (0.0, 0.5, 1.0, 1.5, 2.0):
        line = f'stroke="{_INK}" stroke-width="1.5"' if tick == 1.0 else f'stroke="{_GRID}"'
        parts.append(f'<line x1="{_x(tick)}" x2="{_x(tick)}" y1="{_TOP + 8}" y2="{height - _BOTTOM + 4}" {line}/>')
        parts.append(_text(_x(tick), height - 12, "bar" if tick == 1.0 else f"{tick:g}", colour=_QUIET, anchor="middle"))
    return parts


def _bar(row: Row, y: int) -> Sequence[str]:
    colour = _COLOURS[row.verdict]
    parts = [_text(_LEFT - 10, y + 15, row.subject, anchor="end", size=12)]
    if row.value is None or row.bar is None:
        return [*parts, _text(_LEFT + 6, y + 15, "failed" if row.failed else "not measured", colour=colour, size=12)]
    share = row.bar.share(row.value)
    width = max(1.0, round(_x(share) - _LEFT, 1))
    parts.append(f'<rect x="{_LEFT}" y="{y + 4}" width="{width}" height="{_LINE - 8}" rx="2" fill="{colour}"/>')
    told = figure(row.value, row.unit) + (" ▸" if share > _LARGEST else "")
    parts.append(_text(_WIDTH - _RIGHT + 14, y + 15, told, colour=colour, size=12, weight=600))
    return parts


def _text(
    x: float, y: float, words: str, *, colour: str = _INK, size: int = 13, weight: int = 400, anchor: str = "start"
) -> str:
    style = f'fill="{colour}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
