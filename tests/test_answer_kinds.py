"""Kinds of answers, each with inputs on both sides: ways of writing that are equal, and their neighbours that are not.

Left out on purpose: single mistakes of simple graders, which stand in the table of hard cases (`test_answers.py`).
"""

import json
import re
import sys
import tempfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, configuration, given, settings
from hypothesis import strategies as st
from test_answers import needs_math_verify
from test_answers_properties import EXAMPLES

from helper.answers import (
    answers_match,
    expected_answer,
    expressions,
    extract_answer,
    extract_gold,
    normalise,
    without_thoughts,
)

configuration.set_hypothesis_home_dir(tempfile.gettempdir())
GSM8K = Path(__file__).resolve().parents[2] / "shared" / "gsm8k"

EQUAL = {
    "an abbreviation of a multiplier is no unit": [
        ("5 mins", "5"), ("5 bills", "5"), ("6 mi", "6"), ("6 thumbs", "6"), ("6 bins", "6"), ("6 tins", "6"),
        ("6 corks", "6"), ("6 hundredweight", "6"), ("6 trees", "6"), ("6 millers", "6"), ("6 billets", "6"),
        ("6 grandchildren", "6"), ("6 scorers", "6"), ("6 tons", "6"), ("6 dozers", "6"),
    ],
    "X of Y": [
        ("4 bags of marbles", "4 bags"), ("3 cups of flour", "3 cups"), ("5 of the students", "5 students"),
        ("3 gallons of milk", "3 gallons"), ("8 chocolate bars", "8 bars"), ("4 tickets sold", "4 tickets"),
    ],
    "lists": [
        ("x=1, x=-2", "1, -2"), ("19, 46, and 82", "19, 46, 82"), ("x=1 or x=2", "x=1, x=2"), ("a = 3, a = 5", "3, 5"),
        ("2, 4 and 8", "2, 4, 8"), (r"n=4 \text{ or } n=-4", "n = 4, n = -4"), ("3 and 7", "3, 7"), ("2; 3; 5", "2, 3, 5"),
        ("x = 2, -2", "2, -2"), ("(1,2) and (3,4)", "(1, 2), (3, 4)"), ("x=-2 or x=2", "x=2 or x=-2"),
        ("x = 3, y = 4", "y = 4, x = 3"), (r"12\text{ and }13", "12, 13"), ("red, green and blue", "red, green, blue"),
    ],
    "names": [
        ("f(x) = 5", "5"), ("AB = 5", "5"), ("x_1 = 5", "5"), (r"\theta = 30^\circ", "30"),
        (r"\theta = 30^\circ", r"30^\circ"), (r"\text{Area} = 12", "12"), (r"P(A)=\frac13", r"\frac13"),
        (r"P(A)=\frac13", "1/3"), ("5 = x", "x=5"), ("= 72", "72"), ("g(t) = 12", "12"), (r"\alpha = 45^\circ", "45"),
        ("BC = 7.5", "7.5"), (r"\text{Total cost} = 80", "80"), ("a_{10} = 55", "55"), ("9 = n", "n = 9"), ("= -4", "-4"),
        (r"\angle ABC = 60^\circ", "60"), ("S_n = n^2", "n^2"), (r"P(X=2) = \frac{1}{4}", "0.25"), ("n = 12", "12"),
        (r"x = \frac{-3}{4}", "-0.75"), ("f'(2) = 8", "8"), (r"\overline{AB} = 13", "13"), ("The area = 24", "24"),
        ("k = 2x", "2x"), ("v_0 = 9.8", "9.8"), (r"m\angle B = 35^\circ", "35"), ("(x, y) = (2, 3)", "(2, 3)"),
        ("12 = AB", "12"), ("E[X] = 3.5", "3.5"), (r"V = 36\pi", r"36\pi"), ("|AB| = 5", "5"),
    ],
    "units": [
        (r"72\ \text{J}", "72"), (r"72\,\mathrm{Pa}", "72"), ("72 μm", "72"), ("72 µm", "72"), ("20℃", "20"),
        (r"125\textnormal{ miles}", "125"), ("5 km", "5 kilometers"), ("10 min", "10 minutes"),
        ("20°C", "20 degrees Celsius"), ("3 foot", "3 feet"), ("5 berries", "5 berry"), ("21 points", "21"),
        ("9 quarters", "9"), ("72 (apples)", "72"), (r"9.8\ \text{N}", "9.8"), (r"5\,\mathrm{kHz}", "5"), ("3 µs", "3"),
        ("98.6℉", "98.6"), ("5 lbs", "5 pounds"), ("2 hrs", "2 hours"), ("3 m", "3 metres"), ("4 knives", "4 knife"),
        ("2 boxes", "2 box"), ("30 secs", "30 s"), ("6 children", "6 child"), ("12 sq ft", "12 square feet"),
        ("8 (dollars)", "8"), (r"14\mbox{ inches}", "14"), ("40 mph", "40 miles per hour"), ("5 kg", "5 kilograms"),
        ("5 ml", "5 millilitres"), ("5 yrs", "5 years"), ("5 in", "5 inches"), ("5 oz", "5 ounces"), ("5 ft", "5 feet"),
        ("5 m^2", "5 square meters"), ("5 cm3", "5 cubic centimetres"), ("60 km/h", "60 kph"),
        ("3 kWh", "3 kilowatt-hours"), ("3 tomatoes", "3 tomato"), ("3 wolves", "3 wolf"), ("3 women", "3 woman"),
        ("3 glasses", "3 glass"), ("45 deg", "45°"), ("98.6°F", "98.6 degrees Fahrenheit"), (r"7\,\text{mol}", "7"),
        (r"7\ \mathrm{m/s}", "7 m/s"), ("7 (hours)", "7 hours"), ("1 point", "1"), ("3 p.m.", "3 pm"),
        ("100 dollars", "$100"), ("100 pounds", "100 lb"), ("8 hours a day", "8 hours per day"), ("9.8 m/s²", "9.8 m/s^2"),
        ("5 Ω", "5 ohms"), ("5 μs", "5 microseconds"),
    ],
    "percent and currency": [
        ("28 pct", r"28\%"), ("28 percentage", r"28\%"), ("₩72,000", "72000"), ("Rs. 500", "500"), ("EUR 72", "72"),
        ("72¢", "72"), (r"\textdollar 72", "72"), ("15 percentage", "15"), ("CHF 40", "40"), ("₫5000", "5000"),
        ("40 EUR", "€40"), ("Rs 250", "₹250"), (r"\pounds 30", "£30"), ("35 cents", "35¢"), ("15 per cent", "15%"),
        ("15 percent", "15 percentage"), ("15%", "15"), ("$15", "15 USD"), ("€15", "15 euros"), ("€15", "15 EUR"),
        ("£15", "15 GBP"), ("¥15", "JPY 15"), ("15 ₹", "Rs. 15"), ("CAD 15", "C$15"), ("$15 dollars", "$15"),
        ("R$ 15", "15"), ("15 CHF", "15"), ("HK$15", "15"), ("15 yuan", "CNY 15"),
    ],
    "Unicode": [
        ("７２", "72"), ("72％", "72"), ("⅓", "1/3"), ("3⁄4", "3/4"), ("√16", "4"), ("√16", r"\sqrt{16}"), ("\u20115", "-5"),
        ("72\u200b", "72"), ("cafe\u0301", "café"), ("it's", "it\u2019s"), ("4343₆", "4343_6"), ("x⁴", "x^4"),
        ("１２３", "123"), ("⅔", "2/3"), ("2⅓", "7/3"), ("√25", "5"), ("\u20107", "-7"), ("\ufeff12", "12"),
        ("10¹²", "10^{12}"), ("x⁻¹", "1/x"), ("＄５", "5"), ("\u201cyes\u201d", "yes"), ("x₁", "x_1"), ("４．５", "4.5"),
        ("１，０００", "1000"), ("−７", "-7"), ("⅝", "0.625"), ("3⅛", "3.125"), ("²⁄₃", "2/3"), ("2√3", r"2\sqrt{3}"),
        ("∛27", "3"), ("10⁻²", "0.01"), ("x²⁺¹", "x^{2+1}"), ("aₙ", "a_n"), ("5\u200c", "5"), ("\u202a5\u202c", "5"),
        ("5\u00a0000", "5000"), ("90º", "90"), ("θ = 45°", "45"), ("\u201c5\u201d", "5"), ("don\u2019t", "don't"),
        ("𝟓", "5"), ("5⁻¹", "0.2"), ("½%", "0.5%"), ("\u20125", "-5"), ("x ≤ 5", "x <= 5"), ("A ∪ B", r"A \cup B"),
    ],
    "LaTeX and Markdown": [
        (r"0.\overline{3}", "1/3"), ("10^{-3}", "0.001"), ("2^{-1}", "1/2"), (r"1\over2", "1/2"),
        (r"\nicefrac{1}{2}", "1/2"), (r"\sqrt[3]2", r"\sqrt[3]{2}"), (r"\textcolor{blue}{72}", "72"),
        (r"\underline{72}", "72"), (r"{\bf 72}", "72"), (r"\bm{72}", "72"), (r"\emptyset", r"\varnothing"),
        (r"x\leqslant3", r"x\le3"), ("x != 3", r"x \neq 3"), (r"2\,\pi", r"2\pi"), (r"x\,+\,1", "x+1"),
        (r"11,\! 111", "11111"), ("__42__", "42"), (r"0.1\overline{6}", "1/6"), ("5^{-2}", "0.04"), (r"{3\over4}", "0.75"),
        (r"\sfrac{2}{5}", "0.4"), (r"\sqrt[3]{8}", "2"), (r"\color{red}{15}", "15"), (r"\emph{15}", "15"),
        (r"{\it 15}", "15"), (r"x\geqslant 2", r"x \ge 2"), ("x <= 3", r"x \leq 3"), (r"3\,x\,y", "3xy"),
        (r"1\,234", "1234"), (r"\mathbf{x}+1", "1 + x"), (r"\left\{1,2\right\}", r"\lbrace 2, 1 \rbrace"),
        (r"\sqrt3", r"\sqrt{3}"), (r"0.\overline{142857}", "1/7"), (r"0.9\overline{9}", "1"),
        (r"1.2\overline{3}", "37/30"), (r"0.\bar{6}", "2/3"), (r"\frac{1}{2}\pi", r"\frac{\pi}{2}"),
        (r"\tfrac{5}{8}", "0.625"), (r"\cfrac{5}{8}", "0.625"), (r"{5 \over 8}", "0.625"), (r"\sqrt[3]{27}", "3"),
        (r"\sqrt[3]5", r"\sqrt[3]{5}"), (r"\sqrt5", r"\sqrt{5}"), (r"\bigl(1, 2\bigr)", "(1,2)"), (r"\textstyle 5", "5"),
        (r"\mathit{5}", "5"), (r"{\rm 5}", "5"), (r"\rm 5", "5"), (r"\textcolor{red}{\textbf{5}}", "5"),
        (r"5\hspace{2mm}", "5"), (r"x \ge 5", r"x \geqslant 5"), (r"x \not= 5", r"x \ne 5"), ("10^{-3}", "1/1000"),
        ("3^{-2}", r"\frac19"), ("14 {,}916", "14916"), (r"1\;234", "1234"), (r"2\,x", "2x"), (r"\text{yes}", "Yes"),
        (r"\{1,2,3\}", r"\left\{3,2,1\right\}"), (r"\varnothing", "∅"), (r"$5$\%", "5%"),
        (r"\dfrac{7}{2}\text{ cups}", "3.5"), (r"\mathrm{i}", "i"), (r"\lbrack 1, 2 \rbrack", "[1,2]"),
        (r"\sqrt{2} m", r"\sqrt{2}"),
    ],
    "letters of choices": [
        ("B. 42", "B"), ("B)", "B"), ("(B) 42", "B"), ("Option B", "B"), ("C)", "C"), ("(D) 7 cm", "D"), ("Choice A", "A"),
        (r"\textbf{(E) } 9", "E"), ("(c)", "C"), ("c.", "C"), ("D. None of the above", "D"), ("D: 12", "D"), ("[B]", "B"),
        ("Option (A)", "A"), ("The correct answer is E", "E"), ("A is correct", "A"), ("B. 42", "(B) 42"),
    ],
    "numbers": [
        ("1,00,000", "100000"), ("12,34,567", "1234567"), ("10,00,000", "1000000"),
    ],
    "scientific notation": [
        ("1.5e-3", "0.0015"), ("1E5", "100000"), ("1e+5", "100,000"), ("-2.5e2", "-250"), (".5e1", "5"), ("1e5", "1.0E+05"),
        (r"3.2 \times 10^{4}", "32000"), (r"6.02\cdot10^{23}", "6.02e23"), ("3 × 10^4", "30000"), ("3·10⁻²", "0.03"),
        (r"1.5\,\times\,10^{4}", "15000"), ("2 x 10^3", "2000"), ("3*10**4", "30000"), ("10^4", "10000"), ("10⁻³", "1e-3"),
        (r"-4 \times 10^{-1}", r"-\frac{2}{5}"), ("10^{ -2 }", "0.01"), (r"x = 3 \times 10^2", "300"),
        ("1e5 km", "100000 km"),
        (r"3.0\times10^{8}\ \mathrm{m/s}", "3e8 m/s"), ("$1.5e6", "1500000 dollars"), (r"$5 \times 10^2$", "500"),
        ("(1e2, 2e2)", "(100, 200)"), (r"\{1e2, 2\}", r"\{2, 100\}"), ("1e300", "10^{300}"), (r"5\cdot10^{3}\%", "5000%"),
        (r"\text{Mass} = 6 \times 10^{24} \text{ kg}", "6e24"), ("1e-05", 0.00001), ("1e16", "10000000000000000"),
    ],
    "times of day": [
        ("3:30 PM", "3:30 p.m."), ("3:30 a.m.", "3:30 AM"), ("3 p.m.", "3 PM"), ("3 P.M.", "3pm"), ("10 a.m", "10 AM."),
        ("9 AM to 5 PM", "9 a.m. to 5 p.m."), ("3:30\u202fPM", "3:30 p.m."), ("3:30 p. m.", "3:30pm"),
        (r"3:30\text{ p.m.}", "3:30 PM"), ("10:15 P.M. EST", "10:15 pm EST"),
    ],
    "boxes": [
        (r"\boxed 5", "5"), (r"So $x = \boxed 5$.", "5"), (r"\boxed\frac12", "0.5"), (r"\fbox{5}", "5"),
        (r"\boxed{\fbox{5}}", "5"), (r"\fbox{\boxed{5}}", "5"), (r"$\boxed (1, 2)$", "(1,2)"), (r"\boxed 1,234", "1234"),
    ],
}  # fmt: skip
DIFFERENT = {
    "an abbreviation of a multiplier is no unit": [
        ("5 doz", "5"), ("5 mln", "5"), ("5 mio", "5"), ("5 bn", "5"), ("5 thou", "5"), ("5 mill.", "5"), ("3 dz", "3"),
        ("7 trn", "7"), ("$4 bil", "4"), (r"5\text{ mln}", "5"), ("6 Mrd", "6"), ("6 tsd", "6"), ("6 zillion", "6"),
        ("6 crores", "6"), ("6 lacs", "6"), ("6 kEUR", "6"), ("$6 m", "6"), ("6 MM", "6"), ("6 hund.", "6"),
        ("6 milliards", "6"), ("6 Bn", "6"), ("6 gross", "6"), ("6 k", "6"), ("6 million-plus", "6"), ("6 tril.", "6"),
    ],
    "X of Y": [
        ("3 boxes of pencils", "3 pencils"), ("2 pairs of socks", "2 socks"), ("4 bags of marbles", "4 marbles"),
        ("6 slices of pizza", "6 pizzas"), ("2 dozen eggs", "2 eggs"), ("7 pencil boxes", "7 pencils"),
        ("5 sheets of paper", "5 papers"), ("10 packs of 12 cards", "120"), ("3 litres of milk", "3 milks"),
        ("20% of students", "20 students"), ("8 chocolate bars", "8 chocolates"), ("a dozen eggs", "12"),
        ("5 of the 12 apples", "5 apples"), ("5 rows of seats", "5 rows of chairs"),
    ],
    "lists": [
        ("x=1 or x=2", "1"), ("x = 1, x = 2", "x = 1, x = 3"), ("1, 2, and 3", "1, 2"),
        ("x = 2 or x = 5", "y = 2 or y = 5"), ("2, 3", "3, 2"), ("1 or 2", "1"), ("x = 3, y = 4", "x = 4, y = 3"),
        ("x=1 or y=1", "x=1, x=1"),
    ],
    "names": [
        ("f(x) = 5", "g(x) = 5"), ("2x = 10", "10"), ("x^2 = 9", "9"), ("AB = 5", "AC = 5"), (r"\cos\theta = 0.5", "0.5"),
        ("xy = 12", "12"), ("3x + 2 = 8", "8"), ("x^3 = 8", "8"), (r"x \neq 5", "5"), ("x > 5", "5"), ("x = 5", "x = 6"),
        ("y = 5", "z = 5"), (r"\lambda = 2", r"\mu = 2"), ("a_1 = 5", "a_2 = 5"), ("not = 5", "5"), ("f(3)=f(2)+1", "1"),
        ("n! = 6", "6"),
    ],
    "units": [
        ("5 km", "5 kilograms"), ("20°C", "20 degrees Fahrenheit"), ("10 min", "10 miles"), ("60 minutes", "1 hour"),
        ("5 points", "5 pints"), (r"72\text{k}", "72"), ("5 ft", "5 inches"), ("60 km/h", "60 mph"), ("98.6°F", "98.6°C"),
        (r"7\text{ m}", "7 cm"), ("7 (seven)", "7"), ("7 (or 8)", "7"), ("2 quarters", "2"), ("5 point 2", "5.2"),
        ("5 m", "5 minutes"), ("8 hours a day", "8 hours"), ("5 apples and oranges", "5"), ("5 m/s", "5 m/s^2"),
        (r"5\,\Omega", "5"), ("5 ms", "5 μs"),
    ],
    "percent and currency": [
        ("50¢", "$50"), ("JPY 100", "USD 100"), ("15%", "0.15"), ("A$15", "C$15"), ("15 cents", "$15"), ("₿15", "15"),
    ],
    "Unicode": [
        ("1²", "12"), ("3⁄4", "3.4"), ("٥", "6"), ("x²", "x2"), ("3\u20135", "-2"),
    ],
    "LaTeX and Markdown": [
        (r"0.\overline{3}", "0.3"), ("x ≠ 3", "x = 3"), ("10^{-3}", "1000"), ("x <> 5", "x = 5"), ("10^{-3}", "0.01"),
        (r"\frac{1}{2} mv^2", "1/2"), (r"\emph{no}", "yes"),
    ],
    "letters of choices": [
        ("B or C", "B"), ("C. 42", "B"), ("Option D", "C"), ("B) 12 C) 13", "B"), ("(A) or (B)", "A"), ("A and B", "A"),
        ("A.", "B"), ("(B) 42", "(B) 43"), ("Not A", "A"), ("AB", "A"), ("A 5", "A"),
    ],
    "numbers": [
        ("1,23", "123"), ("1,0,000", "10000"),
    ],
    "scientific notation": [
        ("1.5e-3", "0.015"), ("1e5", "10000"), ("1e5", "1"), ("1e5", "5e"), ("1e400", "1"), ("1e400", "400e"), ("2e", "2"),
        ("e5", "5"), ("1 e5", "100000"), ("1e5e3", "100000"), ("1e5.5", "100000"), ("1,000e3", "1000000"),
        ("0x1e5", "100000"),
        (r"3 \times 10", "30"), (r"3 \times 10^x", "3"), ("6 * 100^2", "60000"), ("10^2.5", "100"), ("10^{2}^{3}", "100"),
        ("10^4/2", "5000"), ("3/10^2", "0.03"), ("10^4x", "10000"), ("2x10^3", "2000"), ("1e5 million", "100000"),
        ("1e5 km", "100000 m"), ("1e2 + 1", "101"), (r"10^{2} \cdot 3", "300"), ("10^{1000}", "1"),
        ("1e999999999", "10^{999999999}"), ("1e5 or 2", "100000"), ("1.5e-3x", "0.0015"),
    ],
    "times of day": [
        ("3:30 PM", "3:30 a.m."), ("3 p.m.", "3 AM"), ("3:30 p.m.", "3:30"), ("3:30 p.m.", "3:40 p.m."),
        ("15:30", "3:30 p.m."),
    ],
    "boxes": [
        (r"\boxed 5", "6"), (r"\fbox{5}", "6"), (r"\boxed{6}, not \fbox{5}", "5"), (r"\boxed 5 \boxed 6", "5"),
    ],
}  # fmt: skip
EXTRACTED = [
    ("The answer is $4 (10)$", "4 (10)"), (r"The answer is (2,12) \cup (12,102)", r"(2,12) \cup (12,102)"),
    ("The answer is 42.<|im_end|>", "42"), ("The answer is 42.<|eot_id|>", "42"), ("### Answer\n42", "42"),
    ("__42__", None), ("The answer is __42__", "42"), (r"\boxed 72", "72"),
    ("<think>The answer is 72.</think> The answer is 71.", "71"), ("<THINK>\n#### 72\n</THINK>\nNothing found.", None),
    ("The answer is $f(x) = 2 (x + 1)$.", "f(x) = 2 (x + 1)"),
    (r"The answer is $(-\infty, 3) \cup (5, \infty)$, as shown.", r"(-\infty, 3) \cup (5, \infty)"),
    (r"The answer is \(12 (3)\).", "12 (3)"), ("The answer is 12 (in metres).", "12"),
    ("The answer is $x = 3, y = 4$ because we solved it.", "x = 3, y = 4"),
    ("The answer is [2, 5) and nothing else", "[2, 5) and nothing else"), ("The answer is 7.<|endoftext|>", "7"),
    ("## Final Answer\n\n18 apples", "18"), ("The answer is __5__.", "5"), (r"Hence \boxed 16.", "16"),
    ("The final answer is *12*</s>", "12"), ("### Answer: 42", "42"),
    (r"The answer is $P(A \cup B) = 0.5$, and so on.", r"P(A \cup B) = 0.5"), ("The answer is 3 (see above).", "3"),
    ("The answer is 4 (mod 10).", "4 (mod 10)"), (r"The answer is \[ x^2 + 1; \]", "x^2 + 1;"),
    ("The answer is (3, 4), which is a point.", "(3, 4)"), ("The answer is $5 and not $6.", "$5 and not $6"),
    ("The answer is $12.50, since 5 * 2.5 = 12.50.", "$12.50"), (r"The final answer is: $\boxed{(1, 2)}$", "(1, 2)"),
    ("The answer is {a, b}.", "{a, b}"), ("**Final Answer:**\n\n$42$", "42"), ("# Answer\n**42**", "42"),
    ("ANSWER: 42<|endoftext|>", "42"), ("The answer is _42_.", "42"), (r"So \boxed 7, done", "7"),
    ("The answer is \"42\".", "42"), ("Final answer: 42\n<|im_end|>", "42"), ("### The final answer\n42 km", "42"),
    ("####Answer: 42", "42"),
]  # fmt: skip


