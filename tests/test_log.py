"""What is written to: readers that go, full disks, closed streams, foreign backends."""

import os
import subprocess
import sys

import pytest

TRAIN = "train --steps 2 --pairs 8 --preset tiny --size 16 --batch 4 --holdout 0 --out run".split()


def in_shell(tmp_path, line, **environment):
    """Run a training whose output goes where the shell line says; (status, standard error)."""
    command = " ".join([sys.executable, "-m", "minipig", *TRAIN])
    env = os.environ | environment
    done = subprocess.run(
        ["bash", "-c", line.format(command)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "line, told",
    [
        ("set -o pipefail; {} | true", "cannot be written any more (Broken pipe); the command"),
        ("{} > /dev/full", "cannot be written any more (No space left on device); the command"),
        ("{} >&-", ""),
        ("{} 2>&-", ""),
        ("set -o pipefail; {} 2>&1 | true", ""),
    ],
)
def test_a_training_outlasts_its_output(tmp_path, line, told):
    status, error = in_shell(tmp_path, line)
    assert status == 0 and told in error and "Traceback" not in error
    assert error.count("\n") == bool(told) and (tmp_path / "run" / "pair.pt").exists()


def test_the_backend_of_a_notebook_is_not_asked_for_a_picture(tmp_path):
    status, error = in_shell(tmp_path, "{}", MPLBACKEND="module://nosuch.backend")
    assert status == 0 and "Traceback" not in error
    assert (tmp_path / "run" / "losses.png").exists()
