"""Every Python block of the documentation runs, without a warning."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CARDS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *CARDS]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(text):
    """Returns the code of each block, below as many lines as in the page."""
    return [
        "\n" * text.count("\n", 0, match.start(1)) + match[1]
        for match in BLOCK.finditer(text)
    ]


def name_of(page):
    return str(page.relative_to(ROOT))


def test_blocks_keep_their_line_numbers():
    page = "# A\n```python\nx = 1\n```\n```text\nno\n```\n```python\nx\n```\n"
    assert blocks_of(page) == ["\n\nx = 1\n", "\n" * 8 + "x\n"]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.exists()], ids=name_of
)
def test_the_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks_of(page.read_text()):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("card", CARDS, ids=name_of)
def test_a_card_has_a_python_block(card):
    assert blocks_of(card.read_text())