def pairs(table):
    return [pytest.param(*pair, id=f"{kind}: {pair[0]!a} / {pair[1]!a}") for kind, some in table.items() for pair in some]


@needs_math_verify
@pytest.mark.parametrize(("predicted", "expected"), pairs(EQUAL))
def test_ways_of_writing_that_are_equal(predicted, expected):
    assert answers_match(predicted, expected) and answers_match(expected, predicted)


@pytest.mark.parametrize(("predicted", "expected"), pairs(DIFFERENT))
def test_their_neighbours_are_not(predicted, expected):
    assert not answers_match(predicted, expected) and not answers_match(expected, predicted)


@pytest.mark.parametrize(("text", "answer"), EXTRACTED)
def test_where_the_answer_stands(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.00001", 0.00001), ("10000000000000000", 1e16), ("100000000000000000000", 1e20), ("0.1", 0.1), ("5.0", 5),
        ("12345678901234567890", 12345678901234567890), ("-0.5", -0.5), ("0.1", np.float32(0.1)), ("72", np.int64(72)),
        ("1/3", Fraction(1, 3)), ("0.00001", Decimal("1E-5")), ("72", torch.tensor(72)), ("72", np.array(72)),
    ],
)  # fmt: skip
def test_an_expected_answer_may_be_a_number(text, value):
    assert answers_match(text, value) and answers_match(value, text) and not answers_match(text + "1", value)


