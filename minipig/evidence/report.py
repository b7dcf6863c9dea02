"""One page about a folder of results: report.html, which needs no other file and no network."""

import base64
import io
import json
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path

from minipig.data.files import flat, write_atomically

PICTURES = {
    "samples.png": "Samples: each slice with the outline of its mask, above its mask. In a table, "
    "those of every method, equal seeds in a column.",
    "gains.png": "Gains over real pairs only: a stroke a fold, the mean, and its 95 % interval.",
    "nearest.png": "Samples above the training slices nearest to them: equal anatomy means a copy.",
    "losses.png": "Losses of the training; points, if any, are held-out patients. If they rise "
    "while the curve falls, the network learns its training pairs by heart.",
    "method.png": "The method: both chains from noise to a pair. model_x sees the noisy mask and "
    "the noisy slice; its estimate guides model_y.",
    "film.gif": "One pair coming out of noise: noisy images on the left, estimates on the right.",
    "figure_3.png": "Estimates of mask and slice, on the way from noise.",
}
STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
pre { background: #f4f4f4; padding: 1em; white-space: pre-wrap; font-size: 13px }
img { max-width: 100%; border: 1px solid #ccc }
td, th { text-align: left; padding: 0 2em 0 0; font-weight: normal; overflow-wrap: anywhere }
th { white-space: nowrap }
figure { margin: 2em 0 }
"""


class Both:
    """Standard output that is also kept, for the report."""

    def __init__(self, output, text: io.StringIO):
        self.output = output
        self.text = text

    def write(self, text: str) -> int:
        self.text.write(text)
        return self.output.write(text)

    def __getattr__(self, name: str):
        return getattr(self.output, name)


def write_report(folders: list[Path], command: str, said: str, name: str = "report.html") -> Path:
    """Write the page `name` into the first of `folders`; return its path.

    It shows the command and what it said, the PICTURES of all folders, and their config.json.
    """
    title = escape(f"{folders[0].absolute().name}: {command}")
    parts = [f"<h1>{title}</h1>", f"<pre>{escape(said)}</pre>"]
    for picture, caption in PICTURES.items():
        for path in (folder / picture for folder in folders if (folder / picture).exists()):
            parts.append(figure(path, caption))
    for path in (folder / "config.json" for folder in folders):
        if path.exists():
            parts.append(f"<h2>Configuration of {escape(path.absolute().parent.name)}</h2>")
            rows = flat(json.loads(path.read_text())).items()
            cells = [f"<th>{escape(k)}</th><td>{escape(str(v) or 'none')}</td>" for k, v in rows]
            parts.append("<table>" + "\n".join(f"<tr>{cell}</tr>" for cell in cells) + "</table>")
    parts.append(f"<p>minipig {version('minipig')}, {date.today()}</p>")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    page = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n'
    page += "\n".join(parts) + "\n</body></html>\n"
    path = folders[0] / name
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def figure(path: Path, caption: str) -> str:
    """A picture inside the page, with its caption."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{escape(path.name)}" src="data:image/{path.suffix[1:]};base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
