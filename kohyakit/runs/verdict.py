"""What a run's record says of its LoRA (see lora.verdict), in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kohyakit.errors import Problem


def sentences(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(severity, sentence): what is wrong with the file, who reads it otherwise than it was trained, who as it was.

    Records come from other hands too: what is not as it should be is passed over.
    """
    for problem in _each(verdict.get("problems")):
        known = {name: str(problem.get(name) or "") for name in ("where", "what", "cure", "name")}
        yield str(problem.get("severity") or "error"), str(Problem(**known))
    fine = []
    for program in _each(verdict.get("programs")):
        name, lost, changed = str(program.get("name")), program.get("lost"), program.get("changed")
        why = f": {program['why']}" if program.get("why") else ""
        if lost:
            yield "warning", f"{name} loses {_layers(lost)}{why}"  # the file is good, and there are other programs
        elif changed:
            yield "warning", f"{name} computes {_layers(changed)} differently{why}"
        else:
            fine.append(name)
    if fine:
        yield "good", f"read as it was trained by {', '.join(fine)}"


def _each(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in (value if isinstance(value, list | tuple) else ()) if isinstance(one, Mapping))


def _layers(count: Any) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
