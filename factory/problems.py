"""Maths word problems of two to four steps, put together from a shared stock of sentence pieces.

A *piece* (table `PIECES`) is one event told in several wordings, together with what it does to the running
number: "buys 5 more" adds, "shares among 4" divides. A *story* (tables `SEEN` and `UNSEEN`) is a setting and
a pattern of pieces such as "boxes gives? share|pack": `?` marks an optional piece and `|` a choice. Numbers
that do not fit (a fraction, a negative, too large) are thrown away and drawn again.

To add a story, add a row to `SEEN` or `UNSEEN`; to add an event, add a row to `PIECES` (the operations are
explained above that table).
Left out on purpose: fractions, decimals, unit conversion, and the number 1 (so that every noun is plural).
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

GIRLS = ("Mia", "Zoe", "Ana", "Emma", "Lily", "Sara", "Nina", "Kate", "Rosa", "Ella", "Ruth", "Amy")
BOYS = ("Ben", "Tom", "Leo", "Max", "Dan", "Adam", "Omar", "Jack", "Noah", "Paul", "Luis", "Finn")

FRUIT = ("apple", "pear", "plum", "lemon", "orange", "peach")
BAKED = ("cookie", "muffin", "roll", "pie", "bun", "cake")
TOYS = ("marble", "sticker", "card", "bead", "block", "balloon")
SCHOOL = ("pencil", "pen", "ruler", "notebook", "crayon")
TREASURES = ("stamp", "shell", "stone", "badge", "photo")
FLOWERS = ("rose", "tulip", "daisy")
BOOKS = ("book", "comic", "magazine")
VEGETABLES = ("carrot", "onion", "potato", "tomato")
GIFTS = ("hat", "ball", "lamp", "scarf", "clock", "cup")  # one of them is bought on the side
IRREGULAR = {"child": "children", "potato": "potatoes", "tomato": "tomatoes"}
SMALLEST, LARGEST_FACTOR, TRIES = 2, 9, 20_000


class Unfit(Exception):
    """The numbers drawn do not fit the story; draw again."""


@dataclass(frozen=True)
class Problem:
    """A word problem with its worked solution, one operation a line."""

    story: str
    question: str
    lines: tuple[str, ...]
    answer: int

    @property
    def solution(self) -> str:
        """The worked solution in the form of GSM8K's answer column."""
        return "\n".join(self.lines) + f"\n#### {self.answer}"


@dataclass(frozen=True)
class Piece:
    """One event: its operation, the label of its line, the question it leads to, and its wordings."""

    op: str
    label: str
    ask: str
    words: tuple[str, ...]
    side: str = ""  # label of the first line when the piece takes two
    early: tuple[str, ...] = ()  # a sentence put at the start, away from where its number is used
    into: str = ""  # what is counted from here on
    small: bool = False  # the number is 2 to 9
    least: int = 2  # smallest value of the number that may be large
    focus: bool = False  # from here on the story is about the next person


@dataclass(frozen=True)
class Story:
    """A setting and a pattern of pieces."""

    pattern: str
    things: tuple[str, ...] = TOYS
    intro: tuple[str, ...] = ("",)
    steps: tuple[int, ...] = (2, 3, 4)
    box: str = "box"
    pack: str = "bag"
    kid: str = "friend"
    verb: str = "makes"
    others: tuple[str, ...] = TREASURES
    ride: str = "bus"
    cap: int = 999
    backward: bool = False  # the end is told and the start is asked for
    asks: dict[str, tuple[str, ...]] = field(default_factory=dict)


def piece(op: str, label: str, ask: str, *words: str, **options) -> Piece:
    """A row of the table of pieces."""
    return Piece(op, label, ask, words, **options)


