"""The course as pages that need no network, the slides of a lesson, and the copy that students get: see `factory/pages/`.

python -m factory.render site         _site/: an index, a page for each lesson, the documents
python -m factory.render slides 02    _site/slides/02_sft.html
python -m factory.render student      _student/: the course without solutions, lessons not executed
"""

from __future__ import annotations

import argparse
import sys

from factory import ROOT
from factory.pages import RenderError
from factory.pages.site import build_site
from factory.pages.slides import lesson_stem, write_slides
from factory.pages.student import build_student

SITE, STUDENT = ROOT / "_site", ROOT / "_student"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("site", "slides", "student"))
    parser.add_argument("lesson", nargs="?", default="", help="for slides: the lesson's number, such as 02")
    options = parser.parse_args()
    try:
        if options.what == "slides":
            print(f"slides: {write_slides(lesson_stem(options.lesson), SITE).relative_to(ROOT)}")
        elif options.what == "site":
            print(f"{build_site(SITE)} pages: open {SITE.name}/index.html")
        else:
            print(f"{build_student(STUDENT)} lessons without solutions: {STUDENT.name}/")
    except RenderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
