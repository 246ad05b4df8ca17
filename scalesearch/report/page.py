"""The page of every report: one HTML file that needs no network, from blocks of text, tables, figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from scalesearch.report.figures.style import DARK, LINE

# Nothing may be loaded from an address, whatever the names in the page contain.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

# What the page's template lays out: the kind of a block (a macro, or the class of a paragraph) and what it holds.
Block = tuple[str, Any]
Section = dict[str, Any]


def template(name: str) -> jinja2.Template:
    """A template of this package; it escapes every value that is not marked as safe."""
    loader = jinja2.PackageLoader("scalesearch.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


def page(name: str, head: Sequence[Block], sections: Sequence[Section], *, figures: bool = True) -> str:
    """The page titled `name`; without `figures` it holds no plotly, which is nearly all of its bytes."""
    resources = files("scalesearch.report")
    style, script = (Markup(resources.joinpath(file).read_text(encoding="utf-8")) for file in ("page.css", "page.js"))
    return template("page.html").render(
        name=name,
        policy=_POLICY,
        head=head,
        sections=sections,
        style=style,
        script=script,
        dark=dict(DARK),
        plotly=Markup(get_plotlyjs()) if figures else "",
    )


def section(key: str, title: str, *blocks: Block) -> Section:
    """A section of the page; `key` is its address in it."""
    return {"id": key, "title": title, "blocks": blocks}


def drawn(figure: go.Figure, name: str) -> dict[str, Any]:
    """A figure for page.js. Its title moves to the page; plotly's JSON has no character that could end the script."""
    layout = figure.layout
    title, alt = layout.meta["title"], layout.meta["alt"]
    above = 40 + LINE * layout.title.text.count("<br>")
    figure.update_layout(
        title_text=None, margin_t=layout.margin.t - above, height=layout.height - above, template="none"
    )
    return {"name": name, "title": title, "alt": alt, "json": Markup(figure.to_json())}
