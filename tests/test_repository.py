"""What holds for the tree as a whole: no machine's paths, no registry's host, one test command everywhere."""

import ast
import doctest
import io
import json
import re
import subprocess
import textwrap
import tokenize
from pathlib import Path

import minipig

ROOT = Path(__file__).parent.parent
PATHS = re.compile(r"(?<![\w.:/<$}\"'])/(?:home|root|work|tmp|usr(?!/bin/env)|opt|Users|mnt|var)/\w|[A-Z]:\\Users")
REGISTRIES = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "anaconda" + r"\.org", "npm" + r"js\.(org|com)"])
)
TEST_COMMAND = 'pip install -e ".[test]" && pytest'


def tracked() -> list[str]:
    """Files that git tracks, and new ones that it does not ignore; of an unpacked source distribution, what it brought."""
    if not (ROOT / ".git").exists():
        return (ROOT / "minipig.egg-info" / "SOURCES.txt").read_text().splitlines()
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def texts():
    for name in tracked():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yml", ".json", ".csv", ".ipynb", ""} and path.is_file():
            yield name, path.read_text()


def test_no_path_of_a_machine_and_no_registry_is_named():
    found = [name for name, text in texts() if PATHS.search(text) or REGISTRIES.search(text)]
    assert found == []


def test_readme_and_ci_run_the_same_test_command():
    readme, run = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert f"    {TEST_COMMAND}\n" in readme and run.endswith(f"{TEST_COMMAND}\n")
    assert "bash .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_conda_and_pip_ask_for_the_same():
    project, conda = (ROOT / "pyproject.toml").read_text(), (ROOT / "environment.yml").read_text()
    lists = [re.search(rf"^{name} = \[(.*?)\]$", project, flags=re.M | re.S)[1] for name in ("dependencies", "test")]
    by_pip = set(re.findall(r'"([^"]+)"', " ".join(lists)))
    by_conda = set(re.findall(r"^  - (\S+>=\S+)$", conda, flags=re.M))
    assert {name.replace("pytorch", "torch") for name in by_conda} == by_pip | {"python>=3.10"}
    assert 'requires-python = ">=3.10"' in project and "torch>=2.6" in by_pip


def test_help_stands_alone(monkeypatch):
    """What help(minipig) shows runs as it is shown, and names every file of the paper."""
    monkeypatch.chdir(ROOT)
    failed, attempted = doctest.testmod(minipig)
    assert failed == 0 < attempted
    assert all(name in minipig.__doc__ for name in ("schedule", "unet", "guider", "sampler", "finite", "exact", "seeds"))


def test_the_papers_files_import_no_others():
    """The arrows of the house point one way: what a lecturer prints stands on its own."""
    paper = {"seeds", "schedule", "norm", "unet", "guider", "sampler", "segmentation", "exact", "finite"}
    for name in paper:
        found = list(ast.walk(ast.parse((ROOT / "minipig" / f"{name}.py").read_text())))
        inside = [node for node in found if isinstance(node, ast.ImportFrom) and node.level]
        assert {node.module for node in inside} <= paper and all(node.level == 1 for node in inside), name
        absolute = [alias.name for node in found if isinstance(node, ast.Import) for alias in node.names]
        absolute += [node.module for node in found if isinstance(node, ast.ImportFrom) and not node.level]
        assert not any(module.startswith("minipig") for module in absolute), name


def test_what_the_readme_shows_is_in_the_repository():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert links and set(links) <= set(tracked())
    assert "data_samples/runs/phantom32/pair.pt" in tracked()


AMERICAN = re.compile(
    r"\b(color\w*|gray\w*|behavior\w*|center\w*|neighbor\w*|favor\w*|artifact\w*|judgment|learned|labeled|modeling|"
    r"\w*(?:normal|optim|regular|initial|general|visual|summar|recogn|random)iz\w*|analyz\w*)\b",
    re.IGNORECASE,
)


def prose(name: str, text: str):
    """What people read in a file: sentences of Markdown, comments, docstrings; without code and formulas."""
    parts = []
    if name.endswith(".md"):
        parts = [re.sub(r"^    .*$", "", text, flags=re.M)]
    elif name.endswith(".ipynb"):
        parts = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    elif name.endswith(".py"):
        parts = [
            token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
        ]
        documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
        parts += [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    return (re.sub(r"`[^`]*`|\]\([^)]*\)|\$[^$]*\$", "", part) for part in parts)


def test_words_are_spelled_one_way():
    found = {(name, word[0]) for name, text in texts() for part in prose(name, text) for word in AMERICAN.finditer(part)}
    assert found == set()


def test_links_lead_somewhere():
    for path in (ROOT / name for name in tracked() if name.endswith((".ipynb", ".md"))):
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            assert link.startswith("https://") or (path.parent / link).exists(), (path, link)


def test_the_readmes_python_runs_as_it_stands(tmp_path, monkeypatch):
    (block,) = re.findall(r"in a few seconds:\n\n((?:    .*\n|\n)+)", (ROOT / "README.md").read_text())
    names = {}
    monkeypatch.chdir(ROOT)
    exec(textwrap.dedent(block).replace("runs/pairs.png", str(tmp_path / "pairs.png")), names)
    assert (
        names["masks"].shape == names["slices"].shape == (16, 1, 32, 32) and (tmp_path / "pairs.png").stat().st_size > 9_999
    )
