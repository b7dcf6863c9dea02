"""The page about a folder of results: it holds all that it shows, and nothing breaks out of it."""

import base64
import json
from html.parser import HTMLParser

import pytest

from minipig.cli import main
from minipig.evidence.report import PICTURES, write_report

TINY = "train --preset tiny --pairs 12 --size 16 --steps 2 --batch 2 --holdout 0.25 --device cpu"


class Page(HTMLParser):
    """The tags, sources and text of a page; every tag is closed."""

    def __init__(self, path):
        super().__init__()
        self.open, self.sources, self.text, self.cells = [], {}, "", []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources[dict(attributes)["alt"]] = dict(attributes)["src"]
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] in (["td"], ["th"]):
            self.cells.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "<mine> & yours"
    assert main([*TINY.split(), "--out", str(out)]) == 0
    return out


def test_training_writes_a_page_with_its_losses_and_settings(run):
    page = Page(run / "report.html")
    assert list(page.sources) == ["losses.png"]
    kind, data = page.sources["losses.png"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (run / "losses.png").read_bytes()
    assert "<mine> & yours: minipig train --preset tiny" in page.text  # escaped, and read back
    assert "held-out loss" in page.text and PICTURES["losses.png"] in page.text
    settings = dict(zip(page.cells[::2], page.cells[1::2]))
    config = json.loads((run / "config.json").read_text())
    assert settings["config.steps"] == "2" and settings["config.size"] == "[16, 16]"
    assert len(settings) == len(config["config"]) + len(config["versions"])


def test_sampling_writes_a_page_with_samples_and_the_losses_behind_them(run, capsys):
    options = ["-n", "3", "--sampling-steps", "2", "--device", "cpu"]
    assert main(["sample", str(run), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"report: {run / 'samples' / 'report.html'}\n")
    page = Page(run / "samples" / "report.html")
    drawn = ["samples", "nearest", "losses", "method", "figure_3"]
    assert list(page.sources) == [f"{name}.png" for name in drawn]
    for line in printed.splitlines()[:-1]:
        assert line in page.text
    assert "Configuration of samples" in page.text and "Configuration of <mine>" in page.text
    assert "src=" not in page.text and "http" not in page.text


def test_a_folder_of_samples_with_its_page_can_be_trained_on(run, tmp_path, capsys):
    if not (run / "samples").exists():
        test_sampling_writes_a_page_with_samples_and_the_losses_behind_them(run, capsys)
    data = ["--data", str(run / "samples"), "--holdout", "0", "--out", str(tmp_path)]
    assert main([*TINY.replace("--pairs 12 ", "").split(), *data]) == 0
    assert "report" not in capsys.readouterr().out.partition("model_x")[0]


def test_a_page_about_an_empty_folder(tmp_path):
    path = write_report([tmp_path / "none"], "minipig", "said\n")
    assert path == tmp_path / "none" / "report.html"
    assert Page(path).sources == {} and "said" in Page(path).text


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_has_a_caption_of_whole_sentences(name):
    assert PICTURES[name].endswith(".") and PICTURES[name][0].isupper()