def _matrix(kind, inside):
    return rf"\begin{{{kind}matrix}}{inside}\end{{{kind}matrix}}"


# What lesson 04 says of the grader's conventions: the pairs of its table.
CONVENTIONS = {
    True: [
        ("72", "72 km"), ("5 km", "5 kilometers"), ("28%", "28"), ("0.50", "1/2"), ("{2, 1}", "{1, 2}"),
        ("1,000", "1000"), (r"1\,000", "1000"), ("2 or 1", "1 or 2"), ("y = 2, x = 1", "x = 1, y = 2"),
        ("1e3", "1000"), ("10^3", "1000"), (r"1.5 \times 10^3", "1500"), (_matrix("p", "1 & 2"), _matrix("p", "1&2")),
        *((text, plain) for text in ("(B) 42", "B) 42", "B. 42", "B: 42") for plain in ("B", "42")),
    ],
    False: [
        ("1 km", "1000 m"), ("seventy-two", "72"), ("1,5", "1.5"), ("1 000", "1000"), ("6 * 12", "72"),
        ("72 or 27", "72"), ("0.28", "28%"),
        ("0.33", "1/3"), ("3.14", r"\pi"), ("1e301", "1" + "0" * 301), ("1.5 million", "1500000"), ("2, 1", "1, 2"),
        (_matrix("p", "1&2"), _matrix("b", "1&2")), (_matrix("p", "0.5"), _matrix("p", r"\frac{1}{2}")),
        ("(2, 1)", "(1, 2)"), *((text, plain) for text in ("B 42", "B42", "(B)42") for plain in ("B", "42")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("predicted", "expected"), CONVENTIONS[True])
def test_what_lesson_04_says_is_equal(predicted, expected):
    assert answers_match(predicted, expected) and answers_match(expected, predicted)


@pytest.mark.parametrize(("predicted", "expected"), CONVENTIONS[False])
def test_what_lesson_04_says_is_not_equal(predicted, expected):
    assert not answers_match(predicted, expected) and not answers_match(expected, predicted)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [(r"\pm 3", r"\pm3"), (r"1 \pm 2", r"1\pm2"), (r"\frac{3 \pm 2\sqrt{6}}{5}", r"\frac{3\pm2\sqrt{6}}{5}"),
     (r"\angle1", "∠ 1"), (r"a\equiv3\pmod7", r"a \equiv 3 \pmod 7"), (r"\textbf{(D)}~10", "10"),
     ("(D)~10", "D"), (r"5~\text{cm}", "5 cm"),
     ("٤٢", "42"), ("४२", "42")],
)  # fmt: skip
def test_spaces_and_digits_are_only_dress(predicted, expected):
    assert answers_match(predicted, expected) and answers_match(expected, predicted)


def test_an_answer_that_is_a_question_is_none():
    assert extract_answer("The answer is 42? No, 43.") is None
    assert extract_answer("The answer is 42? Wait. The answer is 6.") == "6"
    assert extract_answer("What is the answer? The answer is 7.") == "7"


def test_every_example_in_the_table_of_lesson_04_is_tested():
    path = Path(__file__).resolve().parent.parent / "notebooks" / "04_online_rl.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (lines,) = [cell["source"] for cell in cells if cell["id"] == "04-hard-read"]
    rows = [line.split("|") for line in lines if line.startswith("|")][2:]
    told = {text for row in rows for text in re.findall("`(.+?)`", row[2])}
    tested = {text for pairs in CONVENTIONS.values() for pair in pairs for text in pair}
    assert len(rows) >= 10 and told <= tested


MISSING = [None, float("nan"), np.nan, float("inf"), Decimal("NaN"), "", " ", "None", "nan", "NULL"]
EMPTY = ["", " ", "\n", " " * 300, "\u200b", "$$", ".", "**", r"\boxed{}", r"So $x = \boxed{ }$.", r"\fbox{}", "**`.`**"]


@pytest.mark.parametrize("value", MISSING)
def test_a_missing_answer_is_an_error(value):
    with pytest.raises(ValueError, match="missing"):
        expected_answer(value)
    if not isinstance(value, str):
        assert not answers_match(value, "nan") and not answers_match(value, "None")
        with pytest.raises(ValueError, match="missing"):
            answers_match("nan", value)


@pytest.mark.parametrize("value", EMPTY)
def test_of_an_expected_answer_something_must_be_left(value):
    """Nothing could ever be right for it, not even itself."""
    for predicted in (value, "5", "", None):
        with pytest.raises(ValueError, match="the expected answer is missing"):
            answers_match(predicted, value)
    with pytest.raises(ValueError, match="the expected answer is missing"):
        expected_answer(value)
    assert not answers_match(value, "5")


def test_of_a_whole_solution_the_marked_answer_is_expected():
    for solution in (
        r"So $x=\boxed 72$.",
        r"So \fbox{72}.",
        r"So $\fbox{\boxed{72}}$.",
        "6 * 12 = 72\n#### 72",
        r"We get $\boxed{72}$.",
        "So the answer is 72.",
        "<answer>72</answer>",
        72,
        "72",
    ):
        assert expected_answer(solution) == "72"
    assert expected_answer("Paris") == "Paris" and expected_answer(r"\text{None}") == r"\text{None}"
    with pytest.raises(ValueError, match="400 characters, and no answer is marked"):
        expected_answer("x " * 200)
    for other in (["72"], {"value": 72}):
        with pytest.raises(TypeError, match="a text or a number"):
            expected_answer(other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a<think>b</think>c", "ac"), ("<think>b", ""), ("b</think>c", "c"), ("<think>a</think><think>b", ""),
        ("<THINK>\nb\n</THINK>c", "c"), ("<thinking>b</thinking>c", "c"), ("[THINK]b[/THINK]c", "c"),
        ("a [think] b", "a [think] b"),
        ("<think><think>b</think>c</think>d", "d"), ("<|begin_of_thought|>b<|end_of_thought|>c", "c"),
        ("x < think", "x < think"),
        ("<|channel|>analysis<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c", "c"), ("", ""),
        ("◁think▷b◁/think▷c", "c"), ("<reasoning>b</reasoning>c", "<reasoning>b</reasoning>c"),
    ],
)  # fmt: skip
def test_thoughts_are_not_said(text, said):
    assert without_thoughts(text) == said


