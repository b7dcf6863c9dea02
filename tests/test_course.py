"""The course outside of the repository: its files are found, copied, left to write, rendered."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib
import nbformat
import pytest

from minipig.cli import main
from minipig.course import copy as copying
from minipig.course import files
from minipig.course import site as sites
from minipig.course.copy import TODO, left_open, student_edition, write_course
from minipig.course.rendering import mathml, page_of, summary
from minipig.course.site import write_site
from minipig.data.files import write_atomically

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


# --- finding the files -----------------------------------------------------------------------


@pytest.mark.parametrize("place, found", [("notebooks", ".."), ("notebooks/solutions", "../..")])
def test_a_notebook_finds_the_data_beside_it(place, found, monkeypatch):
    monkeypatch.chdir(ROOT / place)
    name = "runs/phantom32/pair.pt"
    assert files.data_samples(name) == Path(found, "data_samples", name)


def test_a_notebook_in_any_folder_finds_the_data_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.data_samples("phantoms") == ROOT / "data_samples" / "phantoms"


def test_missing_data_are_told_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "data_samples").mkdir()
    (tmp_path / "data_samples" / "README.md").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data_samples.runs; .*`minipig course FOLDER`"):
        files.data_samples("runs")


def test_a_package_without_its_course_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "minipig")
    with pytest.raises(FileNotFoundError, match="installed without its course"):
        files.home()


# --- a copy ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "course"
    written, kept = write_course(folder)
    assert written == len(files.course_files(ROOT)) and kept == 0
    return folder


def test_a_copy_has_every_notebook_and_what_they_load(copy):
    for path in CHAPTERS:
        for place in ("notebooks", "notebooks/solutions"):
            assert (copy / place / path.name).read_bytes() == (
                ROOT / place / path.name
            ).read_bytes()
    assert (copy / "data_samples/runs/phantom128/pair.pt").stat().st_size > 1e6
    assert not [path for path in copy.rglob(".*") if path.suffix != ".part"]


def test_links_of_a_copy_lead_somewhere(copy):
    for path in [*copy.rglob("*.md"), *copy.rglob("*.ipynb")]:
        text = path.read_text()
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        for link in LINK.findall(text):
            target = link.partition("#")[0]
            if target and not link.startswith("https://"):
                assert (path.parent / target).exists(), (path, link)


def test_a_second_copy_keeps_the_readers_work(copy, capsys):
    mine = copy / "notebooks" / "my_rule.py"
    mine.write_text("# mine\n")
    (copy / "notebooks" / "README.md").unlink()
    assert main(["course", str(copy)]) == 0
    assert mine.read_text() == "# mine\n"
    assert f"1 files written to {copy}, " in capsys.readouterr().out
    mine.write_bytes((ROOT / "notebooks" / "my_rule.py").read_bytes())


def interrupt(monkeypatch, module, call):
    """Raise KeyboardInterrupt in place of the write of this number."""
    calls = []

    def write(path, data):
        calls.append(path)
        if len(calls) == call:
            raise KeyboardInterrupt
        write_atomically(path, data)

    monkeypatch.setattr(module, "write_atomically", write)


@pytest.mark.parametrize("options", [{}, {"student": True}, {"student": True, "answers": False}])
@pytest.mark.parametrize("left", [0, 20, 25, -1])
def test_an_interrupted_copy_can_be_repeated(tmp_path, monkeypatch, options, left):
    """Also among its last files, where the notebooks are."""
    call = sum(write_course(tmp_path / "whole", **options)) - left if left >= 0 else 1
    tmp_path = tmp_path / "copy"
    interrupt(monkeypatch, copying, call)
    with pytest.raises(KeyboardInterrupt):
        write_course(tmp_path, **options)
    written, kept = write_course(tmp_path, **options)
    assert kept == call - 1 and write_course(tmp_path, **options) == (0, written + kept)


def test_a_copy_without_answers_is_not_put_beside_those_of_an_interrupted_one(
    tmp_path, monkeypatch
):
    interrupt(monkeypatch, copying, 20)
    with pytest.raises(KeyboardInterrupt):
        write_course(tmp_path)
    with pytest.raises(ValueError, match="holds another edition of the course; give a new folder"):
        write_course(tmp_path, student=True, answers=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metadata": 3}', "\xff"])
def test_a_damaged_notebook_is_named(tmp_path, capsys, content):
    notebook = tmp_path / "notebooks" / "00_mine.ipynb"
    notebook.parent.mkdir()
    notebook.write_text(content, "latin-1")
    assert main(["course", str(tmp_path)]) == 2
    told = f"minipig: {notebook} is damaged; remove it, and repeat the command\n"
    assert capsys.readouterr().err == told


# --- the student's edition -------------------------------------------------------------------


def test_functions_are_left_open():
    source = 'N = 3\n\n\ndef f(a):\n    """Twice a."""\n    b = 2 * a\n    return b\n\n\nprint(N)'
    assert left_open(source) == (
        f'N = 3\n\n\ndef f(a):\n    """Twice a."""\n    {TODO}\n\n\nprint(N)'
    )
    assert left_open("def g():\n    return 1") == f"def g():\n    {TODO}"


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def tags(cell):
    return cell["metadata"].get("tags", [])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem[:2])
def test_every_function_to_write_is_followed_by_its_check(path):
    """In each chapter: a student sees no outputs, and the blanks filled in give the chapter."""
    full = json.loads(path.read_text())
    student = student_edition(full)
    sources = {cell["id"]: cell["source"] for cell in code(full)}
    assert not any(cell["outputs"] for cell in code(student))
    cells = code(student)
    blanks = [k for k, cell in enumerate(cells) if "write" in tags(cell)]
    for k, cell in enumerate(cells):
        source = "".join(sources[cell["id"]])
        assert ("".join(cell["source"]) == source) == (k not in blanks)
        if k in blanks:
            assert TODO in "".join(cell["source"])
            own = "".join(cell["source"])
            assert "assert " in own + "".join(cells[k + 1]["source"])
        if "check" in tags(cell):
            assert "jupyter" not in cell["metadata"]  # shown


def run(sources):
    """Execute the cells of notebook 02 in one namespace."""
    names = {}
    with matplotlib.rc_context():
        matplotlib.use("agg")
        for source in sources:
            exec(compile("".join(source), "<cell>", "exec"), names)
        matplotlib.pyplot.close("all")


def test_a_students_notebook_fails_until_it_is_filled_in(monkeypatch):
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
    full = json.loads((ROOT / "notebooks" / "02_proposition_1.ipynb").read_text())
    answers = {cell["id"]: cell["source"] for cell in code(full)}
    student = code(student_edition(full))
    with pytest.raises(NotImplementedError, match="write this function"):
        run(cell["source"] for cell in student)
    run(answers[cell["id"]] for cell in student)


def test_a_students_copy_has_no_answers(tmp_path):
    assert main(["course", str(tmp_path / "class"), "--student"]) == 0
    assert not list((tmp_path / "class").glob("notebooks/solutions/*"))
    assert not list((tmp_path / "class").glob("notebooks/slides/*"))
    student = json.loads((tmp_path / "class/notebooks/02_proposition_1.ipynb").read_text())
    assert any(TODO in "".join(cell["source"]) for cell in code(student))


def test_two_editions_do_not_mix(copy, tmp_path, capsys):
    assert main(["course", str(copy), "--student"]) == 2
    assert f"{copy} holds another edition of the course; give a new" in capsys.readouterr().err
    for more in ([], ["--solutions"]):
        folder = tmp_path / f"class{len(more)}"
        assert main(["course", str(folder), "--student", *more]) == 0
        assert main(["course", str(folder), "--student", *more]) == 0
        assert main(["course", str(folder)]) == 2


def test_a_students_notebook_says_what_it_is(tmp_path):
    write_course(tmp_path, student=True, answers=False)
    notebook = json.loads((tmp_path / "notebooks/02_proposition_1.ipynb").read_text())
    blanks = sum("write" in tags(cell) for cell in code(notebook))
    assert f"In {blanks} cells there are functions to write" in notebook["cells"][1]["source"]
    nbformat.validate(nbformat.from_dict(notebook))
    text = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "](solutions/" not in text and "](03_when_is_algorithm_2_exact.ipynb)" in text


def test_a_folder_that_is_a_file_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["course", str(tmp_path / "file")]) == 2
    assert "change FOLDER" in capsys.readouterr().err


# --- the site --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    assert write_site(folder) > 2 * len(CHAPTERS)
    return folder


def pages(site):
    return {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}


def test_every_page_of_the_site_is_whole(site):
    """Links and anchors lead somewhere; no formula is left; figures have their text."""
    slides = page_of("notebooks/slides/proof.ipynb")
    for name, text in pages(site).items():
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text):
            if not link.startswith("https://"):
                target, _, anchor = link.partition("#")
                page = (site / name).parent / target if target else site / name
                assert page.is_file(), (name, link)
                assert not anchor or f'id="{anchor}"' in page.read_text(), (name, link)
        prose = re.sub(r"<(pre|code|script|style|details)\b.*?</\1>", "", text, flags=re.S)
        assert "$" not in prose or name == slides, (name, re.findall(r".{40}\$.{40}", prose)[:3])
        assert not re.findall(r"<img (?![^>]*\balt=)[^>]*>", prose) or name == slides, name
        if name != slides:
            loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(http[^"]+)', text)
            assert loaded == [], name


def test_the_site_starts_with_the_course_map(site):
    assert 'url=notebooks/index.html"' in (site / "index.html").read_text()
    index = (site / "notebooks" / "index.html").read_text()
    for path in CHAPTERS:
        assert f'href="{path.stem}.html"' in index
    assert 'href="../minipig/sampler.py.html"' in index
    assert "def" in (site / "minipig" / "sampler.py.html").read_text()


def test_checks_are_folded_under_what_they_hold(site):
    text = "".join(pages(site).values())
    said = re.findall(r"<details><summary>(.*?)</summary>", text)
    assert len(said) > 20 and all(len(line) > 10 for line in said)
    assert summary("# Check: a\n# and b.\nassert True  # c") == "Check: a and b."


def test_formulas_are_drawn_without_a_network():
    assert "&#x1D53C;" in mathml(r"\mathbb E[x]", "inline")
    assert "<mtext>(6)</mtext>" in mathml(r"a \tag{6}", "block")
    assert "<mtext>model_x</mtext>" in mathml(r"\text{model\_x}", "block")


def test_a_site_is_not_written_over_other_files(tmp_path, capsys):
    (tmp_path / "thesis.html").touch()
    assert main(["course", str(tmp_path), "--html"]) == 2
    assert "is not empty; give a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("call", [1, 2, 3, 20])
def test_an_interrupted_site_can_be_repeated(tmp_path, monkeypatch, call):
    monkeypatch.setattr(sites, "rendered", lambda path, links: "")  # which takes its time
    interrupt(monkeypatch, sites, call)
    with pytest.raises(KeyboardInterrupt):
        write_site(tmp_path)
    (tmp_path / f".minipig-{'0' * 16}.part").touch()  # as a kill would leave it
    assert write_site(tmp_path) > 2 * len(CHAPTERS)
    assert (tmp_path / "index.html").exists()


def test_what_the_site_needs_is_told_where_it_is_missing(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("latex2mathml")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "latex2mathml", None)
    for name in ("rendering", "site"):
        monkeypatch.delitem(sys.modules, f"minipig.course.{name}", raising=False)
    assert main(["course", str(tmp_path / "site"), "--html"]) == 2
    said = capsys.readouterr().err
    assert said == "minipig: --html needs latex2mathml; install it: pip install latex2mathml\n"


# --- the wheel -------------------------------------------------------------------------------


def test_a_wheel_brings_the_course(tmp_path):
    """What setup.py puts into a wheel is found by an installed package, and below 25 MB."""
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = tmp_path / "course.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "lib").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "lib"))
    assert wheel.stat().st_size < 25e6
    command = [sys.executable, "-m", "minipig", "course", str(tmp_path / "course")]
    how = dict(cwd=tmp_path / "lib", check=True, capture_output=True, text=True)
    said = subprocess.run(command, **how).stdout
    assert f"jupyter lab {tmp_path / 'course' / 'notebooks'}" in said
    there = {path.name for path in (tmp_path / "course" / "notebooks").glob("*.ipynb")}
    assert there == {path.name for path in CHAPTERS}
    first = nbformat.read(tmp_path / "course" / "notebooks" / CHAPTERS[0].name, as_version=4)
    nbformat.validate(first)
    assert any("image/png" in o.get("data", {}) for c in first.cells for o in c.get("outputs", []))
