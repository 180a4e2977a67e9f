"""What pyproject.toml cannot say: a wheel of `helper` carries the data sets, the models and the pinned versions with it.

They go into `helper/shipped/` of the wheel; `helper.machine.folders.project_folder` finds them there. An editable install
(`-e .`) needs no copy: it has the repository.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LEFT_OUT = ("build", "*.unfinished*", ".*", "__pycache__")  # of data/: what `make data` is still making


class BuildWithData(build_py):
    """The package's files, and beside them what it reads."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shipped = Path(self.build_lib) / "helper" / "shipped"
            shutil.rmtree(shipped, ignore_errors=True)  # of an earlier build
            shutil.copytree(ROOT / "data", shipped / "data", ignore=shutil.ignore_patterns(*LEFT_OUT))
            shutil.copyfile(ROOT / "requirements.txt", shipped / "requirements.txt")


setup(cmdclass={"build_py": BuildWithData})