def test_reasoning_holds_no_answer_but_one_that_is_not_closed_does_not_swallow_it():
    assert extract_answer(r"<reasoning>\boxed{5}</reasoning> The answer is 6.") == "6"
    assert extract_answer("<reasoning>2 + 3 = 5 <answer>5</answer>") == "5"


# Properties.

SPELLINGS = [
    ["km", "kilometers", "kilometre", "KM", "kms"], ["min", "minutes", "mins", "minute"], ["h", "hours", "hr", "hrs"],
    ["feet", "ft", "foot", "ft."], ["kg", "kilograms", "kgs", "kilos"], ["lb", "pounds", "lbs"],
    ["m^2", "square meters", "m²", "sq m"],
    ["km/h", "kilometers per hour", "kph", "km per hour"], ["°C", "degrees Celsius", "℃"], ["%", "percent", "pct", r"\%"],
    ["$", "dollars", "USD"], ["€", "euros", "EUR"], ["berries", "berry"], ["boxes", "box"], ["people", "persons"],
    ["boxes of pencils", "box of pencils", "boxes"], ["μm", "µm", "micrometers"], [r"\text{ J}", "joules", r"\,\mathrm{J}"],
]  # fmt: skip
WRAPPED = ("{}", r"\text{{{}}}", r"\mathrm{{{}}}", "({})")
numbers = st.one_of(st.integers(-5000, 5000), st.decimals(-100, 100, places=2)).map(str)


