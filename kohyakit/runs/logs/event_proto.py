"""One TensorBoard event read by hand: the fields of `Event`, `Summary` and `TensorProto` that hold scalars.

Only what a scalar needs is looked at; pictures, histograms and texts are stepped over without being read.
Source of the field numbers: event.proto, summary.proto, tensor.proto and types.proto of TensorFlow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

SCALARS_PLUGIN = b"scalars"


class Bytes(Protocol):
    """bytes, or something read piece by piece that can be indexed and sliced like it."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: Any) -> Any: ...


class Malformed(ValueError):
    """Bytes that are no event."""


def varint(data: Bytes, at: int) -> tuple[int, int]:
    """An unsigned variable-length integer -> (value, where it ends)."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number runs past the end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def parts(data: Bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields between two places -> (field number, wire type, start, end of its value); nothing is copied."""
    while at < end:
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            _, stop = varint(data, at)
        elif wire == 1:
            stop = at + 8
        elif wire == 2:
            length, at = varint(data, at)
            stop = at + length
        elif wire == 5:
            stop = at + 4
        else:
            raise Malformed(f"wire type {wire}")
        if stop > end:
            raise Malformed("a field runs past the end")
        yield key >> 3, wire, at, stop
        at = stop


def scalars(data: Bytes, plugins: dict[str, bytes]) -> tuple[float, int, list[tuple[str, float]]]:
    """An Event -> (wall time in seconds, step, [(tag, value)]).

    plugins: which plug-in each tag of the file belongs to, filled in here: writers may say it only the first time.
    Raises Malformed for bytes that are no event.
    """
    wall_time, step, found = 0.0, 0, []
    for field, wire, start, end in parts(data, 0, len(data)):
        if field == 1 and wire == 1:
            (wall_time,) = struct.unpack("<d", data[start:end])
        elif field == 2 and wire == 0:
            step = varint(data, start)[0]
            step -= (step >> 63) << 64
        elif field == 5 and wire == 2:
            for number, kind, low, high in parts(data, start, end):
                if number == 1 and kind == 2:
                    value = _value(data, low, high, plugins)
                    if value is not None:
                        found.append(value)
    return wall_time, step, found


def wall_time(data: Bytes) -> float | None:
    """When an event was written, in seconds since 1970."""
    for field, wire, start, end in parts(data, 0, len(data)):
        if (field, wire) == (1, 1):
            (seconds,) = struct.unpack("<d", data[start:end])
            return seconds if math.isfinite(seconds) and seconds > 0 else None
    return None


