"""Answers as Markdown: formatted as people expect, harmless, and never a word less than was written."""

import re
import time
from html import escape, unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_pipeline.serving.pages.markdown import formatted
from dpo_pipeline_tests.serving.collected import ATTACK


def shown(text: str) -> str:
    """The formatted half."""
    found = re.fullmatch(r'<div class="md">(.*)</div><div class="md-source">.*</div>', formatted(text), re.DOTALL)
    assert found, f"{text!r} is shown as it is"
    return found[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Title", "<h3>Title</h3>"),
        ("#### Deep", "<h6>Deep</h6>"),
        ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>"),
        ("3. three\n4. four", '<li value="3">three</li>\n<li value="4">four</li>'),
        ("1. one\n1. one again", '<li value="1">one again</li>'),
        ("```\n17*3*2\n```\nand **so**", "<code>17*3*2\n</code>"),
        ("one **line**\nand another", "</strong><br />\nand another"),
        ("so **bold** and *slanted* and ~~gone~~", "<strong>bold</strong> and <em>slanted</em> and <s>gone</s>"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "<table><thead>\n<tr>\n<th>a</th>"),
        ("```python\nif a < b:\n    print('c')\n```", "<code>if a &lt; b:\n    print(&#x27;c&#x27;)\n</code>"),
        ("```python\nx\n```", "<span>python</span>"),
        ("`a < b`", "<code>a &lt; b</code>"),
        (
            "(*so*) and **Note**s, 这是**粗体**文字",
            "(<em>so</em>) and <strong>Note</strong>s, 这是<strong>粗体",
        ),
        ("so $x^2$ it is", "<msup><mi>x</mi><mn>2</mn></msup>"),
        (r"so \(a_1\) it is", "<msub><mi>a</mi><mn>1</mn></msub>"),
        ("$$\n\\frac{1}{2}\n$$", "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>"),
        ("So we get:\n\\[\n\\sum_i i\n\\]\nfor all.", '<math display="block"><mrow><munder><mo>∑</mo>'),
        (r"so \(17 % 5 = 2\) it is", "<code>17 % 5 = 2</code>"),
        (r"so $a\phantom{secret}$ it is", r"<code>a\phantom{secret}</code>"),
        (f"so ${'{' * 400}x{'}' * 400}$ it is", f"<code>{'{' * 400}x{'}' * 400}</code>"),
        (r"so \(\frac\) is none", r"<code>\frac</code>"),
        (r"| a |" + "\n|---|\n" + r"| $\alpha$ |", "<td><math"),
    ],
)
def test_formatted(text: str, expected: str) -> None:
    assert expected in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        ATTACK,
        "<script>alert(1)</script>",
        "[click](javascript:alert(1)) [x](https://example.com)",
        "![x](https://example.com/x.png)",
        "<https://example.com>",
        "[x]: https://example.com\n\n[x]",
        '```"><script>alert(1)</script>\nx\n```',
        "| <img src=x> |\n|---|\n| <svg onload=y> |",
        "&lt;script&gt; &#60;b&#62;",
        r"$\href{javascript:alert(1)}{x}$ and \(\style{background: url(x)}{y}\) \[\class{z}{w}\]",
        r"$\text{<img src=x onerror=alert(1)>}$ $\text{&lt;script&gt;}$ $<script>$ $\unicode{60}$",
    ],
)
def test_nothing_in_a_text_can_load_link_or_run(text: str) -> None:
    own = (
        r"</?(?:m[a-z]+|div|p|h[456]|ul|ol|li|strong|em|s|br|hr|blockquote|pre|code|span|table|thead|tbody|tr|th|td"
        r"|button)\b"
    )
    for tag in re.findall(r"<[^>]*>", formatted(text)):
        assert re.match(own, tag), tag
        assert not re.search(r"\b(?:href|src|style|on\w+)\s*=", tag), tag


@pytest.mark.parametrize(
    "text",
    [
        "A sentence. And another, with a < b & c.",
        "one line\nand another\n\nand a paragraph",
        "    indented, as people write",
        "5 * 3 * 2 and snake_case_name",
        "it costs $5, not $10, in $HOME:$PATH",
        f"so $x{'+x' * 600}$ is too long",
    ],
)
def test_what_reads_the_same_formatted_stands_there_once(text: str) -> None:
    assert formatted(text) == f'<div class="md-only">{escape(text)}</div>'


LOSING = [
    "> " * 30 + "deep",
    "| a |\n|---|\n| one | a cell too many |",
    "| item | price |\n|---|---|\n| apples | 3 | 5 |",
    "17*3*2 = 102",
    "2**3**2 and (a)*b*(c)",
    "α*β*γ, and 2²*3²*5²",
    "Type ``` to begin. 17*3*2 = 102",
]


@pytest.mark.parametrize("text", LOSING)
def test_what_would_lose_something_is_shown_as_it_is(text: str) -> None:
    assert formatted(text).startswith('<div class="md-only">')


@given(st.text(st.sampled_from("ab*_`#>-|~[]()!<&$\\\n 1.:"), max_size=120))
def test_no_word_is_lost(text: str) -> None:
    first = formatted(text).split('<div class="md-source">')[0]
    made = unescape(re.sub(r"<[^>]*>", "", first)).replace("Copy", "")
    assert [each for each in made if each in "ab"] == [each for each in text if each in "ab"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "*",
        "a*",
        "_a ",
        "`",
        "> ",
        "- ",
        "|",
        "|a\n",
        "[",
        "~~a",
        "\\",
        "```\n",
        "# a\n",
        "**a",
        "&",
        "$a",
        "$1 ",
        "$$x\n\n",
        "\\[\n\n",
        "\\(",
        "$x^2$ ",
    ],
)
def test_the_worst_texts_cost_a_fraction_of_a_second(piece: str) -> None:
    head = "|a" * 100 + "|\n" + "|-" * 100 + "|\n" if piece.startswith("|") else ""
    began = time.process_time()
    formatted((head + piece * 32_000)[:32_000])
    formatted((head + piece * 20_000)[:20_000])
    assert time.process_time() - began < 2