@st.composite
def one_unit_twice(draw):
    kind = draw(st.integers(0, len(SPELLINGS) - 1))
    first, second = (draw(st.sampled_from(SPELLINGS[kind])) for _ in range(2))
    return kind, first, second


def with_unit(draw, number, unit):
    plain = unit.isascii() and "\\" not in unit and "." not in unit
    wrapped = draw(st.sampled_from(WRAPPED)).format(unit) if plain and unit not in "$%" else unit
    return f"{number} {wrapped}"


@given(numbers, numbers, one_unit_twice(), st.data())
@settings(max_examples=1000, **EXAMPLES)
def test_the_spelling_of_a_unit_never_changes_the_number(number, other, units, data):
    _, first, second = units
    text, its_other_spelling = (with_unit(data.draw, number, unit) for unit in (first, second))
    assert normalise(text) == normalise(number)
    assert answers_match(text, its_other_spelling) and answers_match(text, number)
    assert answers_match(text, with_unit(data.draw, other, second)) == (Decimal(number) == Decimal(other))


@given(one_unit_twice(), one_unit_twice())
@settings(max_examples=500, **EXAMPLES)
def test_another_unit_is_never_paid(one, other):
    assert answers_match(f"5 {one[1]}", f"5 {other[1]}") == (one[0] == other[0] or {one[0], other[0]} <= {13, 15})


