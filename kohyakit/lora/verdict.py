"""What a training wrote, looked at when it has ended: is the file sound, and which programs read it as trained?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kohyakit.errors import KohyakitError
from kohyakit.lora.inspect import Inspection, inspect
from kohyakit.lora.readers import Reading
from kohyakit.runs.run import Run


def judge_run(run: Run) -> Run:
    """Look at the newest LoRA of a run and keep the verdict in its record; a run without one stays as it is.

    A file that cannot be read is a finding of the verdict. Raises RunError where the record cannot be written.
    """
    models = [one for one in run.record.checkpoints if one.kind == "model" and not one.replaced_by]
    there = [one for one in models if run.has(one.file) and run.holds(run.locate(one.file))]
    if not there:
        return run
    file = there[-1].file
    try:
        found = _told(inspect(run.locate(file)))
    except KohyakitError as error:
        found = {"problems": [asdict(problem) for problem in error.problems], "programs": []}
    return run.update(verdict={"file": file, **found})


def _told(found: Inspection) -> dict[str, Any]:
    return {
        "problems": [asdict(problem) for problem in found.findings],
        "programs": [_program(reading) for reading in found.readings],
    }


def _program(reading: Reading) -> dict[str, Any]:
    """Layers by what becomes of them and the commonest reason; `lost` is all where a program refuses the whole file."""
    reason = next((one for one in reading.reasons), None)
    whole = reason is not None and reason.state == "lost" and not reason.layers
    total = reading.read + reading.changed + reading.lost
    return {
        "name": reading.program,
        "version": reading.version,
        "changed": reading.changed,
        "lost": total if whole else reading.lost,
        "why": reason.why if reason else "",
    }
