"""XMP: dc:description and dc:subject, read and put into a packet in which all else stays as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from kohyakit.dataset.metadata.told import Told, Unfit, told

_DC, _RDF = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_OURS = re.compile(r"\s*<dc:(description|subject)\b[^>]*?(?:/>|>.*?</dc:\1\s*>)", re.DOTALL)
_SHELL = '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
_NEW = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    "</x:xmpmeta>"
)


def said(packet: bytes) -> Told:
    """Description (as a reader without a language sees it) and subjects. Raises Unfit for what is no XMP."""
    if not packet.strip(b"\0 \r\n\t"):
        return Told()
    root = _parsed(_text(packet))
    description, subjects = "", []
    for node in root.iter():
        if node.tag == _DC + "description":
            description = description or _plain(node)
        elif node.tag == _DC + "subject":
            subjects += [item.text or "" for item in node.iter(_RDF + "li")] or [node.text or ""]
        elif node.tag == _RDF + "Description":
            description = description or node.get(_DC + "description", "")
    return told(description, subjects)


def packet_with(packet: bytes, caption: str, tags: Iterable[str]) -> bytes:
    """The packet with these words in place of what it said. b"" makes a new one. Raises Unfit for one that is not
    written in the usual way, where nothing could be put without touching more.
    """
    tags = tuple(tags)
    text = _text(packet).rstrip("\0") if packet.strip(b"\0 \r\n\t") else _NEW
    if said(text.encode("utf-8")) == told(caption, tags):
        return packet
    head, end, tail = _OURS.sub("", text).replace(_SHELL + "</rdf:Description>", "").rpartition("</rdf:RDF>")
    items = "".join(f"<rdf:li>{escape(tag)}</rdf:li>" for tag in tags)
    ours = (
        f"{_SHELL}<dc:description><rdf:Alt>"
        f'<rdf:li xml:lang="x-default">{escape(caption)}</rdf:li></rdf:Alt></dc:description>'
        + (f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>" if tags else "")
        + "</rdf:Description>"
    )
    made = (head + ours + end + tail).encode("utf-8")
    if not end or said(made) != told(caption, tags):
        raise Unfit("has XMP that is written in an unusual way")
    return made


def _plain(node: ElementTree.Element) -> str:
    items = list(node.iter(_RDF + "li"))
    plain = next((item for item in items if item.get(_LANGUAGE) == "x-default"), items[0] if items else node)
    return plain.text or ""


def _text(packet: bytes) -> str:
    try:
        return packet.decode("utf-8")
    except UnicodeDecodeError:
        raise Unfit("has XMP that is not UTF-8") from None


def _parsed(text: str) -> ElementTree.Element:
    text = text.strip("\ufeff\0 \r\n\t")
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise Unfit("has XMP with definitions of its own, which are not followed")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, RecursionError, ValueError):
        raise Unfit("has XMP that is damaged") from None