# Wordings use {Who}/{who} for the person (name at first mention, then a pronoun), {He} {he} {his} {him},
# {friend} (of the other sex, so that pronouns stay clear), {things}/{thing}, {box}/{boxes}, {pack}/{packs},
# {kid}/{kids}, {others}, {gift} and the numbers {n}, {m}, {k}.
# Operations on the running number:
#   start    n is the start              n*m   n groups of m; a capital letter marks the number that may be
#   + - * /  with n, drawn to fit              large, "n*m" leaves that open, in "n*k" both are small
#   *2 /2    fixed by "twice", "half"    +n*m  a product, then added to the running number
#   from     a round number less it      -/3   a third, then taken away
#   aside    a number nobody needs       &+    a second quantity, then both together   (others: see SPECIAL)
PIECES: dict[str, Piece] = {
    # Somebody has things.
    "has": piece(
        "start",
        "",
        "have",
        "{Who} has {n} {things}.",
        "{Who} starts with {n} {things}.",
        "At first {who} has {n} {things}.",
    ),
    "boxes": piece(
        "n*m",
        "{Things} in {boxes}",
        "have",
        "{Who} has {n} {boxes} of {things}, with {m} {things} in each {box}.",
        "{Who} buys {n} {boxes} of {things}. There are {m} {things} in each {box}.",
        "{Who} puts {m} {things} into each of {n} {boxes}.",
        "There are {m} {things} in every {box}, and {who} has {n} {boxes}.",
    ),
    "daily": piece(
        "n*M",
        "{Things} in {n} days",
        "have",
        "{Who} {verb} {m} {things} each day for {n} days.",
        "For {n} days, {who} {verb} {m} {things} a day.",
        "{Who} {verb} {m} {things} every day. {He} does this for {n} days.",
    ),
    "two_kinds": piece(
        "n+m",
        "All {things}",
        "have",
        "{Who} has {n} small {things} and {m} large {things}.",
        "{Who} has {n} {things} in one {box} and {m} {things} in another.",
        "{Who} has {n} {things} on the table and {m} {things} in a {box}.",
    ),
    "buys": piece(
        "+",
        "After buying",
        "have",
        "{He} buys {n} more {things}.",
        "Then {he} goes to a shop and buys {n} more {things}.",
        "{He} buys another {n} {things}.",
        "Later {he} buys {n} more.",
    ),
    "receives": piece(
        "+",
        "After the gift",
        "have",
        "{friend} gives {him} {n} more {things}.",
        "{He} gets {n} more {things} from {friend}.",
        "Then {friend} brings {him} {n} more {things}.",
    ),
    "finds": piece(
        "+",
        "After finding",
        "have",
        "{He} finds {n} more {things}.",
        "Then {he} finds another {n} {things}.",
        "Later {he} finds {n} more.",
    ),
    "gives": piece(
        "-",
        "After giving",
        "left",
        "{He} gives {n} {things} to {friend}.",
        "{He} gives {friend} {n} of {his} {things}.",
        "Then {friend} gets {n} of the {things} from {him}.",
    ),
    "loses": piece(
        "-",
        "After losing",
        "left",
        "{He} loses {n} {things}.",
        "Then {he} loses {n} of them.",
        "{He} loses {n} of the {things} on the way home.",
    ),
    "eaten": piece(
        "-",
        "After eating",
        "left",
        "{His} family eats {n} {things}.",
        "{He} and {his} friends eat {n} of the {things}.",
        "Then {n} of the {things} are eaten.",
    ),
    "spoiled": piece(
        "-",
        "Good {things}",
        "left",
        "{n} of the {things} are bad, and {he} throws them away.",
        "{He} throws away {n} bad {things}.",
        "{He} drops {n} of the {things} and cannot use them.",
    ),
    "more_boxes": piece(
        "+n*m",
        "All {things}",
        "have",
        "{He} also gets {n} {packs} with {m} {things} in each {pack}.",
        "Then {he} buys {n} {packs} of {m} {things} each.",
        "{friend} brings {him} {n} {packs}, and each {pack} has {m} {things} in it.",
        side="{Things} in {packs}",
    ),
    "gives_each": piece(
        "-n*M",
        "{Things} left",
        "left",
        "{He} gives {m} {things} to each of {n} {kids}.",
        "{n} {kids} get {m} {things} each from {him}.",
        "There are {n} {kids}, and {he} gives each of them {m} {things}.",
        side="{Things} given",
    ),
    "sells_daily": piece(
        "-n*M",
        "{Things} left",
        "left",
        "{He} sells {m} {things} each day for {n} days.",
        "For {n} days, {he} sells {m} {things} a day.",
        "Every day {he} sells {m} of the {things}. {He} does this for {n} days.",
        side="{Things} sold",
    ),
    "doubles": piece(
        "*2",
        "After doubling",
        "have",
        "A month later {he} has twice as many {things}.",
        "Then {he} doubles the number of {his} {things}.",
        "Then the number of {his} {things} doubles.",
    ),
    "half_away": piece(
        "/2",
        "After halving",
        "left",
        "{He} gives half of the {things} to {friend}.",
        "{friend} gets half of {his} {things}.",
        "Then {he} gives away half of {his} {things}.",
    ),
    "third_away": piece(
        "-/3",
        "{Things} left",
        "left",
        "{He} gives a third of the {things} to {friend}.",
        "{friend} gets a third of {his} {things}.",
        "Then {he} gives away a third of {his} {things}.",
        side="A third",
    ),
    "quarter_away": piece(
        "-/4",
        "{Things} left",
        "left",
        "{He} gives a quarter of the {things} to {friend}.",
        "{friend} gets a quarter of {his} {things}.",
        "Then {he} gives away a quarter of {his} {things}.",
        side="A quarter",
    ),
    "share": piece(
        "/",
        "{Things} for each",
        "each",
        "{He} shares all {his} {things} equally among {n} {kids}.",
        "Then {n} {kids} share all {his} {things} equally.",
        "Now {he} gives all {his} {things} to {n} {kids}, the same number to each.",
    ),
    "share_early": piece(
        "/",
        "{Things} for each",
        "each",
        "{He} shares all {his} {things} equally among the {kids}.",
        "Then the {kids} share all {his} {things} equally.",
        "{He} gives each of the {kids} the same number of {things} until none are left.",
        early=(
            "{n} {kids} come to visit {name}.",
            "{Who} has {n} {kids} with {him}.",
            "{Who} invites {n} {kids}.",
        ),
    ),
    "pack": piece(
        "/",
        "{Packs} filled",
        "packs",
        "{He} puts {n} {things} into each {pack} until none are left.",
        "{He} puts all the {things} into {packs}, with {n} in each {pack}.",
        "Each {pack} holds {n} {things}, and {he} fills {packs} with all of them.",
        into="pack",
    ),
    "album": piece(
        "/",
        "Album pages",
        "album",
        "{He} puts {n} {things} on each page of an album until none are left.",
        "{He} puts all the {things} into an album, with {n} on each page.",
        "Each page of {his} album holds {n} {things}, and {he} fills pages with all of them.",
    ),
    # Two days.
    "monday": piece(
        "start",
        "",
        "have",
        "On Monday {who} {verb} {n} {things}.",
        "{Who} {verb} {n} {things} on Monday.",
        "It is Monday, and {who} {verb} {n} {things}.",
    ),
    "next_more": piece(
        "&+",
        "Both days",
        "both_days",
        "On Tuesday {he} {verb} {n} more {things} than on Monday.",
        "{He} {verb} {n} more on Tuesday than on Monday.",
        "That is {n} fewer {things} than {he} {verb} on Tuesday.",
        side="{Things} on Tuesday",
    ),
    "next_fewer": piece(
        "&-",
        "Both days",
        "both_days",
        "On Tuesday {he} {verb} {n} fewer {things} than on Monday.",
        "{He} {verb} {n} fewer on Tuesday than on Monday.",
        "That is {n} more {things} than {he} {verb} on Tuesday.",
        side="{Things} on Tuesday",
    ),
    "next_twice": piece(
        "&*2",
        "Both days",
        "both_days",
        "On Tuesday {he} {verb} twice as many {things}.",
        "On Tuesday {he} {verb} double that number.",
        "{He} {verb} twice as many on Tuesday as on Monday.",
        side="{Things} on Tuesday",
    ),
    "next_half": piece(
        "&/2",
        "Both days",
        "both_days",
        "On Tuesday {he} {verb} half as many {things}.",
        "On Tuesday {he} {verb} half that number.",
        "{He} {verb} half as many on Tuesday as on Monday.",
        side="{Things} on Tuesday",
    ),
    # Two to four people.
    "owns": piece(
        "start",
        "",
        "person",
        "{Who} has {n} {things}.",
        "{Who} owns {n} {things}.",
        "There are {n} {things} in {name}'s bag.",
    ),
    "friend_more": piece(
        "+",
        "{friend}'s {things}",
        "person",
        "{friend} has {n} more {things} than {name}.",
        "{name} has {n} fewer {things} than {friend}.",
        "{friend} has as many {things} as {name} and {n} more.",
        focus=True,
    ),
    "friend_fewer": piece(
        "-",
        "{friend}'s {things}",
        "person",
        "{friend} has {n} fewer {things} than {name}.",
        "{name} has {n} more {things} than {friend}.",
        "{friend} would need {n} more {things} to have as many as {name}.",
        focus=True,
    ),
    "friend_twice": piece(
        "*2",
        "{friend}'s {things}",
        "person",
        "{friend} has twice as many {things} as {name}.",
        "{friend} has double the number of {things} that {name} has.",
        "{name} has half as many {things} as {friend}.",
        focus=True,
    ),
    "friend_half": piece(
        "/2",
        "{friend}'s {things}",
        "person",
        "{friend} has half as many {things} as {name}.",
        "{friend} has half the number of {things} that {name} has.",
        "{name} has twice as many {things} as {friend}.",
        focus=True,
    ),
    "friend_times": piece(
        "*",
        "{friend}'s {things}",
        "person",
        "{friend} has {n} times as many {things} as {name}.",
        "The number of {things} that {friend} has is {n} times that of {name}.",
        "For each {thing} that {name} has, {friend} has {n}.",
        focus=True,
    ),
    "friend_boxes": piece(
        "n*m",
        "{friend}'s {things}",
        "person",
        "{friend} has {n} {packs} with {m} {things} in each {pack}.",
        "{friend} has {n} {packs} of {m} {things} each.",
        "{friend} keeps {m} {things} in each of {n} {packs}.",
        focus=True,
    ),
    "together": piece("together", "Together", "together"),
    "difference": piece("difference", "Difference", "difference"),
    "pool": piece(
        "together",
        "Together",
        "together",
        "They put all of their {things} together.",
        "They put their {things} in one big pile.",
        "They collect all of these {things} on one table.",
    ),
    "they_pack": piece(
        "/",
        "{Packs} filled",
        "they_packs",
        "Then they put {n} {things} into each {pack} until none are left.",
        "They put all the {things} into {packs}, with {n} in each {pack}.",
        "Each {pack} holds {n} {things}, and they fill {packs} with all of them.",
        into="pack",
    ),
    "they_share": piece(
        "/",
        "{Things} for each",
        "each",
        "They share them equally among {n} {kids}.",
        "{n} {kids} share all of the {things} equally.",
        "They give all of the {things} to {n} {kids}, the same number to each.",
    ),
    # Money.
    "items": piece(
        "N*m",
        "Cost of {things}",
        "cost",
        "{Who} buys {n} {things} at {m} coins each.",
        "{Who} buys {n} {things}. Each {thing} costs {m} coins.",
        "Each {thing} costs {m} coins, and {who} buys {n} of them.",
        into="coin",
    ),
    "more_items": piece(
        "+n*m",
        "Total cost",
        "cost",
        "{He} also buys {n} {others} at {m} coins each.",
        "{He} also buys {n} {others} that cost {m} coins each.",
        "{He} buys {n} {others} too, for {m} coins each.",
        side="Cost of {others}",
    ),
    "side_item": piece(
        "+",
        "Total cost",
        "cost",
        "{He} also buys a {gift} for {n} coins.",
        "{He} also pays {n} coins for a {gift}.",
        "{He} buys a {gift} too, which costs {n} coins.",
    ),
    "discount": piece(
        "-",
        "Cost after discount",
        "cost",
        "The shop takes {n} coins off the total price.",
        "The seller lets {him} pay {n} coins less in all.",
        "With a coupon {he} pays {n} coins less in all.",
    ),
    "split_bill": piece(
        "/",
        "Coins for each",
        "each_pays",
        "{n} {kids} share the cost equally.",
        "The cost is shared equally by {n} {kids}.",
        "{n} {kids} pay for it together, and each pays the same.",
    ),
    "hands_over": piece(
        "from",
        "Change",
        "change",
        "{He} gives the seller {n} coins.",
        "{He} pays with {n} coins and waits for the change.",
        "To pay, {he} hands over {n} coins.",
    ),
    "purse_early": piece(
        "from",
        "Coins left",
        "coins_left",
        early=(
            "{Who} has {n} coins in {his} purse.",
            "{Who} takes {n} coins along.",
            "There are {n} coins in {name}'s purse.",
        ),
    ),
    "price_each": piece(
        "*",
        "Cost",
        "cost",
        "Each {thing} costs {n} coins.",
        "One {thing} costs {n} coins.",
        "{He} pays {n} coins for each {thing}.",
        into="coin",
    ),
    "sells_each": piece(
        "*",
        "Coins from sales",
        "coins",
        "{He} sells each {thing} for {n} coins.",
        "Then {he} sells all {his} {things} at {n} coins each.",
        "{He} sells every {thing} and gets {n} coins for each.",
        into="coin",
    ),
    "has_coins": piece(
        "start",
        "",
        "coins",
        "{Who} has {n} coins.",
        "{Who} has {n} coins in a jar.",
        "There are {n} coins in {name}'s money box.",
        into="coin",
    ),
    "saves": piece(
        "n*M",
        "Coins saved",
        "coins",
        "{Who} saves {m} coins each week for {n} weeks.",
        "For {n} weeks, {who} saves {m} coins a week.",
        "{Who} puts {m} coins into a jar every week. {He} does this for {n} weeks.",
        into="coin",
    ),
    "earns": piece(
        "n*M",
        "Coins earned",
        "coins",
        "{Who} works for {n} hours and earns {m} coins an hour.",
        "{Who} earns {m} coins an hour. {He} works for {n} hours.",
        "For each hour of work {who} gets {m} coins, and {he} works {n} hours.",
        into="coin",
    ),
    "pay_rate": piece(
        "*",
        "Coins earned",
        "coins",
        "{He} earns {n} coins an hour.",
        "For each hour of work {he} gets {n} coins.",
        "{His} pay is {n} coins an hour.",
        into="coin",
    ),
    "spends": piece(
        "-",
        "After spending",
        "coins_left",
        "{He} spends {n} coins on a {gift}.",
        "Then {he} buys a {gift} for {n} coins.",
        "{He} pays {n} coins for a {gift}.",
    ),
    "gets_coins": piece(
        "+",
        "After the gift",
        "coins",
        "{His} aunt gives {him} {n} coins.",
        "{He} gets {n} more coins from {his} grandfather.",
        "For {his} birthday {he} gets {n} more coins.",
    ),
    "goal": piece(
        "from",
        "Coins needed",
        "need",
        "{He} wants to buy a bike that costs {n} coins.",
        "{He} is saving for a bike. The bike costs {n} coins.",
        "The bike that {he} wants costs {n} coins.",
    ),
    "goal_early": piece(
        "from",
        "Coins needed",
        "need",
        early=(
            "{Who} wants to buy a bike that costs {n} coins.",
            "A bike costs {n} coins, and {who} wants to buy it.",
            "{Who} is saving for a bike that costs {n} coins.",
        ),
    ),
    "spend_weeks": piece(
        "/",
        "Coins each week",
        "each_week",
        "{He} spends {his} last coins in {n} weeks, the same number each week.",
        "The coins {he} has now last for {n} weeks, and {he} spends the same number each week.",
        "In the next {n} weeks {he} spends all {his} coins, the same number each week.",
    ),
    # Work, practice and travel.
    "works": piece(
        "n*k",
        "Hours of work",
        "hours",
        "{Who} works {m} hours each day for {n} days.",
        "For {n} days, {who} works {m} hours a day.",
        "{Who} works {m} hours every day. {He} does this for {n} days.",
        into="hour",
    ),
    "extra_hours": piece(
        "+",
        "After extra hours",
        "hours",
        "On Saturday {he} works {n} more hours.",
        "At the weekend {he} works another {n} hours.",
        "{He} also works {n} hours at the weekend.",
        small=True,
    ),
    "practises": piece(
        "n*M",
        "Minutes in {n} days",
        "minutes",
        "{Who} practises {m} minutes each day for {n} days.",
        "For {n} days, {who} practises {m} minutes a day.",
        "{Who} practises {m} minutes every day. {He} does this for {n} days.",
        into="minute",
    ),
    "practises_more": piece(
        "+",
        "After more practice",
        "minutes",
        "On Sunday {he} practises another {n} minutes.",
        "The next day {he} practises {n} minutes more.",
        "Then {he} practises for {n} more minutes on Sunday.",
    ),
    "minutes_goal": piece(
        "from",
        "Minutes to go",
        "minutes_need",
        "{His} goal is {n} minutes in all.",
        "{His} teacher asks for {n} minutes in all.",
        "{He} wants to reach {n} minutes in all.",
    ),
    "minutes_rest": piece(
        "/",
        "Minutes a day",
        "minutes_each",
        "{He} does the rest in {n} days, the same number of minutes each day.",
        "The rest takes {n} days, with an equal number of minutes each day.",
        "{He} wants to do the rest in {n} days with the same number of minutes each day.",
    ),
    "travels": piece(
        "n*M",
        "Kilometres in {n} hours",
        "km",
        "{Who} travels {m} kilometres each hour for {n} hours.",
        "For {n} hours, {who} travels {m} kilometres an hour.",
        "{Who} travels for {n} hours and covers {m} kilometres in every hour.",
        into="kilometre",
        least=10,
    ),
    "travels_on": piece(
        "+",
        "After going on",
        "km",
        "After lunch {he} travels {n} more kilometres.",
        "Then {he} takes a break and travels another {n} kilometres.",
        "Later {he} goes {n} kilometres more.",
    ),
    "both_ways": piece(
        "*2",
        "There and back",
        "km",
        "Then {he} goes the same way back, so the whole trip is twice as long.",
        "{He} goes back on the same road, which doubles the distance.",
        "With the way back {he} travels twice as far.",
    ),
    "trip_early": piece(
        "from",
        "Kilometres to go",
        "km_need",
        early=(
            "The way to the sea is {n} kilometres long.",
            "{Who} has to go {n} kilometres.",
            "The whole trip is {n} kilometres long.",
        ),
    ),
    "rest_hours": piece(
        "/",
        "Kilometres an hour",
        "km_each",
        "{He} travels the rest of the way in {n} hours, the same distance each hour.",
        "The rest takes {n} hours, with an equal distance in each hour.",
        "For the rest {he} needs {n} hours and covers the same distance in each.",
    ),
    "fuel": piece(
        "/",
        "Litres of fuel",
        "fuel",
        "The car needs one litre of fuel for every {n} kilometres.",
        "With one litre of fuel the car goes {n} kilometres.",
        "The car goes {n} kilometres on each litre of fuel.",
    ),
    # Reading.
    "reads": piece(
        "n*M",
        "Pages in {n} days",
        "pages",
        "{Who} reads {m} pages each day for {n} days.",
        "For {n} days, {who} reads {m} pages a day.",
        "{Who} reads {m} pages every day. {He} does this for {n} days.",
        into="page",
    ),
    "reads_more": piece(
        "+",
        "After reading on",
        "pages",
        "The next day {he} reads {n} more pages.",
        "On Sunday {he} reads another {n} pages.",
        "Then {he} reads {n} pages more in the evening.",
    ),
    "book_early": piece(
        "from",
        "Pages to go",
        "pages_left",
        early=(
            "A book has {n} pages.",
            "{Who} has a book of {n} pages.",
            "There are {n} pages in a new book.",
        ),
    ),
    "rest_days": piece(
        "/",
        "Pages a day",
        "pages_each",
        "{He} reads the rest in {n} days, the same number of pages each day.",
        "The rest takes {n} days, with an equal number of pages each day.",
        "{He} wants to finish the rest in {n} days with the same number of pages each day.",
    ),
    # People in places.
    "on_board": piece(
        "start",
        "",
        "riders",
        "There are {n} people in it.",
        "It starts with {n} people.",
        "At the first stop {n} people get in.",
    ),
    "carriages": piece(
        "n*M",
        "People at first",
        "riders",
        "It has {n} carriages with {m} people in each carriage.",
        "There are {m} people in each of its {n} carriages.",
        "Each of the {n} carriages has {m} people in it.",
    ),
    "gets_on": piece(
        "+",
        "After getting on",
        "riders",
        "At the market {n} more people get on.",
        "At the school another {n} people get on.",
        "At the park {n} people get on.",
    ),
    "gets_off": piece(
        "-",
        "After getting off",
        "riders",
        "At the church {n} people get off.",
        "At the bridge {n} of the people get off.",
        "Then {n} people get off at the hospital.",
    ),
    "last_stop": piece(
        "+",
        "After new people",
        "riders",
        "At the zoo {n} new people get on.",
        "Then {n} other people get on at the post office.",
        "At the next stop {n} new people get on.",
    ),
    "half_off": piece(
        "/2",
        "After halving",
        "riders",
        "At the library half of the people get off.",
        "Half of the people get off at the museum.",
        "Then half of all the people get off at the beach.",
    ),
    "classes": piece(
        "n*M",
        "{Things} in classes",
        "people",
        "There are {n} classes with {m} {things} in each class.",
        "There are {m} {things} in each of {n} classes.",
        "{n} classes come. Each class has {m} {things}.",
    ),
    "people_early": piece(
        "aside",
        "",
        "",
        early=(
            "Some classes visit a museum with {n} rooms.",
            "Some classes look at {n} old pictures in a museum.",
            "Some classes come to see {n} old cars in a museum.",
        ),
    ),
    "people_join": piece(
        "+",
        "After joining",
        "people",
        "Then {n} more {things} join them.",
        "Another {n} {things} come later.",
        "A bus brings {n} more {things}.",
    ),
    "people_leave": piece(
        "-",
        "After leaving",
        "people_left",
        "Then {n} {things} go home.",
        "{n} of the {things} are ill and go home.",
        "After lunch {n} of the {things} leave.",
    ),
    "groups": piece(
        "/",
        "{Things} in groups",
        "in_group",
        "The {things} make {n} equal groups.",
        "The teacher puts the {things} into {n} equal groups.",
        "All of the {things} form {n} groups of the same size.",
    ),
    "teams": piece(
        "/",
        "Number of teams",
        "teams",
        "The {things} make teams of {n}.",
        "The teacher puts the {things} into teams with {n} in each team.",
        "All of the {things} form teams of {n}.",
    ),
    "seat_rows": piece(
        "n*m",
        "Seats in rows",
        "seats",
        "There are {n} rows with {m} seats in each row.",
        "It has {n} rows of {m} seats each.",
        "There are {m} seats in each of its {n} rows.",
        into="seat",
    ),
    "more_seats": piece(
        "+",
        "After adding seats",
        "seats",
        "Then {n} more seats are brought in.",
        "The owner adds {n} extra seats.",
        "Workers put in another {n} seats.",
    ),
    "broken_seats": piece(
        "-",
        "Good seats",
        "seats",
        "{n} of the seats are broken.",
        "People cannot use {n} of the seats.",
        "But {n} seats are broken and taken away.",
    ),
    "taken_seats": piece(
        "-",
        "Free seats",
        "free",
        "Then {n} people come and sit down.",
        "{n} people take a seat.",
        "In the evening {n} people come in and take a seat.",
    ),
    "seat_price": piece(
        "*",
        "Coins from tickets",
        "ticket_coins",
        "All the good seats are sold for {n} coins each.",
        "A ticket for a good seat costs {n} coins, and all good seats are sold.",
        "Each good seat is sold for {n} coins.",
        into="coin",
    ),
    # Rows and beds, shelves, hens, litres.
    "rows": piece(
        "n*m",
        "{Things} in rows",
        "grow",
        "{Who} plants {n} rows of {things} with {m} in each row.",
        "{Who} plants {m} {things} in each of {n} rows.",
        "{Who} makes {n} rows in the garden. {He} plants {m} {things} in each row.",
    ),
    "more_rows": piece(
        "+n*m",
        "All {things}",
        "grow",
        "Then {he} plants {n} more rows with {m} {things} in each.",
        "Near the wall {he} plants {n} long rows of {m} {things} each.",
        "{friend} helps {him} and plants {n} rows of {m} {things}.",
        side="{Things} in new rows",
    ),
    "die": piece(
        "-",
        "Living {things}",
        "grow",
        "In a cold night {n} of the {things} die.",
        "{n} {things} die in the cold.",
        "A storm takes away {n} of the {things}.",
    ),
    "picks_all": piece(
        "*",
        "{Others} picked",
        "others",
        "Later {he} picks {n} {others} from each of the {things}.",
        "Each of the {things} gives {n} {others}.",
        "In autumn every {thing} has {n} {others} on it, and {he} picks them all.",
        into="other",
    ),
    "shelves": piece(
        "n*m",
        "{Things} on shelves",
        "shelf_now",
        "There are {n} shelves with {m} {things} on each shelf.",
        "It has {n} shelves, and each shelf holds {m} {things}.",
        "There are {m} {things} on each of its {n} shelves.",
    ),
    "lends": piece(
        "-",
        "After lending",
        "shelf_now",
        "On Monday people borrow {n} {things}.",
        "{n} of the {things} are borrowed.",
        "A school borrows {n} of the {things}.",
    ),
    "returned": piece(
        "+",
        "After the return",
        "shelf_now",
        "Then {n} other {things} are brought back.",
        "The next day people bring back {n} {things} from last month.",
        "Readers bring back {n} {things} that were lent last year.",
    ),
    "delivered": piece(
        "+n*m",
        "All {things}",
        "shelf_now",
        "Then {n} boxes come with {m} new {things} in each box.",
        "A van brings {n} boxes of {m} new {things} each.",
        "Workers unpack {n} boxes. Each box has {m} new {things}.",
        side="New {things}",
    ),
    "hens": piece(
        "n*m",
        "Eggs laid",
        "have",
        "{Who} has {n} hens, and each hen lays {m} eggs in one summer.",
        "On {name}'s farm there are {n} hens. Each hen lays {m} eggs in one summer.",
        "{Who} keeps {n} hens. In one summer every hen lays {m} eggs.",
    ),
    "broken_eggs": piece(
        "-",
        "Whole eggs",
        "left",
        "{n} of the eggs break.",
        "{He} drops a basket and {n} eggs break.",
        "{He} finds that {n} eggs are broken.",
    ),
    "tank": piece(
        "start",
        "",
        "litres",
        "At first a tank has {n} litres of water in it.",
        "There are {n} litres of water in a tank.",
        "{Who} has a tank with {n} litres of water.",
        into="litre",
    ),
    "pump": piece(
        "+n*m",
        "After pumping",
        "litres",
        "A pump adds {m} litres each minute for {n} minutes.",
        "For {n} minutes, a pump adds {m} litres a minute.",
        "A pump runs for {n} minutes and adds {m} litres every minute.",
        side="Litres pumped",
    ),
    "rain": piece(
        "+",
        "After the rain",
        "litres",
        "Rain adds {n} litres.",
        "In the night the rain adds another {n} litres.",
        "Then it rains, and {n} more litres run into the tank.",
    ),
    "uses_water": piece(
        "-",
        "After using",
        "litres",
        "{He} uses {n} litres for the plants.",
        "{friend} takes {n} litres to wash a car.",
        "Then {n} litres are used in the garden.",
    ),
    "buckets": piece(
        "/",
        "Buckets filled",
        "buckets",
        "{He} pours all the water into buckets of {n} litres.",
        "All the water goes into buckets that hold {n} litres each.",
        "{He} fills buckets with {n} litres each until the tank is empty.",
    ),
    # Recipes.
    "recipe": piece(
        "n*k",
        "Eggs needed",
        "eggs_need",
        "{Who} wants to bake {n} {things}. Each {thing} needs {m} eggs.",
        "A {thing} needs {m} eggs, and {who} bakes {n} of them.",
        "{Who} bakes {n} {things} and needs {m} eggs for each {thing}.",
        into="egg",
    ),
    "already": piece(
        "-",
        "Eggs to buy",
        "eggs_buy",
        "{He} already has {n} eggs.",
        "There are already {n} eggs in the kitchen.",
        "{friend} gives {him} {n} eggs.",
    ),
    "egg_boxes": piece(
        "/",
        "Boxes to buy",
        "egg_boxes",
        "Eggs are sold in boxes of {n}.",
        "The shop sells eggs in boxes of {n}.",
        "In the shop there are {n} eggs in a box.",
        into="box",
    ),
    # Points.
    "scores": piece(
        "n*m",
        "Points of {name}",
        "points",
        "{Who} plays {n} games and scores {m} points in each.",
        "{Who} scores {m} points in each of {n} games.",
        "In each game {who} scores {m} points, and {he} plays {n} games.",
        into="point",
    ),
    "bonus": piece(
        "+",
        "After the bonus",
        "points",
        "For fair play {he} gets {n} more points.",
        "{He} gets a bonus of {n} points.",
        "In one more game {he} scores {n} points.",
    ),
    "penalty": piece(
        "-",
        "After the penalty",
        "points",
        "For a mistake {he} loses {n} points.",
        "Then {he} breaks a rule and loses {n} points.",
        "The judge takes {n} points away from {him}.",
    ),
    "friend_scores": piece(
        "n*m",
        "Points of {friend}",
        "person",
        "{friend} plays {n} games and scores {m} points in each.",
        "{friend} scores {m} points in each of {n} games.",
        "In every one of {n} games {friend} scores {m} points.",
        focus=True,
    ),
    "three_scores": piece(
        "n+m+k",
        "All points",
        "points",
        "{Who} scores {n} points in the first game, {m} in the second and {k} in the third.",
        "In three games {who} scores {n}, {m} and {k} points.",
        "{Who} plays three games. {He} scores {n} points, then {m} and then {k}.",
        side="First two games",
        into="point",
    ),
    "average": piece("/3", "Average", "average"),
    # Ages.
    "age": piece(
        "start",
        "",
        "age",
        "{Who} is {n} years old.",
        "{name} is now {n} years old.",
        "This year {who} is {n} years old.",
        into="year",
    ),
    "older": piece(
        "+",
        "Age of {friend}",
        "age",
        "{friend} is {n} years older than {name}.",
        "{name} is {n} years younger than {friend}.",
        "{friend} was born {n} years before {name}.",
        focus=True,
    ),
    "younger": piece(
        "-",
        "Age of {friend}",
        "age",
        "{friend} is {n} years younger than {name}.",
        "{name} is {n} years older than {friend}.",
        "{friend} was born {n} years after {name}.",
        focus=True,
    ),
    "twice_age": piece(
        "*2",
        "Age of {friend}",
        "age",
        "{friend} is twice as old as {name}.",
        "The age of {friend} is double the age of {name}.",
        "{name} is half as old as {friend}.",
        focus=True,
    ),
    "half_age": piece(
        "/2",
        "Age of {friend}",
        "age",
        "{friend} is half as old as {name}.",
        "The age of {friend} is half the age of {name}.",
        "{name} is twice as old as {friend}.",
        focus=True,
    ),
    "in_years": piece("later", "Age in {n} years", "age_later", small=True),
    "years_ago": piece("ago", "Age {n} years ago", "age_ago", small=True),
    # A number that is not needed.
    "aside": piece(
        "aside",
        "",
        "",
        "{Who} also has {n} {others}.",
        "There are also {n} {others} in {his} room.",
        "{His} sister has {n} {others}.",
    ),
    "aside_early": piece(
        "aside",
        "",
        "",
        early=(
            "{Who} lives at number {n} in a long street.",
            "{Who} has {n} {others} at home.",
            "{Who} walks past {n} shops.",
        ),
    ),
}

