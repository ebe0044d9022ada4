"""Filters such as `network_dim >= 32 and loss.last < 0.1`, over settings, records and metrics; parsed, never run.

Names: a setting (`network_dim`), a field of the record (`version`, `status`, `note`, `images`, `seconds` …), or a
metric with a statistic: `loss.last`, `loss.epoch_average.min`, `lr.unet.max`, `validation.min` (see METRICS).
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kohyakit.config.train import SPECS
from kohyakit.errors import ConfigError, Problem
from kohyakit.runs.comparison.compare import settings_in_force
from kohyakit.runs.comparison.summary import FIXED_NOISE, TRAINING, VALIDATION, run_summary
from kohyakit.runs.logs.metrics import Summary
from kohyakit.runs.run import Run
from kohyakit.runs.version import Version

STATISTICS = ("last", "first", "min", "max", "mean", "count", "bad", "min_step", "max_step", "last_step")
# Short names for the tags of sd-scripts, the first that a run has.
METRICS = {"loss": TRAINING, "validation": VALIDATION, "fixed_noise": FIXED_NOISE}
FIELDS: Mapping[str, Callable[[Run], Any]] = {
    "version": lambda run: run.version,
    "number": lambda run: run.version.number,
    "letter": lambda run: str(run.version)[len(str(run.version.number)) :],
    "status": lambda run: run.status,
    "parent": lambda run: run.record.parent,
    "name": lambda run: run.record.name,
    "note": lambda run: run.record.note,
    "outcome": lambda run: run.record.outcome,
    "device": lambda run: run.record.device,
    "images": lambda run: run.record.image_count,
    "reg_images": lambda run: run.record.reg_count,
    "captions": lambda run: run.record.caption_count,
    "steps": lambda run: run.record.steps,
    "epochs": lambda run: run.record.epochs,
    "seconds": lambda run: run.record.seconds,
    "hours": lambda run: None if run.record.seconds is None else run.record.seconds / 3600,
    "started": lambda run: run.record.started,
    "ended": lambda run: run.record.ended,
}

_LIMIT = 2000  # characters
_COMPARE: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MISSING = object()


def matching(runs: Iterable[Run], expression: str, *, summaries: Summaries | None = None) -> list[Run]:
    """The runs for which the expression holds; one that lacks a value it asks for does not fit.

    summaries: a run's metrics, where they are at hand already; read from its logs otherwise, and only when asked for.
    Raises ConfigError for what is no such expression, and for a name that no run knows.
    """
    runs = list(runs)
    tree = parse(expression)
    summaries = _once(summaries or run_summary)
    _check_names(tree, runs, summaries)
    return [run for run in runs if _truth(_evaluate(tree, _Values(run, summaries)))]


Summaries = Callable[[Run], Mapping[str, Summary]]


def _once(summaries: Summaries) -> Summaries:
    """Ask for each run's metrics once, and only for those that are asked for."""
    kept: dict[Run, Mapping[str, Summary]] = {}

    def ask(run: Run) -> Mapping[str, Summary]:
        if run not in kept:
            kept[run] = summaries(run)
        return kept[run]

    return ask


def parse(expression: str) -> ast.expr:
    """The expression as a checked tree. Raises ConfigError that shows the place and what may stand there."""
    text = expression.strip()
    if not text:
        raise _error(expression, "is empty")
    if len(text) > _LIMIT:
        raise _error(text[:40] + "…", f"has {len(text)} characters; {_LIMIT} are plenty")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        hint = "; write == to compare" if "=" in text and "==" not in text else ""
        raise _error(text, f"cannot be understood{at}{hint}") from None
    _check(tree, text, 0)
    return tree


def names(tree: ast.expr) -> list[str]:
    """Every name that an expression asks for, dotted as written."""
    if isinstance(tree, (ast.Name, ast.Attribute)):
        return [_dotted(tree) or ""]
    return [name for child in ast.iter_child_nodes(tree) if isinstance(child, ast.expr) for name in names(child)]


def _error(text: str, what: str, cure: str = "") -> ConfigError:
    cure = cure or "write something like network_dim >= 32 and loss.last < 0.1"
    return ConfigError(Problem("filter", f"{text!r} {what}", cure, name="bad_filter"))


