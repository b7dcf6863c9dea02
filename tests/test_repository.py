"""What holds for the tree as a whole: no machine's paths, no registry's host, one test command everywhere."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = re.compile(r"(?<![\w.:/<$}\"'])/(?:home|root|work|tmp|usr(?!/bin/env)|opt|Users|mnt|var)/\w|[A-Z]:\\Users")
REGISTRIES = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "anaconda" + r"\.org", "npm" + r"js\.(org|com)"])
)
TEST_COMMAND = 'pip install -e ".[test]" && pytest'


def tracked() -> list[str]:
    """Files that git tracks, and new ones that it does not ignore."""
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


def test_the_papers_files_import_no_others():
    """The arrows of the house point one way: what a lecturer prints stands on its own."""
    paper = {"seeds", "schedule", "norm", "unet", "guider", "sampler", "segmentation", "exact"}
    for name in paper:
        imports = set(re.findall(r"^from \.(\w+) import", (ROOT / "minipig" / f"{name}.py").read_text(), flags=re.M))
        assert imports <= paper, name


def test_what_the_readme_shows_is_in_the_repository():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert links and set(links) <= set(tracked())
    assert "data_samples/runs/phantom32/pair.pt" in tracked()
