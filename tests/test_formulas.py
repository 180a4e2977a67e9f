"""Formulas: what JupyterLab sees as one, and that every LaTeX environment becomes a table of cells, with no & to be seen."""

import re

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from factory.pages import RenderError
from factory.pages.content import finished
from factory.pages.formulas import ENVIRONMENTS, mathml
from factory.pages.layout import page, style
from factory.pages.markdown import markdown_html, without_formulas, words

ARGUMENTS = {"array": "{rl}", "alignat": "{2}", "alignat*": "{2}", "alignedat": "{2}"}
ONE_COLUMN = ("gather", "gather*", "gathered", "multline", "multline*")
NO_TABLE = ("equation", "equation*", "displaymath", "math")


def parsed(latex, display="inline"):
    return BeautifulSoup(mathml(latex, display), "html.parser").math


def table(soup):
    """The texts of the cells, row by row."""
    return [[cell.get_text() for cell in row("mtd", recursive=False)] for row in soup("mtr")]


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name not in NO_TABLE])
@pytest.mark.parametrize("around", ["{}", r"\left\{{ {} \right.", r"x = {} + 1", r"\begin{{equation}} {} \end{{equation}}"])
def test_an_environment_becomes_rows_of_cells(name, around):
    row = "a + {} {} b"
    body = r"\\ ".join(row.format(n, "" if name in ONE_COLUMN else "&") for n in (1, 2))
    soup = parsed(around.format(rf"\begin{{{name}}}{ARGUMENTS.get(name, '')} {body} \end{{{name}}}"), "block")
    assert table(soup) == ([["a+1b"], ["a+2b"]] if name in ONE_COLUMN else [["a+1", "b"], ["a+2", "b"]])
    assert "&" not in soup.get_text() and not soup(["merror"])


@pytest.mark.parametrize("name", NO_TABLE)
def test_an_equation_is_what_stands_in_it(name):
    inner = r"a &= b \\ &= c"
    soup = parsed(rf"\begin{{{name}}} \begin{{aligned}}[t] {inner} \end{{aligned}} \label{{eq}} \end{{{name}}}", "block")
    assert table(soup) == [["a", "=b"], ["", "=c"]] and "eq" not in soup.get_text()
    assert parsed(rf"\begin{{{name}}} a = b \end{{{name}}}").get_text() == "a=b"


def test_sides_of_an_alignment():
    cells = parsed(r"\begin{aligned} a &= b & c &= d \end{aligned}")("mtd")
    assert [cell["columnalign"] for cell in cells] == ["right", "left", "right", "left"]
    assert [cell["columnalign"] for cell in parsed(r"\begin{bmatrix*}[r] 1 & -2 \end{bmatrix*}")("mtd")] == ["right"] * 2
    assert all(
        cell["columnalign"] == "left" for cell in parsed(r"\begin{cases} 1 & x>0 \\ 2 & \text{else} \end{cases}")("mtd")
    )


def test_numbers_and_names_of_equations_are_not_shown_but_tags_are():
    rows = table(parsed(r"\begin{align} a &= b \nonumber \\ c &= d \label{eq:x} \\[4pt] e &= f \tag{7} \end{align}"))
    assert rows == [["a", "=b"], ["c", "=d"], ["e", "=f(7)"]]
    assert parsed(r"x \tag*{A}").get_text() == "xA"


@pytest.mark.parametrize("latex", [
    r"a & b", r"\begin{tabular}{c} x \end{tabular}", r"\begin{nosuch} x \end{nosuch}", r"\begin{align} \nosuch \end{align}",
    r"\begin{cases} a", "",
])  # fmt: skip
def test_what_cannot_be_shown_is_named(latex):
    with pytest.raises(RenderError) as caught:
        mathml(latex)
    assert str(caught.value).startswith(f"no MathML for the formula {latex!r}: ")


def test_what_looks_like_html_is_text():
    soup = parsed(r"\text{<b onclick=x>} \text{&lt;i&gt;} \verb|<u>| \text{A \& B} a \& b")
    assert [text.get_text() for text in soup("mtext")] == ["<b\xa0onclick=x>", "<i>", "<u>", "A\xa0&\xa0B", "&"]
    assert not soup(["b", "i", "u"])


