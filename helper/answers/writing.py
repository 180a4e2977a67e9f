r"""Stage 2 of comparing answers: one way of writing for each thing.

`clean` takes away what is only dress (Markdown, LaTeX wrappers, spaces without meaning, Unicode's many signs for one
thing), so that "\dfrac12", "½" and "**\frac{1}{2}**" become one text. What it leaves is read by `numbers` and `units`.
Left out on purpose: reading all of LaTeX (matrices, environments), and anything that computes.
"""

import re
import unicodedata

THIN = "\x1f"  # a space that may stand between thousands, where an ordinary one may not

# Unicode.
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)
_SIGNS = {
    **dict.fromkeys("\u00a0\u2007\u2008\u2009\u200a\u202f", THIN),
    **dict.fromkeys("−‐‑‒–—―﹣－", "-"), **dict.fromkeys("’‘‛′`´", "'"), **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("×✕✖⨯", r"\times "), **dict.fromkeys("·⋅∙•", r"\cdot "), **dict.fromkeys("∗⁎", "*"),
    **dict.fromkeys("⁄∕", "/"), **dict.fromkeys("≤≦⩽", r"\le "), **dict.fromkeys("≥≧⩾", r"\ge "), "≠": r"\ne ",
    "±": r"\pm ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "π": r"\pi ",
    **dict.fromkeys("º˚", "°"), "∠": r"\angle ", "△": r"\triangle ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "θ": r"\theta ", "λ": r"\lambda ",
    "φ": r"\phi ", "ϕ": r"\phi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "ω": r"\omega ",
}  # fmt: skip
_TRANSLATION = str.maketrans(_SIGNS) | _INVISIBLE
_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣʸᵃᵇᵏᵐ", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₓₙₖₘₜ"
_SMALL_FRACTION = re.compile(r"([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)|[¼-¾⅐-⅞↉]")
_RAISED_OR_LOWERED = re.compile(rf"[{_RAISED}]+|[{_LOWERED}]+")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")  # Arabic, Devanagari ...
_ROOT = re.compile(r"(³√|⁴√|[√∛∜])\s*(?:([0-9]+(?:\.[0-9]+)?|[a-zA-Z])|\(([^()]*)\))?")

# LaTeX.
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
_WRITTEN_AS = {  # what is written for each of some commands
    "": r"\left \right \middle \displaystyle \textstyle \scriptstyle \limits \( \) \[ \] \boldmath \bf \it \rm \sf \tt"
    r" \big \bigl \bigr \Big \Bigl \Bigr \bigg \biggl \biggr \Bigg \Biggl \Biggr",
    " ": r"\quad \qquad \enspace \enskip", THIN: r"\, \: \; \> \thinspace",
    r"\frac": r"\dfrac \tfrac \cfrac \nicefrac \sfrac \xfrac \flatfrac",
    r"\le": r"\leq \leqslant \leqq", r"\ge": r"\geq \geqslant \geqq", r"\ne": r"\neq", "<": r"\lt", ">": r"\gt",
    "%": r"\% \textpercent", "$": r"\$ \textdollar \mathdollar", "£": r"\pounds \textsterling \mathsterling",
    "€": r"\euro \texteuro \EUR", "¥": r"\yen \textyen", "¢": r"\cent \textcent", "°": r"\degree \textdegree",
    "|": r"\lvert \rvert \vert \mid", r"\emptyset": r"\varnothing", r"\{": r"\lbrace", r"\}": r"\rbrace", "[": r"\lbrack",
    "]": r"\rbrack", "*": r"\ast", ":": r"\colon", "μ": r"\micro \textmu", "Ω": r"\ohm", "°C": r"\celsius",
    r"\phi": r"\varphi", "&": r"\&", "#": r"\#", "_": r"\_",
}  # fmt: skip
_COMMANDS = {command: written for written, commands in _WRITTEN_AS.items() for command in commands.split()} | {"\\ ": " "}
_NOTHING = re.compile(r"\s*\\!\s*|\\[hv]space\*?\s*\{[^{}]*\}|\\h?phantom\s*\{[^{}]*\}|\\(?:tag|label)\*?\s*\{[^{}]*\}")
_COMMA = re.compile(r"\s*\{\s*,\s*\}\s*")
_COLOUR = re.compile(r"\\(?:textcolor|color|colorbox)\s*\{[^{}]*\}")
_SWITCH = re.compile(r"\{\s*\\(?:bf|it|rm|sf|tt|em|sl|sc|bfseries|itshape|rmfamily|large|Large)(?![a-zA-Z])\s*([^{}]*)\}")
_WRAPPER = re.compile(  # one level of braces inside
    r"\\(?:(?:text|math)(?:normal|bf|it|rm|sf|tt|sc|sl|up|md)|text|[fmh]box|boldsymbol|bm|pmb|operatorname\*?|underline|emph"
    r"|ensuremath|num|si|unit)\s*(?:\{((?:[^{}]++|\{[^{}]*+\})*+)\}|\s([0-9a-zA-Z])(?![0-9a-zA-Z]))"
)
_UNIT_OF_TWO = re.compile(r"\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_UPRIGHT = {
    "K": "kelvin", "A": "ampere", "C": "coulomb", "T": "tesla", "F": "farad", "H": "henry", "S": "siemens", "B": "bytes",
}  # fmt: skip  # single letters that are a unit where they stand upright behind a number
_BEHIND_NUMBER = re.compile(r"[0-9}][\s~]*$")
_DEGREE = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))")
_OVER = re.compile(
    r"\{((?:[^{}]|\{[^{}]*\})*?)\\over(?![a-zA-Z])\s*((?:[^{}]|\{[^{}]*\})*)\}"
    r"|^([^{}]*?)\\over(?![a-zA-Z])\s*([^{}]*)$"
)
_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_LATEX_ROOT = re.compile(r"\\sqrt\s*(\[[^\[\]{}]*\])?\s*([0-9a-zA-Z])(?![0-9])")
_REPEATING = re.compile(r"(?<![0-9.,])([0-9]*)\.([0-9]*)\\(?:overline|bar|dot)\s*(?:\{([0-9]+)\}|([0-9]))")