def _check(node: ast.AST, text: str, depth: int) -> None:
    """Only comparisons, and/or/not, + - * /, names, numbers, texts, and lists after `in`."""
    fine = (
        (isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))))
        or (isinstance(node, (ast.Name, ast.Attribute)) and _dotted(node) is not None)
        or isinstance(node, (ast.List, ast.Tuple, ast.BoolOp))
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd)))
        or (isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC)
        or (isinstance(node, ast.Compare)
        and all(type(op) in _COMPARE or isinstance(op, (ast.In, ast.NotIn, ast.Is, ast.IsNot)) for op in node.ops))
    )  # fmt: skip
    if not fine or depth > 50:
        piece = ast.get_source_segment(text, node) if isinstance(node, ast.expr) else ""  # type: ignore[arg-type]
        what = f"may not contain {piece!r}" if piece and piece != text else "is no comparison"
        raise _error(text, what, "use names, numbers, texts in quotes, < <= > >= == != in, and or not, + - * /")
    if not isinstance(node, ast.Attribute):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                _check(child, text, depth + 1)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def _check_names(tree: ast.expr, runs: Sequence[Run], summaries: Summaries) -> None:
    """Each name must be a field, a setting or a metric of at least one of the runs."""
    problems = []
    for name in dict.fromkeys(names(tree)):
        if name in FIELDS or name in SPECS() or any(name in run.settings for run in runs):
            continue
        tag, _, statistic = name.rpartition(".")
        known = list(dict.fromkeys(_spelling(tag) for run in runs for tag in summaries(run)))
        if tag in (*METRICS, *known) and statistic in STATISTICS:
            continue
        problems.append(_unknown(name, tag, statistic, known))
    if problems:
        raise ConfigError(problems)


def _unknown(name: str, tag: str, statistic: str, known: list[str]) -> Problem:
    if name in (*METRICS, *known):
        cure = f"say which number of it: {name}.last, {name}.min, {name}.mean"
    elif tag in (*METRICS, *known):
        cure = f"'{statistic}' is none of {', '.join(STATISTICS)}"
    else:
        metric_names = [f"{metric}.{one}" for metric in (*METRICS, *known) for one in STATISTICS]
        near = difflib.get_close_matches(name, [*FIELDS, *SPECS(), *metric_names], n=1)
        cure = "name a setting, a field such as images, or a metric such as loss.last"
        cure = f"did you mean '{near[0]}'?" if near else cure
    return Problem("filter", f"unknown name '{name}'", cure, name="bad_filter")


def _spelling(tag: str) -> str:
    """A tag as filters write it: loss/epoch_average is loss.epoch_average."""
    return tag.replace("/", ".").replace("*", "_").replace("-", "_").replace(" ", "_")


class _Values:
    """What the names mean for one run."""

    def __init__(self, run: Run, summaries: Summaries) -> None:
        self._run, self._summaries = run, summaries

    def __getitem__(self, name: str) -> Any:
        if name in FIELDS:
            value = FIELDS[name](self._run)
            return _MISSING if value is None else value
        if "." not in name:
            return settings_in_force(self._run).get(name, _MISSING)
        tag, _, statistic = name.rpartition(".")
        found = {_spelling(tag): summary for tag, summary in self._summaries(self._run).items()}
        for candidate in METRICS.get(tag, (tag,)):
            if (summary := found.get(_spelling(candidate))) is not None:
                return getattr(summary, statistic)
        return _MISSING


def _evaluate(node: ast.expr, values: _Values) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Name, ast.Attribute)):
        return values[_dotted(node) or ""]
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_evaluate(item, values) for item in node.elts]
    if isinstance(node, ast.BoolOp):
        truths = (_truth(_evaluate(value, values)) for value in node.values)
        return all(truths) if isinstance(node.op, ast.And) else any(truths)
    if isinstance(node, ast.UnaryOp):
        value = _evaluate(node.operand, values)
        if isinstance(node.op, ast.Not):
            return not _truth(value)
        return _calculate(operator.neg if isinstance(node.op, ast.USub) else operator.pos, value)
    if isinstance(node, ast.BinOp):
        return _calculate(_ARITHMETIC[type(node.op)], _evaluate(node.left, values), _evaluate(node.right, values))
    assert isinstance(node, ast.Compare)  # `parse` lets nothing else through
    left, result = _evaluate(node.left, values), True
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(right_node, values)
        result = result and _compare(op, left, right)
        left = right
    return result


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    """A comparison with a value that a run lacks, or of things that have no order, does not hold."""
    if left is _MISSING or right is _MISSING:
        return False
    if isinstance(op, (ast.In, ast.NotIn)):
        inside = isinstance(right, (str, list, tuple)) and _inside(left, right)
        return inside == isinstance(op, ast.In)
    left, right = _same_kind(left, right)
    try:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return (left == right) == isinstance(op, ast.Is)
        return bool(_COMPARE[type(op)](left, right))
    except TypeError:
        return False


def _inside(left: Any, right: Any) -> bool:
    if isinstance(right, str):
        return str(left).lower() in right.lower()
    return any(a == b for a, b in (_same_kind(left, item) for item in right))


def _same_kind(left: Any, right: Any) -> tuple[Any, Any]:
    """Versions compare with their text, texts without regard to case."""
    if isinstance(left, Version) and isinstance(right, str) and Version.is_version(right.strip().lower()):
        return left, Version.parse(right)
    if isinstance(right, Version) and isinstance(left, str) and Version.is_version(left.strip().lower()):
        return Version.parse(left), right
    return tuple(side.lower() if isinstance(side, str) else side for side in (left, right))  # type: ignore[return-value]


def _calculate(action: Callable[..., Any], *numbers: Any) -> Any:
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        return _MISSING
    try:
        return action(*numbers)
    except (ZeroDivisionError, OverflowError):
        return _MISSING


def _truth(value: Any) -> bool:
    return value is not _MISSING and bool(value)
