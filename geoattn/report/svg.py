"""SVG pictures made fit to stand inside a page: safe, without names that clash, and in the page's own font."""

import io
import re
import xml.etree.ElementTree as ET

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from geoattn.errors import InputError

_DROPPED = {"script", "foreignObject", "metadata", "style", "title", "iframe", "animate", "set", "handler"}
_SAFE_TARGETS = ("#", "data:image/png", "data:image/jpeg")
_LOCAL_REFERENCE = re.compile(r"url\(\s*[\"']?#([^)\"']+)[\"']?\s*\)")
_MATPLOTLIB_FONT = re.compile(r"(?:'DejaVu Sans'|&quot;DejaVu Sans&quot;)[^;]*")


def figure_svg(figure: Figure) -> str:
    """The figure as SVG text with real letters; the same figure gives the same text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "geoattn", "savefig.dpi": 200}):
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return target.getvalue()


def inline_svg(svg: str, prefix: str, description: str) -> Markup:
    """One SVG picture as an element of an HTML page.

    Scripts, event handlers, outside references and style sheets (which would reach the whole page) are left out;
    every id gets ``prefix``, so that two pictures on a page do not share names.

    Args:
        svg: the text of an SVG file.
        prefix: unique on the page.
        description: what the picture shows, read aloud by screen readers.

    Raises:
        InputError: the text is not well-formed SVG.
    """
    try:
        root = ET.fromstring(svg)
    except ET.ParseError as error:
        raise InputError(f"svg: not well-formed ({error}), expected the text of an SVG picture.") from error
    if _local(root.tag) != "svg":
        raise InputError(f"svg: the outermost element is <{_local(root.tag)}>, expected <svg>.")
    _clean(root, prefix)
    _scale_with_the_page(root)
    root.set("role", "img")
    root.set("aria-label", description)
    # Matplotlib says this once for all elements, in the style sheet that was dropped.
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    return Markup(ET.tostring(root, encoding="unicode", short_empty_elements=True))


def _clean(element: ET.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    for name, value in list(element.attrib.items()):
        del element.attrib[name]
        plain = _local(name)
        if plain.lower().startswith("on") or plain in ("base", "space"):
            continue
        if plain == "href":
            if not value.startswith(_SAFE_TARGETS):
                continue
            value = f"#{prefix}{value[1:]}" if value.startswith("#") else value
        elif plain == "id":
            value = prefix + value
        elif "url(" in value:
            value = _LOCAL_REFERENCE.sub(rf"url(#{prefix}\1)", value)
            if re.search(r"url\(\s*[\"']?[^#\"'\s]", value):
                continue
        element.set(plain, _MATPLOTLIB_FONT.sub("inherit-font", value).replace("inherit-font", "system-ui, sans-serif"))
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _scale_with_the_page(root: ET.Element) -> None:
    """A viewBox instead of a fixed size; the natural width stays as the widest the page will draw it."""
    width, height = (_pixels(root.get(side)) for side in ("width", "height"))
    if root.get("viewBox") is None and width and height:
        root.set("viewBox", f"0 0 {width:g} {height:g}")
    for side in ("width", "height"):
        root.attrib.pop(side, None)
    if width:
        root.set("width", f"{width:g}")


def _pixels(length: str | None) -> float:
    match = re.fullmatch(r"\s*([\d.]+)(pt|px)?\s*", length or "")
    return float(match[1]) * (4 / 3 if match[2] == "pt" else 1) if match else 0.0


def _local(name: str) -> str:
    return name.rpartition("}")[2]
