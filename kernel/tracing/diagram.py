"""One fault as a picture: who did what, one line a step, and the messages between them as arrows.

Interface:
    fault_diagram(trace, fault) -> the text of an SVG file, legible in light and dark

Not here: the words in full (story.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from kernel.tracing.chart import COLOURS, STYLE
from kernel.tracing.story import Fault, snake, time_span
from mach.trace_file import Event, Trace

LANE, ROW, LEFT, TOP = 290, 34, 96, 84  # points
TOLD = (
    "fault",
    "page_alloc",
    "zero_fill",
    "copy",
    "page_in",
    "page_error",
    "enter",
    "fault_end",
    "device_read",
    "send",
)
TIP = """<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,0 L10,5 L0,10 z"/></marker>"""
MORE_STYLE = "line{stroke:#59636e}marker path{fill:#59636e}.small{font-size:12px}"


def fault_diagram(trace: Trace, fault: Fault) -> str:
    """Time goes down."""
    return _Diagram(trace, fault).svg()


class _Diagram:
    def __init__(self, trace: Trace, fault: Fault) -> None:
        self.trace = trace
        self.fault = fault
        within = [event for event in trace.within(fault.event) if event.kind in TOLD and self._is_told(event)]
        self.events = [fault.event, *within]
        threads = [self._who(event) for event in self.events]
        threads += [target for event in within if (target := self._target(event)) is not None]
        self.lanes = list(dict.fromkeys(threads))
        self.width = LEFT + LANE * len(self.lanes)
        self.height = TOP + ROW * len(self.events) + 24

    def _is_told(self, event: Event) -> bool:
        return event.kind != "send" or self._target(event) is not None

    def _who(self, event: Event) -> str:
        return f"{event.party}: {event.thread}"

    def _target(self, event: Event) -> str | None:
        """Whose thread a message wakes: its receiver's, or the one that waits for what it brings."""
        if event.kind != "send" or (event.cause and self.trace[event.cause].kind == "packet_in"):
            return None
        if str(event.values["message"]).startswith("Device"):
            return None  # the operation itself is told
        if self._answers(event):
            return self._who(self.fault.event)
        received = next((e for e in self.trace.within(event) if e.kind == "receive"), None)
        return None if received is None else self._who(received)

    def _answers(self, event: Event) -> bool:
        """Whether the page comes with it."""
        return any(e.kind in ("page_in", "page_error") for e in self.trace.within(event)) and not any(
            e.kind == "receive" for e in self.trace.within(event)
        )

    def svg(self) -> str:
        access = "store to" if self.fault.event.values["access"] == "write" else "load from"
        title = f"Fault {self.fault.number}: a {access} {self.fault.event.values['address']:#x}, {self.fault.how}"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}{MORE_STYLE}</style>",
            f"<defs>{TIP}</defs>",
            f'<rect class="paper" width="{self.width}" height="{self.height}"/>',
            f'<text class="title" x="16" y="28">{escape(title)}</text>',
            *self._heads(),
            *(line for row, event in enumerate(self.events) for line in self._row(row, event)),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _x(self, who: str) -> int:
        return LEFT + LANE * self.lanes.index(who) + 18

    def _heads(self) -> Iterator[str]:
        for who in self.lanes:
            x = self._x(who)
            yield f'<text x="{x}" y="60" font-weight="600">{escape(who)}</text>'
            yield f'<line class="grid" x1="{x}" y1="70" x2="{x}" y2="{self.height - 16}"/>'

    def _row(self, row: int, event: Event) -> Iterator[str]:
        y, x = TOP + ROW * row + 6, self._x(self._who(event))
        after = time_span(event.time - self.fault.event.time)
        yield f'<text class="quiet small" x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{after}</text>'
        target = self._target(event)
        if target is None:
            yield f'<circle cx="{x}" cy="{y}" r="5" fill="{_colour(event)}"/>'
            yield f'<text class="small" x="{x + 14}" y="{y + 4}">{escape(self._words(event))}</text>'
            return
        to = self._x(target)
        yield f'<line x1="{x}" y1="{y}" x2="{to}" y2="{y}" stroke-width="1.6" marker-end="url(#tip)"/>'
        label = snake(str(event.values["message"]))
        yield f'<text class="small" x="{(x + to) / 2}" y="{y - 6}" text-anchor="middle">{escape(label)}</text>'

    def _words(self, event: Event) -> str:
        values = event.values
        match event.kind:
            case "fault":
                return "the page is not there: a fault"
            case "page_alloc":
                return f"takes frame {values['frame']}"
            case "zero_fill":
                return f"fills frame {values['frame']} with zeros"
            case "copy":
                return f"copies frame {values['source']} to {values['frame']}"
            case "page_in":
                return f"frame {values['frame']} holds the page"
            case "page_error":
                return "the page cannot be had"
            case "enter":
                return f"maps frame {values['frame']}"
            case "device_read":
                took = self.trace.duration(event)
                return f"reads block at byte {values['offset']}" + ("" if took is None else f": {time_span(took)}")
        return "goes on" if values.get("result") == "KERN_SUCCESS" else f"fails: {values.get('result')}"


def _colour(event: Event) -> str:
    return {"fault": COLOURS[1], "device_read": COLOURS[0], "fault_end": COLOURS[2]}.get(event.kind, "#59636e")
