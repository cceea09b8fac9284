"""XML from anybody: parsed without entities, bounded in size and depth, and written as text."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, indent, tostring
from xml.parsers import expat

from edge.errors import DataError
from trainer.data.annotations.files import read_bytes

# The tree takes some ten times the file's size in memory.
_MOST_BYTES = 512 << 20
_MOST_DEPTH = 32
# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _RefusedError(Exception):
    """What no annotation file has a use for."""


def parse(path: Path, what: str, root: str) -> Element:
    """Return the root element of an XML file; DataError for any other than `root`.

    A document type declaration is refused: entities (which can make gigabytes of a line, or read
    other files) need one, and annotations do not.
    """
    data = read_bytes(path, what, _MOST_BYTES)
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise _RefusedError(f"elements are nested deeper than {_MOST_DEPTH}")
        if depth == 1 and tag != root:
            raise _RefusedError(f"its root element is <{tag}>, not <{root}>")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def doctype(*_: object) -> None:
        raise _RefusedError("it declares a document type (<!DOCTYPE …>); take that line out")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
        return builder.close()
    except _RefusedError as error:
        place = f"line {parser.CurrentLineNumber}"
        raise DataError(f"{path}: not {what}: {place}: {error}") from error
    # An unknown encoding is a LookupError, a broken one a ValueError.
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path}: not {what}: {error}") from error


def root_tag(path: Path) -> str | None:
    """Return the name of a file's root element, or None for what does not begin as XML does."""
    parser = expat.ParserCreate()
    found: list[str] = []
    parser.StartElementHandler = lambda tag, _: found.append(tag)
    try:
        with path.open("rb") as stream:
            parser.Parse(stream.read(1 << 16), False)
    except (expat.ExpatError, OSError, LookupError, ValueError):
        pass
    return found[0] if found else None


def text_of(element: Element, path: str) -> str:
    """Return the text of a descendant, or "" without one."""
    return (element.findtext(path) or "").strip()


def document(root: Element) -> bytes:
    """Return an element as an XML file; DataError for text that XML cannot hold."""
    for element in root.iter():
        for value in (element.text or "", *element.attrib.values()):
            if _FORBIDDEN.search(value):
                raise DataError(f"{value!r}: holds a character that XML cannot; rename it")
    indent(root)
    return bytes(tostring(root, "utf-8", xml_declaration=True)) + b"\n"
