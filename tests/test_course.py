"""The course outside of the repository: its files are found, copied, rendered."""

from pathlib import Path

import pytest

from minipig.course import files

ROOT = Path(__file__).parent.parent


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
    with pytest.raises(FileNotFoundError, match="no data_samples/runs; .*`minipig course FOLDER`"):
        files.data_samples("runs")


def test_a_package_without_its_course_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "minipig")
    with pytest.raises(FileNotFoundError, match="installed without its course"):
        files.home()
