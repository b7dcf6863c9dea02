"""The tree as a whole: paths, links, commands, imports, spelling, and what the READMEs promise."""

import ast
import doctest
import graphlib
import importlib
import io
import json
import re
import subprocess
import textwrap
import tokenize
from itertools import groupby
from pathlib import Path

import minipig

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data_samples" / "results"
PATHS = re.compile(
    r"(?<![\w.:/<$}\"'])/(?:home|root|work|tmp|usr(?!/bin/env)|opt|Users|mnt|var)/\w|[A-Z]:\\Users"
)
# in two parts each, so that this file does not name them
HOSTS = (
    "py" + r"pi\.org",
    "python" + r"hosted\.org",
    "anaconda" + r"\.org",
    "npm" + r"js\.(org|com)",
)
REGISTRIES = re.compile("|".join(HOSTS))
RUN_COMMAND = "pip install -e . && python -m minipig demo"
TEST_COMMAND = 'pip install -e ".[test]" && pytest'
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".json", ".csv", ".ipynb", ""}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def tracked() -> list[str]:
    """Files that git tracks, and new ones that it does not ignore.

    Of an unpacked source distribution, the files that it contains.
    """
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        how = dict(cwd=ROOT, capture_output=True, text=True, check=True)
        listed = subprocess.run(command, **how).stdout
    else:
        listed = read("minipig.egg-info/SOURCES.txt")
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def texts():
    for name in tracked():
        if Path(name).suffix in TEXTS:
            yield name, read(name)


def source_of(name: str) -> list[str]:
    """The Python in a file: the whole of a .py, each code cell of a notebook."""
    if name.endswith(".py"):
        return [read(name)]
    cells = json.loads(read(name))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def python_files() -> list[str]:
    return [name for name in tracked() if name.endswith((".py", ".ipynb"))]


# --- commands, versions and metadata ---------------------------------------------------------


def test_no_path_of_a_machine_and_no_registry_is_named():
    found = [name for name, text in texts() if PATHS.search(text) or REGISTRIES.search(text)]
    assert found == []


def test_readme_and_ci_run_the_same_commands():
    readme, run = read("README.md"), read(".ci/run")
    assert f"\n    {RUN_COMMAND}\n" in readme and f"\n    {TEST_COMMAND}\n" in readme
    assert run.endswith(f"\n{TEST_COMMAND}\n")
    assert "bash .ci/run" in read(".github/workflows/ci.yml")


def test_ruff_is_run_everywhere_in_one_version():
    run, hooks = read(".ci/run"), read(".pre-commit-config.yaml")
    assert "\nruff check .\nruff format --check .\n" in run  # set -e: each must succeed
    assert len(set(re.findall(r"ruff==([\d.]+)", run + hooks))) == 1
    assert "ruff check" in hooks and "ruff format --check" in hooks


def extra(name: str) -> set[str]:
    """The requirements of an optional extra, or of `dependencies`."""
    found = re.search(rf"^{name} = \[(.*?)\]", read("pyproject.toml"), flags=re.M | re.S)
    return set(re.findall(r'"([^"]+)"', found[1].replace('".[', "")))


def test_conda_and_pip_ask_for_the_same():
    by_conda = set(re.findall(r"^  - (\S+>=\S+)$", read("environment.yml"), flags=re.M))
    by_pip = extra("dependencies") | extra("test") | {"python>=3.10"}
    assert {name.replace("pytorch", "torch") for name in by_conda} == by_pip
    assert extra("course") <= extra("test")
    assert 'requires-python = ">=3.10"' in read("pyproject.toml") and "torch>=2.6" in by_pip


def test_the_citation_agrees_with_the_package_and_the_readme():
    citation, readme = read("CITATION.cff"), read("README.md")
    (version,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), flags=re.M)
    assert f"\nversion: {version}\n" in citation
    (doi,) = re.findall(r"^  doi: (.+)$", citation, flags=re.M)
    assert f"{{{doi}}}" in readme and f"https://doi.org/{doi}" in read("pyproject.toml")


# --- imports ---------------------------------------------------------------------------------

