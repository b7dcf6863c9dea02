"""The course as a site: executed notebooks, READMEs and the source they name, as linked pages.

No page but the slides needs a network.
"""

from pathlib import Path

from pygments.formatters import HtmlFormatter

from minipig.course.files import course_files, home
from minipig.course.rendering import PICTURES, SLIDES, address, located, page_of, rendered, titled
from minipig.data.files import files_in, write_atomically

START = "notebooks/README.md"
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
    """Write the site into `folder`; the number of its files. It starts at index.html.

    Raises ValueError if `folder` has files that are not a site's, OSError if it cannot be written.
    """
    if any(files_in(folder)) and not (folder / page_of(START)).exists():
        raise ValueError(f"{folder} is not empty; give a new folder")
    notebooks = [file.as_posix() for file in course_files(home()) if file.suffix == ".ipynb"]
    chapters = [path for path in notebooks if path.count("/") == 1]
    style = STYLE + HtmlFormatter().get_style_defs()
    todo = [*notebooks, START]  # its page is written first: a repeated command looks for it
    seen = set(todo)
    while todo:
        path = todo.pop()
        page = folder / page_of(path)
        if Path(path).suffix in PICTURES:
            write_atomically(page, located(path).read_bytes())
            continue
        links = set()
        text = rendered(path, links)
        if not path.startswith(SLIDES):
            words = dict(title=titled(path), style=style, around=around(path, chapters))
            text = PAGE.format(body=text, **words)
        write_atomically(page, text.encode())
        todo += links - seen
        seen |= links
    start = f'<meta http-equiv="refresh" content="0; url={page_of(START)}">'
    page = PAGE.format(title="minipig", style="", around="", body=start)
    write_atomically(folder / "index.html", page.encode())
    return len(seen)