# Plain text.
_SPECIAL = re.compile(r"!=|<=|>=|\\not\s*=")
_SPECIALS = {"!=": r"\ne ", "<=": r"\le ", ">=": r"\ge "}
_MARKDOWN = re.compile(r"(?<![\w)}\]*_])(\*\*\*|\*\*|\*|___|__|_)(?=[^\s*_])([^*_]+)(?<=[^\s*_])\1(?![\w(*])")
_SPACES = re.compile(r"(?<=[0-9})\]])[ \t]{0,9}~[ \t]*+(?=[a-zA-Z])|[ \t\r\n\f\v]++|(?<=[0-9})\]])~")
_HALF_DAY = re.compile(r"(?<=[0-9}])( ?)(?:([apAP])\. ?([mM])\b\.?|([AP])(M)\b)")  # "3:30 p.m.", "3:30 PM"
_NO_THOUSANDS = re.compile(rf"(?<![0-9]){THIN}|{THIN}(?![0-9]{{3}}(?![0-9]))")
_MICRO = re.compile(r"(?<=[0-9 ])\\mu\s*(?=[mgsLlAVWFN]\b)")
_INDEX = re.compile(r"([_^])\{([0-9a-zA-Z])\}(?![0-9a-zA-Z])")
_OUTER = re.compile(r"\(([^(),]+|\([^(),]+\))\)|\{([^{},]+|\{[^{},]+\})\}")
_NEEDLESS_SPACE = re.compile(r" (?=[^\w.,])|(?<=[^\w.,]) |(?<=,) (?![0-9]{3}(?![0-9]))|(?<=[0-9]) (?=[^\W\d_])")
_COMMAND_SPACE = re.compile(r"(\\[a-zA-Z]++) (?=[0-9])")  # a digit ends a command's name as well: "\pm 3"
_WORDS_ONLY = re.compile(  # perhaps behind a time of day
    r"(?:[0-9]{1,2}:[0-9]{2})?[^\W\d_](?:[^\W\d_]|[ .;:!?'\"]|(?<=[^\W\d_]{3})-(?=[^\W\d_]{3}))*+"
)