PAPER = {"schedule", "unet", "guider", "sampler", "rules", "segmentation", "seeds"}
# an arrow of the house is an import; each part may import itself (a name without a folder: a file)
ARROWS = {
    "paper": set(),
    "plot": {"paper"},
    "data": {"paper", "plot"},
    "extras": {"paper"},
    "worlds": {"paper", "extras"},
    "training": {"paper", "plot", "data", "extras"},
    "course": {"data"},
    "evidence": {"paper", "plot", "data", "extras", "worlds", "training"},
    "commands": {"paper", "plot", "data", "extras", "worlds", "training", "evidence", "course"},
    "running": {"commands", "training", "evidence"},
    "cli": {"running"},
    "__main__": {"cli"},
    "__init__": set(),  # its names are imported when they are first used
}
FILES = {
    path.relative_to(ROOT / "minipig").with_suffix("").as_posix().replace("/", "."): path
    for path in sorted((ROOT / "minipig").rglob("*.py"))
}


def imports(source: str):
    """(module, name) of each `from module import name`, and (module, None) of `import module`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias.name) for alias in node.names)


def arrows(file: str) -> set[str]:
    """The files of the package that this one imports, by their dotted names without `minipig.`."""
    found = set()
    for module, name in imports(FILES[file].read_text()):
        assert not module.startswith("."), f"{file}: write minipig.{module.strip('.')}"
        if module.split(".")[0] == "minipig":
            inside = module.split(".")[1:]
            longer = ".".join([*inside, name or ""])
            found.add(longer if longer in FILES else ".".join(inside) or "__init__")
    return found


def part(file: str) -> str:
    return "paper" if file in PAPER else file.split(".")[0]


def test_every_file_belongs_to_a_part_of_the_house():
    assert {part(file) for file in FILES} == set(ARROWS)
    assert PAPER <= set(FILES)


def test_arrows_point_one_way():
    wrong = set()
    for file in FILES:
        allowed = ARROWS[part(file)] | {part(file)}
        wrong |= {f"{file} imports {to}" for to in arrows(file) if part(to) not in allowed}
    assert not wrong, "\n".join(sorted(wrong))


def test_no_imports_in_a_circle():
    order = graphlib.TopologicalSorter({file: arrows(file) for file in FILES})
    order.prepare()  # raises CycleError, which names the circle
    graphlib.TopologicalSorter(ARROWS).prepare()


def exists(module: str, name: str | None = None) -> bool:
    """Whether a module can be imported, and has this attribute or submodule."""
    try:
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True


def test_every_imported_name_exists():
    """In the package, the tests and the notebooks, whose lines of IPython are skipped."""
    wrong = set()
    for file in python_files():
        for source in source_of(file):
            lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
            for module, name in imports("\n".join(lines)):
                if module.split(".")[0] == "minipig" and not exists(module, name):
                    wrong.add(f"{file}: from {module} import {name}")
    assert not wrong, "\n".join(sorted(wrong))


def reachable(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of an attribute ... of a module."""
    names = dotted.split(".")
    depth = next(k for k in range(len(names), 0, -1) if exists(".".join(names[:k])))
    found = importlib.import_module(".".join(names[:depth]))
    for name in names[depth:]:
        found = getattr(found, name, None)
    return found is not None


def test_every_named_module_exists():
    """Also where it is named in prose or in a string, as in `python -m`."""
    wrong = set()
    for file, text in texts():
        if file.endswith((".py", ".md", ".ipynb")) and file != "CHANGELOG.md":
            named = set(re.findall(r"\bminipig\.[a-z]\w*(?:\.[A-Za-z]\w*)*(?![\w-])", text))
            wrong |= {f"{file}: {name}" for name in named if not reachable(name)}
    assert not wrong, "\n".join(sorted(wrong))


# --- style -----------------------------------------------------------------------------------


def test_code_lines_have_at_most_100_columns():
    wide = []
    for file in python_files():
        lines = [line for source in source_of(file) for line in source.splitlines()]
        if count := sum(len(line) > 100 for line in lines):
            wide.append(f"{file}: {count}")
    assert not wide, "\n".join(wide)


AMERICAN = re.compile(
    r"\b(color\w*|gray\w*|behavior\w*|center\w*|neighbor\w*|favor\w*|artifact\w*|judgment|learned"
    r"|labeled|modeling|analyz\w*"
    r"|\w*(?:normal|optim|regular|initial|general|visual|summar|recogn|random)iz\w*)\b",
    re.IGNORECASE,
)