ASKS: dict[str, tuple[str, ...]] = {
    "have": (
        "How many {things} does {name} have now?",
        "How many {things} does {he} have in the end?",
        "What number of {things} does {he} have now?",
    ),
    "left": (
        "How many {things} does {name} have left?",
        "How many {things} are left?",
        "After that, how many {things} does {he} still have?",
    ),
    "each": (
        "How many {things} does each {kid} get?",
        "How many {things} are there for each {kid}?",
        "What number of {things} does each {kid} get?",
    ),
    "packs": (
        "How many {things} does {he} fill?",
        "How many full {things} does {name} have?",
        "How many {things} does {name} need?",
    ),
    "album": (
        "How many pages does {he} fill?",
        "How many pages are full?",
        "How many pages does {name} need?",
    ),
    "they_packs": (
        "How many {things} do they fill?",
        "How many full {things} do they have?",
        "How many {things} do they need?",
    ),
    "both_days": (
        "How many {things} is that on both days together?",
        "How many {things} is that in the two days?",
        "What is the total number of {things} for both days?",
    ),
    "person": (
        "How many {things} does {name} have?",
        "What number of {things} does {name} have?",
        "So how many {things} does {name} have?",
    ),
    "together": (
        "How many {things} do they have together?",
        "How many {things} do they have in all?",
        "What is the total number of their {things}?",
    ),
    "difference": (
        "How many more {things} does {bigger} have than {smaller}?",
        "How many fewer {things} does {smaller} have than {bigger}?",
        "What is the difference between their numbers of {things}?",
    ),
    "cost": (
        "How many coins does {he} pay in all?",
        "What is the total cost in coins?",
        "How many coins does {name} need to pay?",
    ),
    "each_pays": (
        "How many coins does each {kid} pay?",
        "How many coins must each {kid} pay?",
        "How many coins is that for each {kid}?",
    ),
    "change": (
        "How many coins does {he} get back?",
        "How many coins of change does {name} get?",
        "What is {his} change in coins?",
    ),
    "coins": (
        "How many coins does {name} have now?",
        "How many coins does {he} have in the end?",
        "How many coins is that in all?",
    ),
    "coins_left": (
        "How many coins does {name} have left?",
        "How many coins are left?",
        "How many coins does {he} still have?",
    ),
    "need": (
        "How many more coins does {he} need?",
        "How many coins does {name} still need?",
        "How many coins are missing?",
    ),
    "each_week": (
        "How many coins does {he} spend each week?",
        "How many coins is that a week?",
        "How many coins does {name} spend in one week?",
    ),
    "hours": (
        "How many hours does {name} work in all?",
        "How many hours is that in all?",
        "What is the total number of hours?",
    ),
    "minutes": (
        "How many minutes does {name} practise in all?",
        "How many minutes is that in all?",
        "What is the total number of minutes?",
    ),
    "minutes_need": (
        "How many more minutes does {he} need?",
        "How many minutes are still to go?",
        "How many minutes does {name} still need?",
    ),
    "minutes_each": (
        "How many minutes must {he} practise on each of these days?",
        "How many minutes a day are needed for the rest?",
        "How many minutes does {he} practise on each of the last days?",
    ),
    "fuel": (
        "How many litres of fuel does the car need?",
        "How many litres of fuel does {name} use?",
        "How many litres of fuel is that in all?",
    ),
    "km": (
        "How many kilometres does {name} travel in all?",
        "How many kilometres is that in all?",
        "What is the total number of kilometres?",
    ),
    "km_need": (
        "How many kilometres are still to go?",
        "How many more kilometres does {name} have to travel?",
        "How many kilometres are left?",
    ),
    "km_each": (
        "How many kilometres does {name} travel in each of the last hours?",
        "How many kilometres does {he} travel in each of these hours?",
        "How many kilometres an hour is that for the rest?",
    ),
    "pages": (
        "How many pages does {name} read in all?",
        "How many pages is that in all?",
        "What is the total number of pages that {he} reads?",
    ),
    "pages_left": (
        "How many pages are left?",
        "How many pages does {he} still have to read?",
        "How many more pages does {name} have to read?",
    ),
    "pages_each": (
        "How many pages does {he} read on each of the last days?",
        "How many pages must {he} read on each of these days?",
        "How many pages a day are needed for the rest?",
    ),
    "riders": (
        "How many people are in the {ride} now?",
        "How many people are there in the {ride} in the end?",
        "With how many people does the {ride} go on?",
    ),
    "people": (
        "How many {things} are there now?",
        "How many {things} are there in all?",
        "What is the number of {things} now?",
    ),
    "people_left": (
        "How many {things} are left?",
        "How many {things} are still there?",
        "How many {things} stay?",
    ),
    "in_group": (
        "How many {things} are in each group?",
        "How many {things} does each group have?",
        "What is the size of each group?",
    ),
    "teams": ("How many teams are there?", "How many teams do they make?", "What is the number of teams?"),
    "seats": (
        "How many seats can people use now?",
        "How many seats are there now?",
        "What is the number of good seats now?",
    ),
    "free": ("How many seats are still free?", "How many seats are empty?", "How many free seats are left?"),
    "ticket_coins": (
        "How many coins does the owner get?",
        "How many coins is that in all?",
        "How many coins do the tickets bring in?",
    ),
    "grow": (
        "How many {things} grow there now?",
        "How many {things} are in the garden now?",
        "How many {things} does {name} have in the garden?",
    ),
    "others": (
        "How many {things} does {he} pick in all?",
        "How many {things} does {name} get?",
        "How many {things} is that in all?",
    ),
    "shelf_now": (
        "How many {things} are there now?",
        "How many {things} are on the shelves in the end?",
        "What is the number of {things} there now?",
    ),
    "litres": (
        "How many litres are in the tank now?",
        "How many litres of water does the tank have in the end?",
        "How much water is in the tank now, in litres?",
    ),
    "buckets": (
        "How many buckets are filled?",
        "How many buckets are needed?",
        "How many full buckets are there?",
    ),
    "eggs_need": (
        "How many eggs does {name} need?",
        "How many eggs is that in all?",
        "How many eggs are needed in all?",
    ),
    "eggs_buy": (
        "How many eggs must {he} buy?",
        "How many more eggs does {name} need?",
        "How many eggs are still missing?",
    ),
    "egg_boxes": (
        "How many boxes must {he} buy?",
        "How many boxes does {name} need to buy?",
        "How many boxes of eggs does {he} need?",
    ),
    "points": (
        "How many points does {name} have now?",
        "How many points does {he} have in the end?",
        "How many points is that in the end?",
    ),
    "average": (
        "What is {his} average in one game?",
        "How many points is that on average?",
        "What is the average number of points in a game?",
    ),
    "age": ("How old is {name}?", "What is the age of {name}?", "How many years old is {name}?"),
    "age_later": (
        "How old will {name} be in {n} years?",
        "What will be the age of {name} in {n} years?",
        "In {n} years, how old will {name} be?",
    ),
    "age_ago": (
        "How old was {name} {n} years ago?",
        "What was the age of {name} {n} years ago?",
        "What age was {name} {n} years ago?",
    ),
    "age_sum": (
        "How old are they together?",
        "What is the sum of their ages?",
        "What do their ages add up to?",
    ),
    "at_first": (
        "How many {things} did {name} have at first?",
        "How many {things} did {he} have before all this?",
        "With how many {things} did {name} start?",
    ),
    "riders_first": (
        "How many people were in the {ride} at first?",
        "How many people did the {ride} start with?",
        "With how many people did the {ride} start?",
    ),
}
AGE_SUM = {"together": ASKS["age_sum"]}
RELATIONS = "friend_more|friend_fewer|friend_twice|friend_half"
SHOP = ("{name} goes to the market.", "{name} goes shopping.", "It is market day.")
PARTY = ("{name} gets ready for a party.", "There is a party at school.", "{name} plans a party.")

