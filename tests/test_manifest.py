"""Patients in manifest.csv: spellings, files that are not there, tables that are not read."""

import pytest

from minipig.data.manifest import identity, read_patients, unread_tables

NAMES = [f"{k}.png" for k in range(6)]


def folder(root, patients, table="manifest.csv", names=NAMES):
    rows = "".join(f"{name},{patient}\n" for name, patient in zip(names, patients))
    (root / table).write_text("name,patient\n" + rows, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "spellings",
    [
        ("7", "7.0", "007"),
        ("P1", "p1", "P01"),
        ("Müller", "Mu\u0308ller", "MÜLLER"),
        ("site/4", "site\\4", "Site/04"),
        ("Straße 2", "STRASSE 2", "strasse 02"),
        ("P7", "P7.0", "P07.00"),
        ("7", "'7", "+7"),
        ("Anna B", "Anna  B", "Anna\u00a0B"),
        ("P1", "P\u200b1", "\ufeffP1"),
        ("P-1", "P\u20111", "P\u20131"),
    ],
)
def test_spellings_of_one_patient_are_one_and_told(tmp_path, spellings):
    patients, notes = read_patients(folder(tmp_path, [*spellings, "8", "8", "9"]), NAMES)
    assert patients == [spellings[0]] * 3 + ["8", "8", "9"]
    (note,) = notes
    assert note.startswith(
        f"the patients {spellings[0]}, {spellings[1]} and {spellings[2]} of manif"
    )


def test_different_patients_stay_different():
    ids = [
        "1",
        "10",
        "1.5",
        "P1",
        "P10",
        "P1-2",
        "P12",
        "1.2.840.1",
        "1.2.840.10",
        "a",
        "b",
        "1.0.1",
        "1.0.0",
        "1-0",
        "-1",
    ]
    assert len({identity(patient) for patient in ids}) == len(ids)


def test_files_that_stand_for_their_patients_stay_apart(tmp_path):
    """As prepare writes them without --patient: 1.png and 01.png may be of two people."""
    names = ["1.png", "01.png", "A.png", "a.png"]
    patients, notes = read_patients(folder(tmp_path, names, names=names), names)
    assert patients == names and notes == []


def test_rows_without_files_are_told(tmp_path):
    names = [*NAMES, "6.png", "7.png"]
    patients, notes = read_patients(folder(tmp_path, "aabbccdd", names=names), NAMES)
    assert patients == list("aabbcc")
    assert notes == [
        "manifest.csv names 2 images that are not there, such as 6.png; "
        "if prepare was interrupted, repeat it"
    ]


@pytest.mark.parametrize("empty", [",", ",\n,", " , ", ",,,"])
def test_empty_rows_of_a_spreadsheet_say_nothing(tmp_path, empty):
    manifest = folder(tmp_path, "aabbcc") / "manifest.csv"
    whole = manifest.read_text()
    manifest.write_text(whole.replace("2.png", f"{empty}\n2.png") + f"{empty}\n")
    assert read_patients(tmp_path, NAMES) == (list("aabbcc"), [])


@pytest.mark.parametrize("row", [",d", " ,d"])
def test_a_patient_of_no_image_is_refused(tmp_path, row):
    manifest = folder(tmp_path, "aabbcc") / "manifest.csv"
    manifest.write_text(manifest.read_text() + f"{row}\n")
    with pytest.raises(ValueError, match="manifest.csv has no name in line 8; correct it"):
        read_patients(tmp_path, NAMES)


@pytest.mark.parametrize("unknown", ["#N/A", "n.a.", "NaN"])
def test_words_for_an_unknown_patient_are_told(tmp_path, unknown):
    _, notes = read_patients(folder(tmp_path, [unknown, unknown, *"abcd"]), NAMES)
    assert notes[0].startswith(f"2 images are of the patient {unknown!r}, which counts as one")


def test_a_dead_link_beside_a_table_is_no_table_in_use(tmp_path):
    (tmp_path / "patients.csv").symlink_to(tmp_path / "nowhere.csv")
    (tmp_path / "pairs.csv").touch()
    assert unread_tables(tmp_path, "REMEDY", tmp_path / "pairs.csv") == [
        "patients.csv is not read; REMEDY"
    ]


NOT_READ = "Manifest.csv manifest.csv.txt patients.TSV list.xlsx patients.txt .manifest.csv".split()


@pytest.mark.parametrize("table", NOT_READ)
def test_a_table_of_another_name_is_told(tmp_path, table):
    (tmp_path / "LICENCE.txt").write_text("of no interest here")
    patients, notes = read_patients(folder(tmp_path, "aabbcc", table), NAMES)
    assert patients == NAMES
    (note,) = notes
    assert note.startswith(f"{table} is not read; patients are read from manifest.csv")


def test_names_agree_in_any_unicode_form(tmp_path):
    patients, notes = read_patients(folder(tmp_path, "a", names=["e\u0301.png"]), ["é.png"])
    assert patients == ["a"] and notes == []