def prose(name: str, text: str):
    """The prose of a file: Markdown, comments, docstrings; without code and formulas."""
    parts = []
    if name.endswith(".md"):
        parts = [re.sub(r"^    .*$", "", text, flags=re.M)]
    elif name.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        parts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    elif name.endswith(".py"):
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        parts = [token.string for token in tokens if token.type == tokenize.COMMENT]
        documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
        parts += [ast.get_docstring(node) or "" for node in nodes]
    return (re.sub(r"`[^`]*`|\]\([^)]*\)|\$[^$]*\$", "", part) for part in parts)


def test_words_are_spelled_one_way():
    found = set()
    for name, text in texts():
        for sentences in prose(name, text):
            found |= {(name, word[0]) for word in AMERICAN.finditer(sentences)}
    assert found == set()


# --- what the READMEs promise ----------------------------------------------------------------


def links(name: str) -> set[str]:
    """The targets of a file's Markdown links and pictures."""
    text = read(name)
    if name.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return set(re.findall(r"\]\(([^)\s]+)[^)]*\)", text))


def anchors(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for name in (name for name in tracked() if name.endswith((".ipynb", ".md"))):
        for link in links(name):
            if link.startswith("https://"):
                continue
            target, _, anchor = link.partition("#")
            path = (ROOT / name).parent / target if target else ROOT / name
            assert path.exists(), (name, link)
            assert not anchor or path.suffix != ".md" or anchor in anchors(path), (name, link)


def test_what_the_readme_shows_is_in_the_repository():
    found = links("README.md")
    shown = {link.partition("#")[0] for link in found if not link.startswith(("https://", "#"))}
    assert shown and shown <= set(tracked())
    assert {f"data_samples/runs/phantom{n}/pair.pt" for n in (32, 128)} <= set(tracked())


def test_the_readme_can_be_read_in_a_minute():
    assert len(read("README.md").split()) <= 1500


def test_every_page_of_the_readme_is_linked_from_it():
    pages = {name for name in tracked() if name.endswith(".md")} - {"README.md"}
    assert pages <= {link.partition("#")[0] for link in links("README.md")}


def test_the_house_lists_every_file_of_the_package():
    listed = {link for link in links("minipig/README.md") if link.endswith(".py")}
    files = {path.relative_to(ROOT / "minipig").as_posix() for path in FILES.values()}
    assert {link for link in listed if not link.startswith("..")} == {
        file for file in files if not file.endswith("__init__.py")
    }


def test_every_result_is_described():
    described = read("data_samples/results/README.md")
    here = {path.name for path in RESULTS.iterdir() if path.name != "README.md"}
    here = {name for name in here if not name.startswith(".")}
    assert [name for name in sorted(here) if name not in described] == []


def python_block(name: str, first: str) -> str:
    """The indented block of a README that starts with the line `first`."""
    grouped = groupby(read(name).splitlines(), key=lambda line: line.startswith("    ") or not line)
    blocks = ["\n".join(lines).strip("\n") for indented, lines in grouped if indented]
    (block,) = [block for block in blocks if block.startswith(f"    {first}")]
    return textwrap.dedent(block)


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    """As it stands, but for the number of steps; ten statements after the imports."""
    block = python_block("README.md", "from minipig import")
    assert sum(not isinstance(node, ast.ImportFrom) for node in ast.parse(block).body) <= 10
    assert block.count("steps=300") == 2 and block.count("steps=50)") == 1
    block = block.replace("steps=300", "steps=3").replace("steps=50)", "steps=4)")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    assert names["masks"].shape == names["slices"].shape == (16, 1, 32, 32)
    assert (tmp_path / "pairs.png").stat().st_size > 9_999


def test_the_samples_python_runs_as_it_stands(tmp_path, monkeypatch):
    block = python_block("data_samples/README.md", "from pathlib import")
    monkeypatch.chdir(ROOT)
    names = {}
    exec(block.replace("pairs.png", str(tmp_path / "pairs.png")), names)
    assert names["masks"].shape == names["slices"].shape == (16, 1, 128, 128)
    assert (tmp_path / "pairs.png").stat().st_size > 9_999


def test_help_stands_alone(monkeypatch):
    """What help(minipig) shows runs as it is shown, and names every file of the paper."""
    monkeypatch.chdir(ROOT)
    failed, attempted = doctest.testmod(minipig)
    assert failed == 0 < attempted
    assert all(name in minipig.__doc__ for name in PAPER)