@pytest.mark.parametrize("latex", [
    r"\href{javascript:x}{x}", r"\style{color:red}{x}", r"\class{slide}{x}", r"\color{red;background:url(//h)}x",
    r'\textcolor{" onclick="x}{x}', r"\rule{1em}{expression(1)}", r"\hspace{1em;x}",
])  # fmt: skip
def test_attributes_are_those_of_formulas(latex):
    for tag in parsed(latex)(True):
        assert not {"href", "style", "class", "onclick"} & set(tag.attrs), tag
        assert all(mark not in str(value) for value in tag.attrs.values() for mark in ';()"')


def test_what_browsers_no_longer_know_is_said_otherwise():
    assert parsed(r"\mathbf{KL} \boldsymbol{\theta} \mathsf{a1} \mathbf{f}").get_text() == "𝐊𝐋𝜽𝖺1𝐟"
    assert parsed(r"\mathrm{KL}").mi["mathvariant"] == "normal"
    lines = parsed(r"\begin{array}{cc|c} 1 & 2 & 3 \\ \hline 4 & 5 & 6 \end{array}")("mtd")
    assert [cell.get("style", "") for cell in lines][3:] == ["", "border-right: thin solid", ""]
    assert "border-bottom: thin solid" in lines[0]["style"] and "columnlines" not in str(lines)
    assert [bar["stretchy"] for bar in parsed(r"\begin{vmatrix} a & b \end{vmatrix}")("mo")] == ["true"] * 2
    assert parsed(r"\overline{abc} + \underline{abc}").mover.mo["stretchy"] == "true"
    assert parsed(r"\text{if $x > 0$}").mi.get_text() == "x"


def test_limits_stand_below_in_a_display():
    for latex, text in ((r"\sum_{i=1}^n i", "∑"), (r"\max_a Q", "max"), (r"\operatorname*{arg\,max}_x f", "arg\u2009max")):
        for formula in (latex, rf"\begin{{aligned}} y &= {latex} \end{{aligned}}"):
            under = parsed(formula, "block").find(["munder", "munderover"])
            assert under.mo.get_text() == text
            assert parsed(formula).find(["munder", "munderover"]).mo["movablelimits"] == "true"


def test_space_behind_a_functions_name_and_a_cells_style():
    soup = parsed(r"\log_2 p + \sin x + \log(x)")
    assert (
        len(soup("mspace")) == 2 and soup.msub.find_next_sibling().name == "mspace" and len(soup.msub(recursive=False)) == 2
    )
    styled = parsed(r"\begin{cases} \displaystyle \frac{1}{2} & a \\ b & c \end{cases}").mstyle
    assert styled.mfrac and not styled.find(string="a")


def set_out(latex):
    """A formula's signs and spaces as one text: ‹ before a sign of a thing, ~ a thin space, <| and |> bars in pairs."""
    text = ""
    for tag in parsed(latex)(["mi", "mn", "mo", "mspace", "mtext"]):
        sign, form = tag.get_text(), tag.get("form")
        if tag.name == "mspace":
            text += "~" if tag["width"].startswith("0.1") else " "
        elif sign in ("|", "‖"):
            text += {"prefix": f"<{sign}", "postfix": f"{sign}>"}.get(form, f" {sign} ")
        elif tag.name == "mo" and form is None and sign in tuple("+−±=:"):
            text += f" {sign} "
        else:
            text += f"{'‹' * (form == 'prefix')}{sign}"
    return text