BIG = ("dozen", "hundred", "thousand", "million", "milliard", "billion", "trillion", "lakh", "crore")


@st.composite
def abbreviations(draw):
    """A multiplier cut short, or its consonants."""
    word = draw(st.sampled_from(BIG))
    if draw(st.booleans()):
        return word[: draw(st.integers(3, len(word)))]
    rest = [letter for letter in word[1:] if letter not in "aeiou" and draw(st.booleans())]
    return word[0] + "".join(rest)


@given(abbreviations(), st.sampled_from(["{}", "{}.", "{}s", r"\text{{ {}}}"]))
@settings(max_examples=500, **EXAMPLES)
def test_what_multiplies_is_never_paid(word, form):
    assume(len(word) > 2)  # "ml" and "hr" are measures
    assume(form.format(word) not in ("bills", "mills"))  # and these are things
    assert not answers_match(f"5 {form.format(word)}", "5")


@given(st.text(max_size=30), numbers)
@settings(max_examples=2000, **EXAMPLES)
def test_what_is_not_a_number_is_never_paid(text, number):
    """Without a digit nothing is a number, whatever the signs; with digits of another number neither."""
    without = "".join(sign for sign in text if not sign.isnumeric())
    assert not answers_match(without, number)
    assert not answers_match(f"{without} or {number}", number) and not answers_match(f"{number} or {without}x", number)


