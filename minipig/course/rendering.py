"""One file of the course as HTML: a notebook, a deck of slides, Markdown, Python.

Equations become MathML, which a browser draws without a network.
"""

import posixpath
import re
from html import escape
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Callable
from urllib.parse import unquote

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter, SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from minipig.course.files import PACKAGE, home

PAGES = {".md": ".html", ".ipynb": ".html", ".py": ".py.html"}  # how a file's page ends
PICTURES = {".png", ".gif", ".jpg"}
ADDRESS = re.compile(r"^[a-z]+:")  # of another site
# a cell with checks, or with what only Colab needs, is folded under its first comment
FOLDED = """\
{%- extends 'classic/base.html.j2' -%}
{%- block codecell -%}
{%- set tags = cell.metadata.get('tags', []) -%}
{%- if 'check' in tags or 'install' in tags -%}
<details><summary>{{ cell.source | summary }}</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock codecell -%}"""
# equations need no MathJax
DECK = """\
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js_mathjax -%}{%- endblock html_head_js_mathjax -%}
{%- block html_head_css -%}<style>
.reveal .jp-RenderedHTMLCommon { font-size: 28px; line-height: 1.4; }
.reveal h1 { font-size: 52px !important; } .reveal h2 { font-size: 40px !important; }
.reveal .highlight pre, .reveal .jp-OutputArea-output pre { font-size: 21px; line-height: 1.4; }
.reveal .jp-OutputArea img { width: 100%; height: auto; max-height: 420px; object-fit: contain; }
math[display="block"] { margin: 1.2rem 0; font-size: .82em; }
</style>{%- endblock html_head_css -%}"""


def page_of(path: str) -> str:
    """The page that shows a file of the repository: notebooks/README.md -> notebooks/index.html."""
    page = PurePosixPath(path)
    if page.name == "README.md":
        return str(page.with_name("index.html"))
    return str(page.with_suffix(PAGES.get(page.suffix, page.suffix)))


def located(path: str) -> Path | None:
    """A file of the repository: of the package, or of the course beside it; None without it."""
    root = PACKAGE.parent if path.startswith(f"{PACKAGE.name}/") else home()
    return root / path if (root / path).is_file() else None


def mathml(formula: str, display: str) -> str:
    """A formula of LaTeX as MathML."""
    formula = re.sub(r"\\tag\{(.*?)\}", r"\\qquad\\text{(\1)}", formula)
    # only \mathbb{E}, with braces, becomes a letter that every browser draws
    braced = re.sub(r"\\(math\w+) (\w)", r"\\\1{\2}", formula)
    return convert(braced, display=display).replace(r"\_", "_")  # inside of \text


def summary(source: str) -> str:
    """What a folded cell says of itself: the comment that it begins with."""
    comment = takewhile(lambda line: line.startswith("#"), source.splitlines())
    return escape(" ".join(line.lstrip("# ") for line in comment))


class Renderer(IPythonRenderer):
    """Markdown of one file as HTML; collects the files that it links to."""

    def __init__(self, path: str, links: set[str]):
        super().__init__(escape=False)
        self.of = path
        self.links = links

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def heading(self, text: str, level: int, **attrs) -> str:
        """With the anchor that a link to it names: in small letters, with hyphens."""
        words = re.sub(r"<[^>]+>", "", text)
        anchor = re.sub(r"[^\w -]", "", words).lower().replace(" ", "-")
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link to a file that the course lacks becomes its text."""
        here = self.here(url)
        return super().link(text, here, title) if here else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture that the course lacks, as in a wheel, becomes its text."""
        here = self.here(url)
        return super().image(text, here, title) if here else f"<em>{text}</em>"

    def here(self, url: str) -> str | None:
        """The address, within the site, of a link in this file; None if there is no such page."""
        if ADDRESS.match(url) or url.startswith("#"):
            return url
        target, _, anchor = url.partition("#")
        folder = posixpath.dirname(self.of)
        path = posixpath.normpath(posixpath.join(folder, unquote(target)))
        if PurePosixPath(path).suffix not in PICTURES | PAGES.keys() or not located(path):
            return None
        self.links.add(path)
        page = posixpath.relpath(page_of(path), folder or ".")
        return f"{page}#{anchor}" if anchor else page


def titled(path: str) -> str:
    return f"{Path(path).stem.replace('_', ' ')} · minipig"


def slides_of(path: str, links: set[str]) -> str:
    """The page of a deck of reveal.js; code that is folded in the notebook is not on its slides."""
    deck = nbformat.read(located(path), as_version=4)
    for cell in deck.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}
    markdown = MarkdownWithMath(Renderer(path, links)).render
    exporter = SlidesExporter(raw_template=DECK, **settings(markdown))
    page, _ = exporter.from_notebook_node(deck, dict(metadata=dict(name=titled(path))))
    return page


def body_of(path: str, links: set[str]) -> str:
    """The inside of a file's page; adds the files that it links to."""
    text = located(path).read_text("utf-8")
    if path.endswith(".py"):
        source = highlight(text, PythonLexer(), HtmlFormatter())
        return f'<h1>{path}</h1><div class="source">{source}</div>'
    markdown = MarkdownWithMath(Renderer(path, links)).render
    if path.endswith(".md"):
        return markdown(text)
    exporter = HTMLExporter(raw_template=FOLDED, **settings(markdown))
    body, _ = exporter.from_notebook_node(nbformat.reads(text, as_version=4))
    return body


def settings(markdown: Callable[[str], str]) -> dict:
    """How nbconvert draws a notebook: no prompts, and its Markdown by `markdown`."""
    filters = {"markdown2html": markdown, "summary": summary}
    return dict(filters=filters, exclude_input_prompt=True, exclude_output_prompt=True)