MORE_TWO = (2, 2, 3, 4)  # so that two, three and four steps are about equally common over all stories
SEEN: dict[str, Story] = {
    # Things that people have.
    "toy_collection": Story("has buys? gives|loses? doubles? share?", intro=("", "{name} likes toys.")),
    "fruit_boxes": Story("boxes eaten|spoiled? buys? share|pack?", FRUIT, box="basket", steps=MORE_TWO),
    "fruit_picking": Story("daily spoiled? gives? pack sells_each?", FRUIT, verb="picks", pack="box"),
    "bakery": Story("daily|boxes eaten? pack sells_each spends?", BAKED, box="tray", verb="bakes", steps=(3, 4)),
    "baking_for_class": Story(
        "has|boxes spoiled? gives_each",
        BAKED,
        box="tray",
        kid="child",
        intro=("", "{name} bakes for the class."),
    ),
    "school_supplies": Story("boxes more_boxes? loses? gives_each?", SCHOOL, box="box", pack="packet", kid="classmate"),
    "stickers_third": Story("has|boxes buys? third_away share?", ("sticker", "card"), box="packet"),
    "cards_quarter": Story("has receives? quarter_away share|doubles?", ("card", "stamp"), kid="cousin"),
    "stamp_album": Story("two_kinds loses? doubles? album", ("stamp", "photo"), intro=("", "{name} has a hobby.")),
    "flower_vases": Story("boxes receives? spoiled? pack", FLOWERS, box="bucket", pack="vase"),
    "toy_shop": Story(
        "has|boxes sells_daily receives|half_away?",
        TOYS,
        intro=("{name} has a toy shop.", "{name} runs a small shop."),
    ),
    "market_stall": Story(
        "has|boxes spoiled? sells_each spends?",
        VEGETABLES,
        box="sack",
        intro=("{name} sells food at the market.", ""),
    ),
    "two_days_picking": Story(
        "monday next_more|next_fewer|next_twice|next_half gives? share|pack?",
        FRUIT,
        verb="picks",
        kid="neighbour",
        pack="box",
    ),
    "two_days_making": Story("monday next_twice|next_half|next_more half_away? sells_each?", BAKED, verb="bakes"),
    "party_balloons": Story("boxes spoiled? finds? share_early", ("balloon",), box="packet", kid="child", intro=PARTY),
    "book_boxes": Story("boxes gives? receives? half_away?", BOOKS),
    "at_first_toys": Story("has gives|loses buys|receives half_away?", TOYS, steps=(2, 2, 3), backward=True),
    # Several people.
    "friends_compare": Story(f"owns|boxes {RELATIONS} {RELATIONS}? together", TREASURES),
    "friends_chain": Story(f"owns|boxes {RELATIONS}|friend_times {RELATIONS} friend_more|friend_fewer?", TOYS),
    "friends_pool": Story(f"owns|two_kinds {RELATIONS} pool they_pack", TREASURES, steps=(3, 4)),
    "who_has_more": Story("boxes friend_boxes difference", SCHOOL + TREASURES, box="box", pack="bag", steps=(3,)),
    # Money.
    "shopping_change": Story("items more_items|side_item? hands_over", SCHOOL, others=FRUIT, intro=("", *SHOP)),
    "shopping_purse": Story("items side_item? discount? purse_early", FRUIT, others=SCHOOL, steps=MORE_TWO),
    "fruit_bill": Story("items more_items? discount? split_bill?", FRUIT, others=VEGETABLES, kid="friend", steps=MORE_TWO),
    "tickets": Story(
        "items more_items discount|hands_over?",
        ("ticket",),
        others=("drink", "snack"),
        steps=(3, 4),
        intro=("{name} goes to the cinema.", "{name} takes friends to a show."),
    ),
    "savings": Story("saves gets_coins? spends? goal?", steps=MORE_TWO),
    "savings_early_goal": Story("saves gets_coins? spends? goal_early", steps=MORE_TWO),
    "pocket_money": Story("has_coins gets_coins spends? spend_weeks?", steps=(2, 2, 3)),
    "pay_for_work": Story("works extra_hours? pay_rate spends?", steps=(3, 4)),
    "day_job": Story("earns spends? gets_coins? goal|spend_weeks?"),
    # Reading, practice, travel, sport, ages.
    "reading": Story("reads reads_more? book_early rest_days?", steps=MORE_TWO),
    "piano_practice": Story(
        "practises practises_more? minutes_goal minutes_rest?",
        intro=("{name} plays the piano.", "{name} is learning the piano."),
    ),
    "car_trip": Story(
        "travels travels_on? both_ways? fuel?",
        intro=("{name} goes on a trip by car.", "{name} has a new car."),
    ),
    "long_trip": Story("travels travels_on? trip_early rest_hours?"),
    "game_points": Story("scores bonus? penalty? doubles?", steps=MORE_TWO),
    "game_rivals": Story("scores bonus|penalty? friend_scores difference|together", steps=(3, 4)),
    "average_score": Story("three_scores average", steps=(3,)),
    "ages": Story(
        "age older|younger|twice_age|half_age older|younger|twice_age? older|younger? in_years|years_ago",
        cap=90,
    ),
    "ages_sum": Story(
        "age older|younger|twice_age|half_age younger|older? together", steps=(2, 4, 4), cap=160, asks=AGE_SUM
    ),
    # People in places, gardens, farms.
    "bus": Story(
        "on_board gets_on? gets_off half_off? last_stop?",
        intro=("A bus leaves the station.", "A bus drives to the town.", "A bus is on its way."),
        cap=90,
    ),
    "school_trip": Story(
        "classes people_join? people_leave? groups|teams",
        ("child", "pupil"),
        intro=("It is the day of the school trip.", "A school has a sports day."),
    ),
    "cinema_seats": Story(
        "seat_rows broken_seats? more_seats? taken_seats|seat_price",
        intro=("A cinema opens.", "A small cinema opens in the town."),
    ),
    "garden_rows": Story("rows more_rows? die? pack", FLOWERS, pack="vase"),
    "fruit_trees": Story("rows die picks_all pack?", ("tree",), others=FRUIT, steps=(3, 4), pack="box"),
    "hen_farm": Story("hens broken_eggs? gives? pack sells_each?", ("egg",), pack="box", steps=MORE_TWO),
    "library": Story(
        "shelves delivered? lends returned?",
        BOOKS,
        intro=("A library opens.", "There is a library in the village."),
        steps=MORE_TWO,
    ),
    "water_tank": Story("tank pump rain|uses_water? buckets?"),
    "cake_recipe": Story("recipe already? egg_boxes price_each?", ("cake", "pie"), steps=MORE_TWO),
    # One number is not needed.
    "aside_marbles": Story("has|boxes aside buys|gives? doubles|half_away share?", ("marble", "bead"), others=BOOKS),
    "aside_boxes": Story("aside_early has|boxes gives|loses buys? pack", SCHOOL, others=BOOKS),
    "aside_savings": Story("aside_early saves spends gets_coins? goal?", others=TOYS),
    "aside_fruit": Story("boxes aside gives_each share?", FRUIT, others=BOOKS, box="basket", steps=(3, 4)),
}