@pytest.mark.parametrize(("latex", "wanted"), [
    ("A=-1", "A = ‹−1"), (r"\sigma(-\beta m)", "σ(‹−βm)"), ("-d", "‹−d"), ("a-b", "a − b"), ("(a)-b", "(a) − b"),
    ("x^2-1", "x2 − 1"), ("x!-1", "x! − 1"), (r"\infty-1", "∞ − 1"), ("a,-b", "a,‹−b"), (r"a = \; -b", "a =  ‹−b"),
    (r"a \cdot -b", "a·‹−b"), (r"\frac{-1}{2}", "‹−12"), (r"\begin{aligned}a &= -b\end{aligned}", "a = ‹−b"),
    (r"1\pm\varepsilon", "1 ± ε"), (r"\pm\beta", "‹±β"), ("a: b", "a : b"),
    (r"-\log p", "‹−~log~p"), (r"\beta\log p", "β~log~p"), (r"\nabla\log p", "∇~log~p"), (r"\pi(v)\log p", "π(v)~log~p"),
    (r"a + \log(p)", "a + log(p)"), (r"(\log p)", "(log~p)"), (r"a,\log p", "a,log~p"), (r"\log p-1", "log~p − 1"),
    (r"\lambda\max(0, x)", "λ~max(0,x)"), (r"\lim_x \log_2 p", "limx~log2~p"), (r"\log -x", "log~‹−x"),
    (r"\log|x|", "log~<|x|>"), ("|y_i|", "<|yi|>"), (r"\sum_i|y_i|", "∑i<|yi|>"),
    (r"\lvert x\rvert^2 - |x|", "<|x|>2 − <|x|>"), (r"\|x\|", "<‖x‖>"),
    ("p(a|b) + p(c|d)", "p(a | b) + p(c | d)"), ("|a|b|", " | a | b | "),
])  # fmt: skip
def test_signs_names_and_bars_stand_as_in_latex(latex, wanted):
    assert set_out(latex) == wanted


@pytest.mark.parametrize("name", ["underbrace", "overbrace", "overline", "underline", "overrightarrow", "widehat"])
def test_what_grows_along_a_formula_is_painted_as_far_as_it_reaches(name):
    """Without its shadow Chromium leaves a brace out where a new tile of the page begins."""
    around = parsed(rf"\{name}{{abcdefgh}}").find(["munder", "mover"])
    assert around.find("mo", recursive=False)
    assert re.search(r":is\(munder, mover, munderover\) > mo \{ box-shadow: 0 0 0 \d\dem transparent; \}", style())


def test_names_bring_no_space_of_their_own_and_brackets_grow_only_when_told():
    assert parsed(r"\operatorname{clip}(x)").mo.attrs == {"lspace": "0", "rspace": "0"}
    assert "lspace" not in parsed(r"x \bmod 2").mo.attrs
    for latex in (r"\lvert x\rvert", r"\lfloor x\rfloor", r"\langle x\rangle", "|x|"):
        assert {sign["stretchy"] for sign in parsed(latex)("mo")} == {"false"}, latex
    assert {sign["stretchy"] for sign in parsed(r"\left|x\right|")("mo")} == {"true"}
    assert parsed(r"\big(x\big)^2").msup.mrow.mo["minsize"] == "1.2em"  # a row keeps it as high as its partner


NO_FORMULA = (
    "cost $5 and $6", "US$5 or C$7", "-$5 to -$3", "$20,000–$30,000 (about $1.5M)", "**$5** and **$6**", "5$ and 6$",
    "$ 5 and $ 6", "5 $ and 6 $", "$5, $6, or $7?", "$.50 and $.75", "a $5-a-day and a $6 plan", "only $5", "$5\n\n$6",
    "| costs |\n|---|\n| $5 | \n| $6 |", "between $5 and $ten", r"\$5 and \$6", "$x\n\ny$", "$$ $$", "`$x$` and ``a ` $y$``",
    "it costs $$ and\n\nmore $$", "~~~\n$$x$$\n~~~", r"`\begin{aligned}` and `\end{aligned}`",
)  # fmt: skip
NESTED = r"\begin{array}{c}\begin{array}{c}1\end{array}\end{array}"
SEEN = dict.fromkeys(NO_FORMULA, []) | {  # Markdown, and the formulas in it
    "I have $5, you $x$": ["x"], "$10 to $20 and $x^2$": ["x^2"], r"\$5 and $x$": ["x"], "$5$ and $6$": ["5", "6"],
    "$1/(1+e^{-z})$ or $1-p$": ["1/(1+e^{-z})", "1-p"], "$2 + 3 = 5$ dollars": ["2 + 3 = 5"], "a $ x $ b": [" x "],
    "$-1$ $.5$": ["-1", ".5"], "```\n$x$\n```\n$y$": ["y"], "- a\n  ```\n  $x$\n  ```\n- $y$": ["y"], "$a$b$c$": ["a", "c"],
    r"$\text{if $x$}$": [r"\text{if $x$}"], "$$\nx\n$$": ["\nx\n"], r"\\(x\\) \\[y\\]": ["x", "y"], r"$a\$b$": [r"a\$b"],
    f"{NESTED} $z$": [NESTED, "z"],
}  # fmt: skip


