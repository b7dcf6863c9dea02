"""manifest.csv of a folder of pairs: the patient of each image, whatever its spelling."""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

TABLES = {".csv", ".tsv", ".xls", ".xlsx"}
REMEDY = "patients are read from manifest.csv, with the columns name and patient"
NOBODY = {
    "nan",
    "na",
    "n/a",
    "#n/a",
    "n.a.",
    "none",
    "null",
    "unknown",
    "anonymous",
    "-",
    "?",
}  # small letters


def read_patients(root: Path, names: list[str]) -> tuple[list[str], list[str]]:
    """The patient of each image name, and notes on what is doubtful.

    From the columns name and patient of root/manifest.csv; without it, each image is its own
    patient. Spellings that differ in capitals, leading zeros, a final .0, a first ' or +, Unicode
    form, blanks, hyphens, slashes or invisible characters are one patient. Raises ValueError for a
    table that is damaged or lacks an image.
    """
    manifest = root / "manifest.csv"
    if not manifest.exists():
        return names, unread_tables(root)
    patient_of = rows_of(manifest)
    for name in names:
        if not patient_of.get(form := one_form(name)):
            remedy = f"add the row {name},PATIENT or remove the manifest"
            if form in patient_of:
                remedy = "its row has no patient: fill it in, or remove the manifest"
            elif near := [other for other in patient_of if bare(other) == bare(name) != ""]:
                remedy = f"it names {near[0]!r}: write names as the files are called"
            raise ValueError(f"{manifest} names no patient for {name}; {remedy}")
    notes = []
    if absent := sorted(patient_of.keys() - set(map(one_form, names))):
        some = f"{len(absent)} images that are not there, such as {absent[0]}"
        notes.append(f"manifest.csv names {some}; if prepare was interrupted, repeat it")
    patients = [patient_of[one_form(name)] for name in names]
    spellings = defaultdict(list)
    unnamed = {name for name, patient in zip(names, patients) if name == patient}
    for patient in dict.fromkeys(patients):
        # a file that stands for its patient is nobody else
        spellings[patient if patient in unnamed else identity(patient)].append(patient)
    for several in spellings.values():
        if len(several) > 1:
            spelt = f"{', '.join(several[:-1])} and {several[-1]}"
            remedy = "if they are not, give them names that differ in more than spelling"
            notes.append(f"the patients {spelt} of manifest.csv are taken for one; {remedy}")
    notes += unnamed_patients(patients)
    first = {patient: several[0] for several in spellings.values() for patient in several}
    return [first[patient] for patient in patients], notes


def unread_tables(root: Path, remedy: str = REMEDY, used: Path | None = None) -> list[str]:
    """A note on each file in a folder that may be a table of patients, but `used`."""
    names = [
        path.name
        for path in sorted(root.glob("*"))
        if not (used and path.exists() and path.samefile(used))  # a link may be dead
    ]
    tables = [
        name
        for name in names
        if (Path(name).suffix.lower() in TABLES and not name.startswith("."))
        or name.lstrip(".").lower().startswith(("manifest", "patient"))
    ]
    return [f"{name} is not read; {remedy}" for name in tables]


def unnamed_patients(patients: list[str]) -> list[str]:
    """A note on each name that says that a patient is not known."""
    found = Counter(patient for patient in patients if patient.casefold() in NOBODY)
    one = "which counts as one patient; give each image the patient it is of, or a name of its own"
    return [f"{n} images are of the patient {name!r}, {one}" for name, n in found.items()]


def rows_of(manifest: Path) -> dict[str, str]:
    """The patient of each name, in `one_form`, without empty rows, as a spreadsheet leaves them.

    Raises ValueError if the table is damaged, or names a patient and no image.
    """
    patient_of: dict[str, str] = {}
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            if not {"name", "patient"} <= set(rows.fieldnames or ()):
                columns = f"{rows.fieldnames}; it needs name and patient"
                raise ValueError(f"{manifest} has the columns {columns}, separated by commas")
            for row in rows:
                name, new = one_form(row["name"] or ""), (row["patient"] or "").strip()
                if not (name.strip() or new):
                    continue
                if not name.strip():
                    raise ValueError(f"{manifest} has no name in line {rows.line_num}; correct it")
                old = patient_of.setdefault(name, new)
                if old != new:
                    patients = f"gives {name} to two patients, {old} and {new}"
                    raise ValueError(f"{manifest} {patients}; keep one row")
        except (csv.Error, UnicodeDecodeError) as error:
            problem = f"{manifest} is not a CSV table in UTF-8 ({error}); correct or remove it"
            raise ValueError(problem) from error
    return patient_of


def one_form(name: str) -> str:
    """A file's name in one Unicode form: some systems write é as one character, others as two."""
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """A file's name without folder, ending, blanks and capitals."""
    return Path(name.strip().replace("\\", "/")).stem.casefold()


def identity(patient: str) -> str:
    """What is left of a patient's name without its spelling: P007, p7 and P7 are equal."""
    text = unicodedata.normalize("NFKC", patient).casefold().replace("\\", "/")
    kinds = [(letter, unicodedata.category(letter)) for letter in text]
    # without invisible characters, and with one kind of hyphen and of blank
    text = "".join("-" if kind == "Pd" else letter for letter, kind in kinds if kind != "Cf")
    text = re.sub(r"^['+](?=\w)", "", " ".join(text.split()))  # '7 and +7 from a spreadsheet
    text = re.sub(r"(?<![\d.])(\d+)\.0+$", r"\1", text)  # and 7.0
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), text)
