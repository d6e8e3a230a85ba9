"""No regular expression of the package costs more than a text's length, however odd the text.

Every one is found by itself: constants of modules, and literals in calls. From what each is made of, texts are built
that nearly match, over and over, and of these the dearest is looked for.
"""

import ast
import importlib
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product, takewhile
from pathlib import Path
from typing import Any

import pytest
import regex

import dpo_pipeline
from dpo_pipeline.core.questions import Question
from dpo_pipeline.core.template_tokens import _pattern

PACKAGE = Path(dpo_pipeline.__file__).parent
ENGINES = ("re", "regex")
CALLS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
MADE_LATER = {
    "core/questions.py": Question("", "", (), (), (), "", (("New York", "New Haven", "NYC"),))._patterns[0],
    "core/template_tokens.py": _pattern(("<|im_start|>", "<|im_end|>", "<im")),
}
"""An example of each that a function puts together: only from texts that `re.escape` made literal."""
SHORT, LONGER, TIMES, MOST_GROWTH = 400, 2_000, 4, 8.0
"""Characters of a text, and of one that is looked at again; four times as many cost 4 times the work where that is
linear, and 16 times where it is quadratic.
"""
LOOKS = 4
"""So often a text is looked at again before it counts as too dear: what is quadratic is so each time."""
MOST_PAIRS = 600
"""Of pieces that are tried together; of more, drawn ones."""
ENDS = ("\x00", "")
ANYTHING = "a A1_-.:;@/\\\"'<>[]{}()!?\n\x1b\u0e01\u6f22\u03b1\u0589\u1362"
"""Characters of each kind, for what cannot be taken apart: patterns of the module `regex`, with its properties."""
parser: Any = importlib.import_module("re._parser")


class Taken:
    """A pattern taken apart: `pieces` are its literals, members of its sets, and beginnings of what it matches."""

    def __init__(self, pattern: "re.Pattern[str] | regex.Pattern[str]"):
        self.pieces: dict[str, None] = {}
        if isinstance(pattern, re.Pattern):
            for sample in self._samples(parser.parse(pattern.pattern, pattern.flags)):
                self.pieces |= dict.fromkeys(sample[:end] for end in (1, 2, len(sample) - 1, len(sample)) if end > 0)
        else:
            signs = (each for each in pattern.pattern if not each.isascii())
            self.pieces |= dict.fromkeys([*ANYTHING, *signs])

    def _samples(self, tokens: Iterable[tuple[Any, Any]]) -> list[str]:
        """Texts that match, one a branch; whatever may be there is there once."""
        found = [""]
        for kind, run in groupby(tokens, key=lambda each: str(each[0])):
            values = [value for _, value in run]
            if kind == "LITERAL":
                [word] = self._noted("".join(map(chr, values)))
                found = [before + word for before in found]
                continue
            for value in values:
                parts = self._of(kind, value)
                found = [before + part for before, part in product(found, parts[:4])][:24] + parts[4:24]
        return found

    def _of(self, kind: str, value: Any) -> list[str]:
        match kind:
            case "NOT_LITERAL":
                return self._noted("a" if value != ord("a") else "b")
            case "ANY":
                return self._noted("a")
            case "IN":
                return self._noted(*self._members(value))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return [each * max(value[0], 1) for each in self._samples(value[2])]
            case "SUBPATTERN":
                return self._samples(value[-1])
            case "ATOMIC_GROUP":
                return self._samples(value)
            case "BRANCH":
                return [sample for branch in value[1] for sample in self._samples(branch)]
            case "ASSERT":
                return [""] if value[0] < 0 else self._samples(value[1])
            case "ASSERT_NOT":
                self._samples(value[1])
                return [""]
            case "AT":
                return [""]
        raise AssertionError(f"{kind} is new in Python's patterns: say here what matches it")

    def _members(self, items: list[tuple[Any, Any]]) -> list[str]:
        """Some of a set, or one of its negation."""
        some = {
            "CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a",
            "CATEGORY_NOT_DIGIT": "a", "CATEGORY_NOT_SPACE": "a", "CATEGORY_NOT_WORD": "-",
        }  # fmt: skip
        told = [self._member(str(kind), value, some) for kind, value in items]
        if str(items[0][0]) != "NEGATE":
            return self._noted(*dict.fromkeys(told))[:3]
        self._noted(*told[1:])
        return [next(each for each in ANYTHING if each not in told)]

    def _member(self, kind: str, value: Any, some: Mapping[str, str]) -> str:
        if kind == "NEGATE":
            return ""
        return some[str(value)] if kind == "CATEGORY" else chr(value[0] if kind == "RANGE" else value)

    def _noted(self, *characters: str) -> list[str]:
        self.pieces |= dict.fromkeys(characters)
        return list(characters)


