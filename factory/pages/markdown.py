"""Markdown to HTML, with formulas as MathML and pictures inside the page."""

from __future__ import annotations

import re
from pathlib import Path

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from factory.pages import RenderError


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML; `display` is "inline" or "block". Raises RenderError."""
    try:
        formula = convert(latex.strip(), display=display)
    except Exception as error:  # the converter raises a dozen kinds
        raise RenderError(f"no MathML for the formula {latex.strip()!r}: {type(error).__name__} {error}") from error
    unknown = re.search(r">(\\[A-Za-z]+)", formula)
    if unknown:
        raise RenderError(f"no MathML for the formula {latex.strip()!r}: {unknown[1]} is not known")
    space = '<mspace width="0.17em"/>'  # which the converter leaves out after a function's name
    return re.sub(r"(<mi>(?:log|ln|exp)</mi>)(?!<mo[^>]*>&#x00028;)", rf"\1{space}", formula)


class Renderer(IPythonRenderer):
    """Markdown to HTML, with formulas as MathML."""

    def block_math(self, body: str) -> str:
        return f'<span class="formula" tabindex="0" role="group" aria-label="Formula">{mathml(body, "block")}</span>'

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_html(self, html: str) -> str:
        """As it stands: nbconvert parses each piece, and so ends a <details> before the text that it should fold."""
        return f"{html}\n"

    def inline_html(self, html: str) -> str:
        return html


def markdown_html(source: str, folder: Path) -> str:
    """Markdown as HTML; its pictures, relative to `folder`, are put into the page."""
    renderer = Renderer(escape=False, exclude_anchor_links=True, embed_images=True, path=str(folder))
    return MarkdownWithMath(renderer=renderer).render(source)
