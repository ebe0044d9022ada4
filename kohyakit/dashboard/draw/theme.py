"""Colours and type of the dashboard, said once for Streamlit, the charts, the components and the exported page."""

from __future__ import annotations

from typing import Any

LIGHT = {
    "primary": "#4353c9",
    "background": "#ffffff",
    "panel": "#f6f7f9",
    "text": "#1d2129",
    "muted": "#667085",
    "line": "#e3e6eb",
}
DARK = {
    "primary": "#93a1ff",
    "background": "#121417",
    "panel": "#1a1d22",
    "text": "#e6e8ec",
    "muted": "#98a1b0",
    "line": "#2c3138",
}

ACCENT = "#6b7bea"  # legible on both grounds

RUN_COLOURS = (
    "#4c78d0", "#e8833a", "#3ea36b", "#c94f7c", "#8a63d2",
    "#2aa5b8", "#b98a1d", "#d9534f", "#6c8f3c", "#7d8694",
)  # fmt: skip
"""Told apart by the common kinds of colour blindness when neighbours are compared; legible on both grounds."""

STATUS_COLOURS = {
    "running": "#4c78d0",
    "finished": "#3ea36b",
    "stopped": "#b98a1d",
    "interrupted": "#b98a1d",
    "failed": "#d9534f",
    "lost": "#d9534f",
    "planned": "#7d8694",
}

SEVERITY_COLOURS = {"error": "#d9534f", "warning": "#c98a1b", "hint": "#8a93a0", "good": "#3ea36b"}


def run_colour(index: int) -> str:
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def run_dash(index: int) -> str:
    """The eleventh run and those after it share colours with the first ten, so their lines are broken."""
    return ("solid", "dashed", "dotted")[index // len(RUN_COLOURS) % 3]


def streamlit_options() -> dict[str, Any]:
    """Streamlit's theme options; the browser's own light or dark setting picks the half."""
    options: dict[str, Any] = {"theme.baseRadius": "0.4rem", "theme.baseFontSize": 15, "theme.showWidgetBorder": True}
    for name, colours in (("light", LIGHT), ("dark", DARK)):
        options |= {
            f"theme.{name}.primaryColor": colours["primary"],
            f"theme.{name}.backgroundColor": colours["background"],
            f"theme.{name}.secondaryBackgroundColor": colours["panel"],
            f"theme.{name}.textColor": colours["text"],
            f"theme.{name}.borderColor": colours["line"],
            f"theme.{name}.linkColor": colours["primary"],
        }
    return options


PAGE_CSS = """
.block-container, [data-testid="stMainBlockContainer"] {padding: 4.2rem 2.2rem 4rem; max-width: 1560px}
@media (max-width: 640px) {[data-testid="stMainBlockContainer"] {padding: 4rem 1rem 3rem}}
h1 {font-size: 1.5rem !important; font-weight: 650 !important; letter-spacing: -.01em; padding: 0 0 .1rem !important}
h2 {font-size: 1.12rem !important; font-weight: 620 !important; padding: .6rem 0 .1rem !important}
h3 {font-size: 1rem !important; font-weight: 600 !important; padding: .3rem 0 0 !important}
[data-testid="stMetricValue"] {font-size: 1.45rem; font-variant-numeric: tabular-nums}
[data-testid="stMetricLabel"] {opacity: .75}
[data-testid="stHeadingWithActionElements"] a {display: none}
.k-sentences {list-style: none; margin: 0 !important; padding: 0 !important; line-height: 1.5}
.k-sentences li {display: flex; gap: .6rem; margin: 0 0 .35rem !important; padding: 0; font-size: .93rem;
  overflow-wrap: anywhere}
[data-testid="stDecoration"], [data-testid="stAppDeployButton"], footer {display: none}
"""

LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="132" height="28" viewBox="0 0 132 28">'
    '<g fill="none" stroke="#6b7bea" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round">'
    '<path d="M3 6c4 0 5 13 9 14s6-5 11-5"/></g><circle cx="23" cy="15" r="3" fill="#e8833a"/>'
    '<text x="36" y="20" font-family="Source Sans Pro,Source Sans,Segoe UI,Helvetica,Arial,sans-serif" font-size="18" '
    'font-weight="600" fill="#7d8694" letter-spacing=".2">kohyakit</text></svg>'
)
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 28 28'%3E%3Cpath "
    "d='M3 6c4 0 5 13 9 14s6-5 11-5' fill='none' stroke='%236b7bea' stroke-width='3.4' stroke-linecap='round'/%3E"
    "%3Ccircle cx='23' cy='15' r='4' fill='%23e8833a'/%3E%3C/svg%3E"
)