UNSEEN: dict[str, Story] = {
    "beach_shells": Story(
        "has|daily third_away finds? share_early?",
        ("shell", "stone"),
        kid="cousin",
        verb="finds",
        intro=("{name} is at the sea.", "{name} is on the beach."),
    ),
    "train": Story(
        "carriages gets_off gets_on? half_off?",
        ride="train",
        intro=("A train leaves the city.", "A night train is on its way."),
    ),
    "museum_visit": Story("people_early classes people_leave people_join? groups|teams?", ("child", "pupil")),
    "toy_market": Story(
        "boxes loses? half_away? sells_each spends?",
        TOYS,
        box="bag",
        steps=(3, 4),
        intro=("{name} has too many toys.", "There is a toy market at school."),
    ),
    "orchard_team": Story(f"has|daily {RELATIONS} pool they_share", FRUIT, verb="picks", kid="neighbour", steps=(3, 4)),
    "concert_tickets": Story(
        "items discount? purse_early spend_weeks?",
        ("ticket",),
        intro=("{name} goes to a concert.", "{name} takes friends to a concert."),
    ),
    "camp_food": Story("aside_early boxes more_boxes? eaten pack?", BAKED, box="box", others=BOOKS),
    "stall_savings": Story("two_kinds sells_each spends? goal_early", BAKED, steps=(3, 4)),
    "train_at_first": Story(
        "on_board gets_off gets_on half_off?",
        steps=(2, 3),
        backward=True,
        ride="train",
        intro=("A train leaves the city.", "A night train is on its way."),
    ),
    "flower_shop": Story("rows aside die|gives? pack sells_each?", FLOWERS, others=BOOKS, pack="basket"),
}

