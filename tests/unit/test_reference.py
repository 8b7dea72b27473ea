from pathlib import Path

import pytest

from mitosis.testing import reference

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_a_page_says_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert reference.fill(text, page.parent) == text, "stale: run `just docs`"


def test_every_block_stands_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert [name for name in reference.BLOCKS if f": {name} -->" not in pages] == []


def test_a_stale_page_is_found_and_brought_up_to_date(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- made from x: errors -->\nFORMER\n<!-- end -->\n\nBy hand.\n")
    assert reference.main(["--check", str(tmp_path)]) == 1
    assert "FORMER" in page.read_text()
    assert reference.main([str(tmp_path)]) == 0
    text = page.read_text()
    assert "FORMER" not in text
    assert "| `not_found` | NotFound | 3 |" in text
    assert text.startswith("# Title\n")
    assert text.endswith("\nBy hand.\n")
    assert reference.main(["--check", str(tmp_path)]) == 0


def test_a_block_that_nothing_makes_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        reference.fill("<!-- made from x: weather -->\n<!-- end -->", tmp_path)