@pytest.fixture
def golds():
    """The golds of GSM8K where they are, else as many made-up ones, once each."""
    if not GSM8K.exists():
        return [str(number) for number in range(-50, 900)]
    lines = [line for name in ("train", "test") for line in (GSM8K / f"{name}.jsonl").read_text().splitlines()]
    return sorted({extract_gold(json.loads(line)["answer"]) for line in lines})


FULL_WIDTH = str.maketrans("0123456789.,-", "０１２３４５６７８９．，－")


def grouped(number, separator):
    whole, point, decimals = number.partition(".")
    return f"{int(whole or '0'):,}".replace(",", separator) + point + decimals


SHAPES = {
    "itself": str, "thousands": lambda n: grouped(n, ","), "thin spaces": lambda n: grouped(n, r"\,"),
    "LaTeX's comma": lambda n: grouped(n, "{,}"), "bold": "**{}**".format, "LaTeX bold": r"\textbf{{{}}}".format,
    "dollars": "${}".format, "escaped": r"\${}".format, "euros": "€{}".format, "a code": "USD {}".format,
    "a unit": "{} apples".format, "wrapped": r"{}\text{{ cm}}".format, "percent": r"{}\%".format,
    "a full stop": "{}.".format,
    "full width": lambda n: n.translate(FULL_WIDTH), "delimiters": "${}$".format, "a name": "x = {}".format,
    "a fraction": lambda n: rf"\frac{{{n}}}{{1}}", "invisible": "\u200b{}\u200b".format, "a letter": "(B) {}".format,
}  # fmt: skip
PLACES = {
    "box": r"So \boxed{{{}}}.", "hashes": "6 * 7\n#### {}", "sentence": "The answer is {}.",
    "tags": "<answer>\n{}\n</answer>",
    "heading": "### Answer\n{}", "bold heading": "**Final Answer**\n\n{}", "end token": "The answer is {}.<|im_end|>",
    "behind thoughts": r"<think>\boxed{{7}}</think>\boxed{{{}}}",
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_gold_equals_itself_in_every_shape_and_no_other(golds, shape):
    shaped = [SHAPES[shape](gold) for gold in golds]
    assert [text for text, gold in zip(shaped, golds, strict=True) if not answers_match(text, gold)] == []
    assert [text for text, other in zip(shaped, golds[1:] + golds[:1], strict=True) if answers_match(text, other)] == []


@pytest.mark.parametrize("place", PLACES)
def test_every_gold_is_found_in_every_place(golds, place):
    found = [extract_answer(PLACES[place].format(gold)) for gold in golds]
    assert [answer for answer, gold in zip(found, golds, strict=True) if not answers_match(answer, gold)] == []


def test_the_same_question_is_asked_for_several_answers_at_once(monkeypatch):
    asked = []
    monkeypatch.setattr(expressions, "same_expressions", lambda *question: asked.append(question) or True)
    assert answers_match("x = a + 1 or x = b + 1", "x = 1 + b or x = 1 + a") and len(asked) == 1
    assert asked[0] == (("a + 1", "b + 1"), ("1 + b", "1 + a"), False)


def nested(depth, first):
    return r"\{" * depth + first + "".join(rf",{level}\}}" for level in range(depth))


def calls_in(function, *arguments):
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event == "call" else None)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return len(calls)


def test_sets_in_sets_and_long_sets_take_no_longer_than_their_length(monkeypatch):
    monkeypatch.setattr(expressions, "same_expressions", lambda *question: False)
    assert answers_match(r"\{\{1, 2\}, 3\}", r"\{3, \{2, 1\}\}")
    assert not answers_match(r"\{\{1, 2\}, 3\}", r"\{3, \{2, 4\}\}")
    deep, deeper = (calls_in(answers_match, nested(depth, "1,2"), nested(depth, "2,3")) for depth in (6, 18))
    assert deeper < 4 * deep
    half, whole = (
        calls_in(answers_match, rf"\{{{','.join(map(str, range(n)))}\}}", rf"\{{{','.join(map(str, range(9, n + 9)))}\}}")
        for n in (30, 60)
    )
    assert whole < 3 * half