TABLE: dict[str, Story] = {**SEEN, **UNSEEN}
SEEN_STORIES: tuple[str, ...] = tuple(SEEN)
UNSEEN_STORIES: tuple[str, ...] = tuple(UNSEEN)


def plural(noun: str) -> str:
    """The plural of a noun: "box" -> "boxes", "daisy" -> "daisies"."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def upper_first(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


class Tale:
    """A problem in the making: the running number, the words in use, the sentences and the lines so far."""

    def __init__(self, story: Story, rng: random.Random, largest: int) -> None:
        self.story, self.rng, self.largest = story, rng, largest
        self.cap = min(story.cap, 400 if largest <= 40 else 999)
        self.now, self.start = 0, 0
        self.kept: list[int] = []  # what each person has, in the order of appearance
        self.early: list[tuple[str, dict]] = []
        self.told: list[tuple[str, dict]] = []
        self.lines: list[tuple[str, int, str, int, int]] = []  # label, a, operation, b, result
        self.fields: dict[str, object] = {}
        self.ask = "have"
        self.words = self.first_words()

    def first_words(self) -> dict[str, str]:
        """The words of this telling: people, things, containers."""
        rng, story = self.rng, self.story
        girl_first = rng.random() < 0.5
        own, other = (GIRLS, BOYS) if girl_first else (BOYS, GIRLS)
        (name, third), (friend, fourth) = rng.sample(own, 2), rng.sample(other, 2)
        self.people = [name, friend, third, fourth]
        words = {"verb": story.verb, "gift": rng.choice(GIFTS), "ride": story.ride}
        for key, noun in (
            ("thing", rng.choice(story.things)),
            ("box", story.box),
            ("pack", story.pack),
            ("kid", story.kid),
            ("other", rng.choice(story.others)),
        ):
            words |= self.noun(key, noun)
        return words | self.who(0)

    def noun(self, key: str, noun: str) -> dict[str, str]:
        """Singular and plural of a noun under their keys, e.g. box, boxes, Boxes."""
        keys = plural(key)
        return {key: noun, keys: plural(noun), upper_first(keys): upper_first(plural(noun))}

    def who(self, index: int) -> dict[str, str]:
        """Names and pronouns when the story is about person number `index`."""
        name, friend = self.people[index % 4], self.people[(index + 1) % 4]
        he, his, him = ("she", "her", "her") if name in GIRLS else ("he", "his", "him")
        pronouns = {"he": he, "his": his, "him": him, "He": upper_first(he), "His": upper_first(his)}
        return {"name": name, "friend": friend} | pronouns

    # Numbers.
    def count(self, least: int = SMALLEST) -> int:
        """Any count."""
        return self.rng.randint(least, self.largest)

    def factor(self) -> int:
        """A one-digit multiplier."""
        return self.rng.randint(SMALLEST, LARGEST_FACTOR)

    def part(self, total: int) -> int:
        """A count that leaves at least 2 of `total`."""
        if total < 2 * SMALLEST:
            raise Unfit
        return self.rng.randint(SMALLEST, min(self.largest, total - SMALLEST))

    def divisor(self, total: int) -> int:
        """A one-digit divisor of `total`."""
        fits = [d for d in range(SMALLEST, LARGEST_FACTOR + 1) if total % d == 0 and total // d >= SMALLEST]
        if not fits:
            raise Unfit
        return self.rng.choice(fits)

    def round_above(self, total: int) -> int:
        """A round number (a price, the pages of a book) above `total`: only these may pass `largest`."""
        top = min(self.cap, 200 if self.largest <= 40 else 500, total + 100)
        fits = [n for n in range(20, top + 1, 10) if n >= total + SMALLEST]
        if not fits:
            raise Unfit
        return self.rng.choice(fits)

    def work(self, label: str, a: int, sign: str, b: int) -> int:
        """Write one line of the solution and return its result."""
        if sign == "/" and a % b:
            raise Unfit
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1)}[sign]
        if not SMALLEST <= result <= self.cap:
            raise Unfit
        if sign == "*" and (min(a, b) > LARGEST_FACTOR or max(a, b) > 99):
            raise Unfit
        self.lines.append((label.format(**self.words, **self.fields), a, sign, b, result))
        return result

    def play(self, name: str) -> None:
        """Let one piece happen: do its arithmetic, tell it, and pass on what it changes."""
        part = PIECES[name]
        self.fields = {}
        self.now = operate(self, part)
        if part.early:
            self.early.append((self.rng.choice(part.early), self.words | self.fields))
        if part.words:
            self.told.append((self.rng.choice(part.words), self.words | self.fields))
        self.ask = part.ask or self.ask
        if part.focus:
            self.kept.append(self.now)
            self.words = self.words | self.who(len(self.kept) - 1)
        else:
            self.kept[-1:] = [self.now]
        if part.into:
            self.words = self.words | self.noun("thing", self.words.get(part.into, part.into))


def operate(tale: Tale, part: Piece) -> int:
    """Draw the numbers of a piece, write its lines, and return the new running number."""
    op, now, fields = part.op, tale.now, tale.fields
    if op in ("start", "aside"):
        fields["n"] = tale.count()
        tale.start = now if op == "aside" else fields["n"]
        return tale.start
    if op in SPECIAL:
        return SPECIAL[op](tale, part)
    if op.endswith(("n*m", "n*M", "N*m", "n*k")):
        side = product(tale, part, op[-3:])
        return tale.work(part.label, now, op[0], side) if op[0] in "+-" else side
    if op[0] == "&":  # a second quantity, found from the first, and both together
        return tale.work(part.label, now, "+", tale.work(part.side, now, op[1], operand(tale, op[1:], part)))
    if len(op) == 3:  # "-/3": take away a third
        return tale.work(part.label, now, "-", tale.work(part.side, now, op[1], int(op[2])))
    return tale.work(part.label, now, op[0], operand(tale, op, part))


def operand(tale: Tale, op: str, part: Piece) -> int:
    """The second number of an operation: drawn for "+", "-", "*", "/", fixed for "*2" ("twice")."""
    if len(op) == 2:
        return int(op[1])
    if op == "*" or part.small:
        tale.fields["n"] = tale.factor()
    else:
        draw = {"+": lambda _: tale.count(), "-": tale.part, "/": tale.divisor}[op]
        tale.fields["n"] = draw(tale.now)
    return tale.fields["n"]


def product(tale: Tale, part: Piece, op: str) -> int:
    """The line for n groups of m; see the list of operations for which of them may be large."""
    small, large = tale.factor(), tale.factor() if op == "n*k" else tale.count(part.least)
    many_groups = op == "N*m" or (op == "n*m" and tale.rng.random() < 0.4)
    n, m = (large, small) if many_groups else (small, large)
    tale.fields |= {"n": n, "m": m}
    return tale.work(part.side or part.label, n, "*", m)


def from_round(tale: Tale, part: Piece) -> int:
    """A round number less the running number: change, coins still needed, pages left."""
    tale.fields["n"] = tale.round_above(tale.now)
    return tale.work(part.label, tale.fields["n"], "-", tale.now)


def sum_of_counts(tale: Tale, part: Piece) -> int:
    """The sum of two (n+m) or three (n+m+k) counts."""
    keys = part.op.split("+")
    tale.fields |= {key: tale.count() for key in keys}
    total = tale.fields["n"]
    for key in keys[1:]:
        total = tale.work(part.label if key == keys[-1] else part.side, total, "+", tale.fields[key])
    return total


def together(tale: Tale, part: Piece) -> int:
    """What all people have together."""
    total = tale.kept[0]
    for index, value in enumerate(tale.kept[1:], 2):
        total = tale.work(part.label if index == len(tale.kept) else "First two", total, "+", value)
    return total


def difference(tale: Tale, part: Piece) -> int:
    """How many more one of two people has."""
    small, big = sorted(tale.kept)
    bigger = tale.kept.index(big)
    tale.words = tale.words | {"bigger": tale.people[bigger], "smaller": tale.people[1 - bigger]}
    return tale.work(part.label, big, "-", small)


def later(tale: Tale, part: Piece) -> int:
    """An age in n years, or n years ago."""
    tale.fields["n"] = tale.factor()
    return tale.work(part.label, tale.now, "+" if part.op == "later" else "-", tale.fields["n"])


SPECIAL: dict[str, Callable[[Tale, Piece], int]] = {
    "from": from_round,
    "n+m": sum_of_counts,
    "n+m+k": sum_of_counts,
    "together": together,
    "difference": difference,
    "later": later,
    "ago": later,
}


def choose_pieces(pattern: str, rng: random.Random) -> list[str]:
    """One reading of a pattern: "has buys? gives|loses" -> ["has", "loses"]."""
    chosen = []
    for slot in pattern.split():
        if slot.endswith("?") and rng.random() < 0.5:
            continue
        chosen.append(rng.choice(slot.rstrip("?").split("|")))
    return chosen


# A story told backward, by its first piece: how it opens, how it closes, and what it asks.
BACKWARD: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "has": (
        ("{Who} has some {things}.", "{Who} has a box of {things}."),
        (
            "Now {he} has {n} {things}.",
            "In the end {he} has {n} {things}.",
            "After that {he} has {n} {things}.",
        ),
        "at_first",
    ),
    "on_board": (
        ("There are some people in it.", "Some people are already in it."),
        (
            "Now there are {n} people in the {ride}.",
            "The {ride} goes on with {n} people.",
            "In the end the {ride} has {n} people.",
        ),
        "riders_first",
    ),
}
INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


def turn_backward(tale: Tale, opening: str) -> None:
    """Tell the end instead of the start, and work from the end back to the start."""
    if tale.now > tale.largest:
        raise Unfit
    openings, closings, tale.ask = BACKWARD[opening]
    tale.told[0] = (tale.rng.choice(openings), tale.told[0][1])
    tale.told.append((tale.rng.choice(closings), tale.words | {"n": tale.now}))
    forward, tale.lines = tale.lines, []
    for label, a, sign, b, result in reversed(forward):
        tale.lines.append((label.replace("After", "Before"), result, INVERSE[sign], b, a))
    tale.now = tale.start


def render(sentences: list[tuple[str, dict]]) -> str:
    """Fill in the sentences; a person is called by name at first mention and by a pronoun afterwards."""
    text = ""
    for template, words in sentences:
        known = words["name"] in text
        if not known and not re.search(r"\{([Ww]ho|name)\}", template):
            template = re.sub(r"\{([Hh]e|him)\}", "{name}", template, count=1)
            if "{name}" not in template:
                template = re.sub(r"\{[Hh]is\}", "{name}'s", template, count=1)
        who = words["he"] if known else words["name"]
        sentence = template.format(**words, who=who, Who=upper_first(who))
        text += (" " + upper_first(sentence)) if sentence else ""
    return text.strip()


def finish(tale: Tale, name: str) -> Problem:
    """The finished problem: sentences in order, the question, the lines."""
    asks = tale.story.asks.get(tale.ask, ASKS[tale.ask])
    intro = (tale.rng.choice(tale.story.intro), tale.words | tale.who(0))
    question = (tale.rng.choice(asks), tale.words | tale.fields)
    text = render([intro, *tale.early, *tale.told, question])
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if not 15 <= len(text.split()) <= 55 or max(numbers) > tale.cap:
        raise Unfit
    lines = tuple(f"{label}: {a} {sign} {b} = {result}" for label, a, sign, b, result in tale.lines)
    return Problem(name, text, lines, tale.now)


def make_problem(story: str, rng: random.Random, largest: int = 40) -> Problem:
    """A random problem of a story with counts from 2 to `largest`; ValueError when its pattern cannot fit."""
    row = TABLE[story]
    steps = rng.choice(row.steps)
    for _ in range(TRIES):
        tale = Tale(row, rng, largest)
        pieces = choose_pieces(row.pattern, rng)
        try:
            for name in pieces:
                tale.play(name)
            if len(tale.lines) != steps:
                continue
            if row.backward:
                turn_backward(tale, pieces[0])
            return finish(tale, story)
        except Unfit:
            continue
    raise ValueError(f"story {story!r} has no problem with {steps} steps: see its pattern")


STORIES: dict[str, Callable[..., Problem]] = {name: partial(make_problem, name) for name in TABLE}


def problem_key(problem: Problem) -> str:
    """The question in lower case without punctuation: equal for problems that differ in nothing else."""
    return " ".join(re.findall(r"[a-z0-9]+", problem.question.lower()))


EXPRESSIONS = (
    "a + b",
    "a - b",
    "a * b",
    "a / b",
    "a + b + c",
    "a + b - c",
    "a - b + c",
    "a - b - c",
    "a * b + c",
    "a * b - c",
    "a + b * c",
    "a - b * c",
    "a / b + c",
    "a + b / c",
    "a / b - c",
    "a - b / c",
)


def few_step_arithmetic(rng: random.Random) -> tuple[str, int]:
    """A bare expression of one or two operations and its value (0 to 400), such as ("3 + 12 * 4", 51)."""
    while True:
        form, top = rng.choice(EXPRESSIONS), rng.choice((9, 20, 99, 99))
        terms: list[list[str]] = [term.split() for term in re.split(r" [+-] ", form)]
        signs = re.findall(r" ([+-]) ", form)
        values, texts = zip(*(random_term(term, rng, top) for term in terms))
        total, expression, fits = values[0], texts[0], True
        for sign, value, text in zip(signs, values[1:], texts[1:]):
            total = total + value if sign == "+" else total - value
            expression, fits = f"{expression} {sign} {text}", fits and total >= 0
        if fits and total <= 400:
            return expression, total


def random_term(term: list[str], rng: random.Random, top: int) -> tuple[int, str]:
    """A number, a product or an exact quotient (`term` has one or three parts) and how it is written."""
    b = rng.randint(1, LARGEST_FACTOR)
    a = rng.randint(1, min(top, 400 // b))
    if len(term) == 1:
        return a, str(a)
    if term[1] == "/":
        return a, f"{a * b} / {b}"
    return a * b, f"{a} * {b}"
