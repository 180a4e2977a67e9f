"""How everything that the course ships is made: data, models, recorded runs, pages. See CONTRIBUTING.md."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the project
READMES = ("README.md", "README.zh-CN.md")  # the same in English and in Chinese, with the same results