def _patterns() -> Iterator[tuple[str, "re.Pattern[str] | regex.Pattern[str]"]]:
    """By module: constants, whatever holds them, and literals in calls."""
    for path in sorted(PACKAGE.rglob("*.py")):
        calls = _calls(path)
        if not calls:
            continue
        where = path.relative_to(PACKAGE).as_posix()
        module = importlib.import_module(".".join(("dpo_pipeline", *path.relative_to(PACKAGE).with_suffix("").parts)))
        for name, value in vars(module).items():
            yield from ((f"{where} {name}", each) for each in _within(value))
        known = {each.pattern for value in vars(module).values() for each in _within(value)}
        for call in calls:
            if isinstance(call.args[0], ast.Constant) and call.args[0].value not in known:
                yield f"{where}:{call.lineno}", re.compile(call.args[0].value)
    yield from ((f"{where} in a function", each) for where, each in MADE_LATER.items())


def _within(value: Any) -> list["re.Pattern[str] | regex.Pattern[str]"]:
    if isinstance(value, re.Pattern | regex.Pattern):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [each for part in value for each in _within(part)] if isinstance(value, tuple | list) else []


def _calls(path: Path, in_functions: bool = False) -> list[ast.Call]:
    """Calls of `re` and `regex` that are given a pattern."""
    tree: ast.AST = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    roots = [each for each in ast.walk(tree) if isinstance(each, kinds)] if in_functions else [tree]
    return [
        each
        for root in roots
        for each in ast.walk(root)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in CALLS
        and isinstance(each.func.value, ast.Name)
        and each.func.value.id in ENGINES
    ]


PATTERNS = {pattern: name for name, pattern in _patterns()}


def test_whatever_a_function_puts_together_has_an_example_here() -> None:
    made = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for call in _calls(path, in_functions=True)
        if not isinstance(call.args[0], ast.Constant)
    }
    assert made == MADE_LATER.keys()
    assert len(PATTERNS) > 40


def _cost(pattern: "re.Pattern[str] | regex.Pattern[str]", text: str) -> float:
    """Processor time of this thread, in seconds."""
    began = time.thread_time()
    for _found in pattern.finditer(text):
        pass
    return time.thread_time() - began


def _shapes(pieces: Sequence[str]) -> Iterator[tuple[str, Callable[[int], str]]]:
    """(what it is, characters → the text): two pieces in turn, many behind one, many behind many."""
    pairs = list(product(pieces, repeat=2))
    if len(pairs) > MOST_PAIRS:
        pairs = [(each, each) for each in pieces] + random.Random(0).sample(pairs, MOST_PAIRS)
    for (first, second), end in product(pairs, ENDS):
        yield f"({first!r} {second!r})… {end!r}", partial(_repeated, "", first + second, end)
        if first != second:
            yield f"{first!r} {second!r}… {end!r}", partial(_repeated, first, second, end)
            yield f"{first!r}… {second!r}… {end!r}", partial(_both, first, second, end)


def _repeated(head: str, piece: str, end: str, size: int) -> str:
    return head + piece * (size // len(piece)) + end


def _both(first: str, second: str, end: str, size: int) -> str:
    return first * (size // len(first)) + second * (size // len(second)) + end


def _dearest(pattern: "re.Pattern[str] | regex.Pattern[str]") -> tuple[float, str]:
    """By how much work grows from a text to one four times as long, and with which text: the first that is too dear."""
    for what, text in _shapes(list(Taken(pattern).pieces)):
        if _growth(pattern, text, SHORT, 1) > MOST_GROWTH:  # or something else took the processor's time
            looks = (_growth(pattern, text, LONGER, 5) for _ in range(LOOKS))
            found = list(takewhile(lambda growth: growth > MOST_GROWTH, looks))
            if len(found) == LOOKS:
                return min(found), what
    return 0.0, ""


def _growth(
    pattern: "re.Pattern[str] | regex.Pattern[str]", text: Callable[[int], str], size: int, tries: int
) -> float:
    """Of the best of some tries each, taken in turn: a processor that is slow for a while is so for both."""
    costs = [(_cost(pattern, text(size)), _cost(pattern, text(TIMES * size))) for _ in range(tries)]
    return min(longer for _, longer in costs) / min(shorter for shorter, _ in costs)


@pytest.mark.slow  # two thirds of a minute of one core: thousands of texts a pattern
@pytest.mark.parametrize("pattern", PATTERNS, ids=PATTERNS.values())
def test_work_grows_with_the_length_of_the_worst_text(pattern: "re.Pattern[str] | regex.Pattern[str]") -> None:
    growth, text = _dearest(pattern)
    assert growth < MOST_GROWTH, f"{growth:.0f} times the work for {TIMES} times {text}"


@pytest.mark.parametrize(
    "quadratic",
    ["<[^>]*>", r"\s+\Z", r'"(?:[^"\\]|\\.)*+"', r"\w+@", "x*y*z", r"(?:a|b)+c(?=d)", r"(?<!\w)eyJ[\w-]+\.\w"],
)
def test_the_search_finds_what_is_quadratic(quadratic: str) -> None:
    assert _dearest(re.compile(quadratic))[0] > MOST_GROWTH