@pytest.mark.parametrize("text", SEEN)
def test_what_is_a_formula(text):
    assert [formula.latex for formula in without_formulas(text)[1]] == SEEN[text]


@pytest.mark.parametrize("text", [text for text in NO_FORMULA if not set("`~\\") & set(text)])
def test_what_is_none_stays_as_it_was_written(text):
    soup = BeautifulSoup(markdown_html(text), "html.parser")
    assert not soup("math") and soup.get_text().count("$") == text.count("$")


def test_bars_in_a_table():
    rows = [r"| $|x|$ | $p(a|b)$ |", r"| $\|x\|$ | $\left|\frac{a}{b}\right|$ |", r"| $a \mid b$ | `x` |"]
    soup = BeautifulSoup(markdown_html("\n".join(["| a | b |", "|---|---|", *rows])), "html.parser")
    texts = [[cell.get_text() for cell in row("td")] for row in soup("tr")[1:]]
    assert texts == [["|x|", "p(a|b)"], ["‖x‖", "|ab|"], ["a∣b", "x"]]


def test_formulas_are_shown_in_html_and_left_alone_in_code_and_attributes():
    text = '<div><b>$x$</b></div>\n\n    code $y$\n\n![$a$](a.png "$b$") [l](http://h/$c$) *$d_1$ and* $e_2$\n\n# $f$'
    soup = BeautifulSoup(markdown_html(text), "html.parser")
    assert [formula.get_text() for formula in soup("math")] == ["x", "d1", "e2", "f"]
    assert soup.pre.get_text() == "code $y$" and soup.em.math and soup.h1.math
    assert (soup.img["alt"], soup.img["title"], soup.a["href"]) == ("$a$", "$b$", "http://h/$c$")


def test_a_formula_in_a_line_can_scroll_where_the_line_is_short():
    soup = BeautifulSoup(markdown_html("a $x$ b\n\n$$y$$"), "html.parser")
    assert [tuple(math.parent["class"]) for math in soup("math")] == [("inline",), ("formula",)]
    rules = re.findall(r"\n *\.(inline|formula) \{([^}]*)\}", style())
    assert {name for name, rule in rules if "overflow" in rule and "auto" in rule} == {"inline", "formula"}


def test_the_words_of_a_heading_have_the_spaces_that_are_seen():
    soup = finished(markdown_html("## Why  $\\log\\pi(y \\mid x)$,<br>*not* `p`, $A=-1$?"), "README.md", "a.html")
    assert words(soup.h2) == "Why log π(y∣x), not p, A=−1?" and soup.h2("mspace")
    assert words(BeautifulSoup(page(soup, "a.html"), "html.parser").select_one("nav.contents li")) == words(soup.h2)


def test_a_display_stands_on_its_own():
    soup = BeautifulSoup(
        markdown_html("in $x$\n\\begin{gather}\na \\\\\n# b\n\\end{gather}\nafter\n\n$$\n- y\n$$"), "html.parser"
    )
    assert [math["display"] for math in soup("math")] == ["inline", "block", "block"]
    assert len(soup.select("span.formula[tabindex]")) == 2 and not soup(["h1", "li"]) and "after" in soup.p.get_text()


@given(st.text(alphabet="$\\ab1 {}&_|`\n(", max_size=40))
def test_any_text_becomes_a_page_or_a_named_error(text):
    """Marks of formulas never show, and what is no formula keeps its dollars."""
    try:
        shown = BeautifulSoup(markdown_html(text), "html.parser").get_text()
    except RenderError as error:
        assert "no MathML for the formula" in str(error)
    else:
        assert not {"\ue000", "\ue001"} & set(shown)
