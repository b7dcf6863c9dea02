"""One file of the course as HTML: a notebook, slides, Markdown or source, and where its links lead.

Equations are MathML; pictures are inside.
"""

import posixpath
import re
from html import escape
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter, SlidesExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from minipig.course.files import PACKAGE, home

SLIDES = "notebooks/slides/"
ENDINGS = {".md": ".html", ".ipynb": ".html", ".py": ".py.html"}  # how a file's page ends
PICTURES = {".png", ".gif", ".jpg"}
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
    return str(page.with_suffix(ENDINGS.get(page.suffix, page.suffix)))


def address(path: str, of: str) -> str:
    """The page of a file, in a link on the page of another."""
    return posixpath.relpath(page_of(path), posixpath.dirname(of) or ".")


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
        if re.match("[a-z]+:|#", url):  # of another site, or of this page
            return url
        target, _, anchor = url.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.of), unquote(target)))
        if PurePosixPath(path).suffix not in PICTURES | ENDINGS.keys() or not located(path):
            return None
        self.links.add(path)
        return address(path, self.of) + (f"#{anchor}" if anchor else "")


def titled(path: str) -> str:
    return f"{Path(path).stem.replace('_', ' ')} · minipig"


def rendered(path: str, links: set[str]) -> str:
    """The inside of a file's page, of slides the whole page; adds the files that it links to.

    Code that is folded in a notebook is not on its slides.
    """
    text = located(path).read_text("utf-8")
    if path.endswith(".py"):
        source = highlight(text, PythonLexer(), HtmlFormatter())
        return f'<h1>{path}</h1><div class="source">{source}</div>'
    markdown = MarkdownWithMath(Renderer(path, links)).render
    if path.endswith(".md"):
        return markdown(text)
    notebook = nbformat.reads(text, as_version=4)
    filters = {"markdown2html": markdown, "summary": summary}
    how = dict(filters=filters, exclude_input_prompt=True, exclude_output_prompt=True)
    if path.startswith(SLIDES):
        for cell in notebook.cells:
            if cell.metadata.get("jupyter", {}).get("source_hidden"):
                cell.metadata["transient"] = {"remove_source": True}
        exporter = SlidesExporter(raw_template=DECK, **how)
    else:
        exporter = HTMLExporter(raw_template=FOLDED, **how)
    page, _ = exporter.from_notebook_node(notebook, dict(metadata=dict(name=titled(path))))
    return page
