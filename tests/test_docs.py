"""Every Python block of the documentation runs, without a warning."""

import importlib
import json
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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_has_a_gap_to_fill(page):
    text = page.read_text()
    assert not re.findall(r"TODO|TBD|[A-Z]+_TABLE|[Mm]easured: see", text)


def test_the_figures_of_the_readme_are_those_recorded(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    demo = importlib.import_module("demo")
    for name in ("demo.json", "demo_fashion_mnist.json"):
        record = ROOT / "benchmarks" / "results" / name
        table = demo.markdown(json.loads(record.read_text())["rows"])
        assert table in (ROOT / "README.md").read_text()


def test_every_link_to_a_file_leads_to_one():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"
