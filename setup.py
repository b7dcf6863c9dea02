"""The wheel brings the course: notebooks, and the models and results that they load.

Everything else about the package is in pyproject.toml.
"""

import base64
import io
import json
import shutil
import sys
from pathlib import Path

from PIL import Image
from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))
from minipig.course.files import course_files  # noqa: E402


class BuildWithCourse(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        files = course_files(ROOT)
        notebooks = "".join(
            (ROOT / file).read_text("utf-8") for file in files if file.suffix == ".ipynb"
        )
        for file in files:
            sheet = file.suffix in (".png", ".gif") and "phantoms" not in file.parts
            if sheet and file.as_posix() not in notebooks:
                continue  # a picture of a run or of a result, which no notebook shows
            copy = Path(self.build_lib, "minipig", "course", "files", file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".ipynb":
                copy.write_text(with_small_pictures((ROOT / file).read_text("utf-8")), "utf-8")
            else:
                shutil.copyfile(ROOT / file, copy)


def with_small_pictures(notebook: str) -> str:
    """A notebook whose figures have half of the pixels a side; they are shown as large."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = base64.b64decode("".join(data["image/png"]))
                data["image/png"] = base64.b64encode(small(picture)).decode()
    return json.dumps(content, ensure_ascii=False, indent=1)


def small(picture: bytes) -> bytes:
    """A PNG of half the pixels a side and 40 colours."""
    with Image.open(io.BytesIO(picture)) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.LANCZOS)
    result = io.BytesIO()
    half.quantize(40, kmeans=3, dither=Image.Dither.NONE).save(result, "PNG", optimize=True)
    return result.getvalue()


setup(cmdclass={"build_py": BuildWithCourse})
