"""The pages that are made from the code are those of this code."""

from collections.abc import Callable

import pytest

from infra import reference


@pytest.mark.parametrize(("name", "made"), [("configuration", reference.configuration), ("checks", reference.checks)])
def test_a_page_says_what_the_code_does(name: str, made: Callable[[], str]) -> None:
    assert (reference.DOCS / f"{name}.md").read_text() == made(), "run: python3 -m infra.reference"
