"""The course as a site: executed notebooks, READMEs and the source they name, as linked pages.

No page but the slides needs a network: pictures are inside, and equations are MathML.
"""

import posixpath
import re
import shutil
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

from minipig.course.files import PACKAGE, course_files, home

START = "notebooks/README.md"
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
PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><nav>{around}</nav><main>{body}</main><nav>{around}</nav></body></html>
"""
STYLE = """\
body { margin: 0 auto; max-width: 56rem; padding: 0 1rem 3rem; font: 1.05rem/1.6 Georgia, serif;
  color: #1a1a1a; background: #fff; }
nav { display: flex; justify-content: space-between; gap: 1rem; padding: .8rem 0; }
nav, table, summary { font-family: system-ui, sans-serif; font-size: .9rem; }
h1, h2, h3 { font-family: system-ui, sans-serif; line-height: 1.25; margin: 2.2rem 0 .8rem; }
a { color: #0b5394; } .anchor-link { visibility: hidden; }
pre, code { font: .85rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
.input_area pre, .source pre { background: #f6f6f4; padding: .7rem .9rem; overflow-x: auto;
  border-left: 3px solid #ccc; }
.output_subarea pre { padding: .2rem .9rem; white-space: pre-wrap; margin: .4rem 0; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; }
math { font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", math; }
math[display="block"] { margin: 1rem 0; overflow-x: auto; overflow-y: hidden; }
details { margin: .5rem 0; color: #555; } summary { cursor: pointer; }
blockquote { margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid #0b5394; }
"""


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


def around(path: str, chapters: list[str]) -> str:
    """Links to the course map, and to the chapters before and after."""

    def to(target: str, words: str) -> str:
        return f'<a href="{address(target, path)}">{words}</a>'

    found = [to(START, "The course")]
    if path in chapters:
        k = chapters.index(path)
        found += [to(p, f"← {p[10:12]}") for p in chapters[max(k - 1, 0) : k]]
        found += [to(p, f"{p[10:12]} →") for p in chapters[k + 1 : k + 2]]
    return "".join(found)


def write_site(folder: Path) -> int:
    """Write the site into `folder`; the number of pages. It starts at index.html.

    Raises ValueError if `folder` has files that are not a site's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / page_of(START)).exists():
        raise ValueError(f"{folder} is not empty; give a new folder")
    notebooks = [file.as_posix() for file in course_files(home()) if file.suffix == ".ipynb"]
    chapters = [path for path in notebooks if path.count("/") == 1]
    style = STYLE + HtmlFormatter().get_style_defs()
    todo = [START, *notebooks]
    seen = set(todo)
    while todo:
        path = todo.pop()
        page = folder / page_of(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).suffix in PICTURES:
            shutil.copyfile(located(path), page)
            continue
        links = set()
        text = rendered(path, links)
        if not path.startswith(SLIDES):
            words = dict(title=titled(path), style=style, around=around(path, chapters))
            text = PAGE.format(body=text, **words)
        page.write_text(text, "utf-8")
        todo += links - seen
        seen |= links
    start = f'<meta http-equiv="refresh" content="0; url={page_of(START)}">'
    page = PAGE.format(title="minipig", style="", around="", body=start)
    (folder / "index.html").write_text(page)
    return len(seen)
