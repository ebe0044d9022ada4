"""docs/parameters.md is what the parameters say today."""

from __future__ import annotations

import re

from kohyakit.config.sections.network import NETWORK_ARG_SPECS
from kohyakit.config.train import SPECS
from kohyakit.describe.table import parameters_markdown
from tests.conftest import ROOT


def test_the_page_is_current():
    page = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert page == parameters_markdown(), "run: kohyakit explain --markdown > docs/parameters.md"


def test_every_parameter_stands_in_it_once():
    rows = re.findall(r"^\| `(\w+)` \|", parameters_markdown(), flags=re.MULTILINE)
    assert sorted(rows) == sorted([*SPECS(), *NETWORK_ARG_SPECS()])