def session_start(data: Bytes) -> int | None:
    """The step at which a writer that was started again goes on (SessionLog.START); None for any other event."""
    step, starts = 0, False
    for field, wire, start, end in parts(data, 0, len(data)):
        if field == 2 and wire == 0:
            step = varint(data, start)[0]
            step -= (step >> 63) << 64
        elif field == 7 and wire == 2:
            statuses = [
                varint(data, low)[0] for number, kind, low, _ in parts(data, start, end) if (number, kind) == (1, 0)
            ]
            starts = statuses[-1:] == [1]
    return step if starts else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a record with one scalar keeps its wall time (8 bytes), step (a varint, none for 0) and value.

    value_type: `<f4` or `<f8`. Every other byte is the same in all records of the tag.
    """

    tag: str
    wall_at: int
    step_at: int
    step_bytes: int
    value_at: int
    value_type: str


def layout(data: bytes, plugins: dict[str, bytes]) -> Layout | None:
    """The layout of an event with exactly one scalar; None for any other event. Raises Malformed."""
    _, _, found = scalars(data, plugins)
    events = list(parts(data, 0, len(data)))
    walls = [start for field, wire, start, _ in events if (field, wire) == (1, 1)]
    steps = [(start, end) for field, wire, start, end in events if (field, wire) == (2, 0)]
    summaries = [(start, end) for field, wire, start, end in events if (field, wire) == (5, 2)]
    logs_session = any(field == 7 for field, *_ in events)
    if len(found) != 1 or len(walls) != 1 or len(steps) > 1 or len(summaries) != 1 or logs_session:
        return None
    values = [(start, end) for *_, start, end in parts(data, *summaries[0])]
    place = _value_place(data, *values[0]) if len(values) == 1 else None
    if place is None:
        return None
    step_at, step_end = steps[0] if steps else (0, 0)
    return Layout(found[0][0], walls[0], step_at, step_end - step_at, *place)


def _value_place(data: bytes, start: int, end: int) -> tuple[int, str] | None:
    """Where a Summary.Value keeps its number, if that is one float of fixed size."""
    places: list[tuple[int, str] | None] = []
    for field, wire, low, high in parts(data, start, end):
        if (field, wire) == (2, 5):
            places.append((low, "<f4"))
        elif (field, wire) == (8, 2):
            inside = list(parts(data, low, high))
            kinds = [varint(data, first)[0] for number, kind, first, _ in inside if (number, kind) == (1, 0)]
            field_of = {1: (4, 5), 2: (4, 6)}.get(kinds[-1] if kinds else 0, ())
            size = {1: 4, 2: 8}.get(kinds[-1] if kinds else 0, 0)
            numbers = [(first, last - first) for number, _, first, last in inside if number in field_of]
            fits = len(numbers) == 1 and numbers[0][1] == size
            places.append((numbers[0][0], f"<f{size}") if fits else None)
    return places[0] if len(places) == 1 else None


def _value(data: Bytes, start: int, end: int, plugins: dict[str, bytes]) -> tuple[str, float] | None:
    """A Summary.Value: simple_value, or a tensor with one number that belongs to the scalars plug-in."""
    tag, simple, tensor = "", None, None
    plugin: bytes | None = None
    for field, wire, low, high in parts(data, start, end):
        if field == 1 and wire == 2:
            tag = bytes(data[low:high]).decode("utf-8", "replace")
        elif field == 2 and wire == 5:
            (simple,) = struct.unpack("<f", data[low:high])
        elif field == 8 and wire == 2:
            tensor = (low, high)
        elif field == 9 and wire == 2:
            plugin = _plugin(data, low, high)
    if plugin is not None:
        plugins[tag] = plugin
    if simple is not None:
        return tag, simple
    if tensor is not None and plugins.get(tag, SCALARS_PLUGIN) == SCALARS_PLUGIN:
        number = _tensor(data, *tensor)
        return None if number is None else (tag, number)
    return None


def _plugin(data: Bytes, start: int, end: int) -> bytes:
    """SummaryMetadata.plugin_data.plugin_name."""
    for field, wire, low, high in parts(data, start, end):
        if field == 1 and wire == 2:
            for number, kind, first, last in parts(data, low, high):
                if number == 1 and kind == 2:
                    return bytes(data[first:last])
    return b""


# DataType -> (struct format of tensor_content, the field of single values, how that field packs one)
_TYPES = {
    1: ("<f", 5, "<f"), 2: ("<d", 6, "<d"), 3: ("<i", 7, ""), 4: ("<B", 7, ""), 5: ("<h", 7, ""), 6: ("<b", 7, ""),
    9: ("<q", 10, ""), 10: ("<?", 11, ""), 14: ("bf16", 13, ""), 17: ("<H", 7, ""), 19: ("<e", 13, ""),
    22: ("<I", 16, ""), 23: ("<Q", 17, ""),
}  # fmt: skip


def _tensor(data: Bytes, start: int, end: int) -> float | None:
    """The number of a tensor that holds exactly one; None for any other tensor."""
    kind, count, content, single = 0, 1, b"", {}
    for field, wire, low, high in parts(data, start, end):
        if field == 1 and wire == 0:
            kind = varint(data, low)[0]
        elif field == 2 and wire == 2:
            count = math.prod(_dimensions(data, low, high))
        elif field == 4 and wire == 2:
            if high - low > 8:
                return None
            content = bytes(data[low:high])
        elif high - low <= 10:
            single[field] = bytes(data[low:high])
    if kind not in _TYPES or count != 1:
        return None
    layout, field, packed = _TYPES[kind]
    if content:
        return _number(layout, content)
    raw = single.get(field, b"")
    if not raw:
        return 0.0
    if packed:
        return _number(packed, raw)
    return _from_varint(layout, varint(raw, 0)[0])


def _dimensions(data: Bytes, start: int, end: int) -> Iterator[int]:
    """The sizes in a TensorShapeProto."""
    for field, wire, low, high in parts(data, start, end):
        if field == 2 and wire == 2:
            sizes = [varint(data, first)[0] for number, _, first, _ in parts(data, low, high) if number == 1]
            yield sizes[0] if sizes else 0


def _number(layout: str, raw: bytes) -> float | None:
    if layout == "bf16":
        layout, raw = "<f", b"\0\0" + raw
    if struct.calcsize(layout) != len(raw):
        return None
    return float(struct.unpack(layout, raw)[0])


def _from_varint(layout: str, value: int) -> float | None:
    """A single value that its field keeps as a varint: integers as they are, half floats as their 16 bits."""
    if layout in ("bf16", "<e"):
        return _number(layout, struct.pack("<H", value & 0xFFFF))
    if layout in ("<i", "<h", "<b", "<q"):
        value -= (value >> 63) << 64
    return float(value)