def clean(answer: str) -> str:
    """The answer with one sign for each thing, and without Markdown, LaTeX wrappers, outer spaces and full stop."""
    text = answer.strip()
    text = text if text.isascii() else _plain_signs(text)
    if "$" in text and len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:  # delimiters, not dollars
        text = re.sub(r"(?<!\\)\$", "", text)
    if "\\" in text or "{" in text:
        text = _plain_latex(_COMMA.sub(",", text))
    if "=" in text:
        text = _SPECIAL.sub(lambda match: _SPECIALS.get(match.group(), r"\ne "), text)
    if THIN in text:
        text = _NO_THOUSANDS.sub(" ", text)
    text = _HALF_DAY.sub(lambda match: "".join(filter(None, match.groups())).lower(), _SPACES.sub(" ", text))
    text = _plain_text(text) if "_" in text or "*" in text or "^" in text else text
    text = text.lstrip(" *`\"'").rstrip(" *`\"'.").strip()
    while inside := _OUTER.fullmatch(text):
        text = (inside.group(1) or inside.group(2)).strip()
    return text


def squeezed(text: str) -> str:
    """A cleaned text without needless spaces, words alone in lower case ("R" and "r" may be two variables)."""
    text = _COMMAND_SPACE.sub(r"\1", _NEEDLESS_SPACE.sub("", text))
    return text.casefold() if _WORDS_ONLY.fullmatch(text) else text


def _plain_signs(text: str) -> str:
    """One sign for each thing where Unicode has several: "７２", "⅓", "x⁴", "√16", all kinds of dashes and spaces."""
    text = _SMALL_FRACTION.sub(_in_line, text)
    text = _RAISED_OR_LOWERED.sub(_as_index, _ROOT.sub(_as_root, text))
    text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), text.translate(_TRANSLATION))
    return unicodedata.normalize("NFKC", text).translate(_TRANSLATION)


def _in_line(fraction: re.Match) -> str:
    top, bottom = fraction.groups()
    text = f"{top}/{bottom}" if top else fraction.group()
    return " " + unicodedata.normalize("NFKC", text).replace("⁄", "/")


def _as_index(characters: re.Match) -> str:
    """ "⁴" as "^{4}", "₆" as "_{6}"."""
    sign = "^" if characters.group()[0] in _RAISED else "_"
    return f"{sign}{{{unicodedata.normalize('NFKC', characters.group())}}}"


def _as_root(root: re.Match) -> str:
    degree = {"√": "", "∛": "[3]", "³√": "[3]", "∜": "[4]", "⁴√": "[4]"}[root.group(1)]
    inside = root.group(2) or root.group(3)
    return rf"\sqrt{degree}" + (f"{{{inside}}}" if inside else " ")


def _plain_latex(text: str) -> str:
    """One command for each thing, and no commands that only dress."""
    text = _COLOUR.sub("", _NOTHING.sub("", text))
    text = _UNIT_OF_TWO.sub(r"\1 \\text{\2}", _SWITCH.sub(r"\\text{\1}", text))
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match.group(), match.group()), text)
    for _ in range(3):  # wrappers in wrappers
        text = _WRAPPER.sub(_unwrapped, text)
    text = _DEGREE.sub("°", text)
    text = _OVER.sub(_as_fraction, text) if r"\over" in text else text
    text = _FRACTION.sub(r"\\frac{\1\2}{\3\4}", text)
    text = _REPEATING.sub(_as_exact, _LATEX_ROOT.sub(r"\\sqrt\1{\2}", text))
    return _MICRO.sub("μ", text)


def _unwrapped(wrapper: re.Match) -> str:
    inside = wrapper.group(1) or wrapper.group(2) or ""
    if inside.strip() in _UPRIGHT and _BEHIND_NUMBER.search(wrapper.string, 0, wrapper.start()):
        inside = _UPRIGHT[inside.strip()]
    return " " + inside


def _as_fraction(over: re.Match) -> str:
    top, bottom, whole_top, whole_bottom = over.groups()
    top, bottom = (top, bottom) if top is not None else (whole_top, whole_bottom)
    return rf"\frac{{{top.strip()}}}{{{bottom.strip()}}}"


def _as_exact(decimal: re.Match) -> str:
    r""" "0.1\overline{6}" as the fraction (16 - 1) / 90."""
    whole, fixed, repeated, digit = decimal.groups()
    repeated = repeated or digit
    top = int(whole + fixed + repeated) - int(whole + fixed or "0")
    return rf"\frac{{{top}}}{{{'9' * len(repeated)}{'0' * len(fixed)}}}"


def _plain_text(text: str) -> str:
    """Without Markdown's emphasis, and indices without needless braces."""
    return _INDEX.sub(r"\1\2", _MARKDOWN.sub(r"\2", text))
