"""A plan as plain data: one object with plain keys, for `check --json`, plan.json and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kohyakit.dataset.layout import Subset
from kohyakit.errors import Problem
from kohyakit.formats.prompt_lines import SamplePrompt

if TYPE_CHECKING:
    from kohyakit.planning.plan import Plan


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as JSON knows it; lists of rows for subsets, buckets, files, samples and findings.

    Where there is nothing to train, only the findings: there is no plan of nothing.
    """
    verdict = {
        "ok": not plan.errors,
        "ok_here": not plan.errors and not plan.lacking_here,
        "findings": [finding_data(problem) for problem in plan.findings],
    }
    if not plan.trains:
        return verdict
    return {
        **verdict,
        "steps": plan.steps,
        "epochs": plan.epochs,
        "batches_per_epoch": plan.batches_per_epoch,
        "steps_per_epoch": plan.steps_per_epoch,
        "warmup_steps": plan.warmup_steps,
        "decay_steps": plan.length.decay_steps,
        "length_decided_by": plan.length.decided_by,
        "start": {"step": plan.start.step, "epoch": plan.start.epoch, "batches_done": plan.start.batches_done},
        "gui_steps": plan.gui_steps,
        "learning_rates": {
            "unet": plan.learning_rates.unet,
            "text_encoder": list(plan.learning_rates.text_encoder),
            "set_by_optimizer": plan.learning_rates.relative,
        },
        "subsets": list(_subsets(plan)),
        "buckets": list(_buckets(plan)),
        "files": list(_files(plan)),
        "output_dir": plan.output_dir,
        "lora": _lora(plan),
        "validation": _validation(plan),
        "samples": [sample_data(prompt) for prompt in plan.samples],
        "sample_steps": list(plan.sample_steps),
        "memory": _memory(plan),
    }


def _memory(plan: Plan) -> dict[str, Any] | None:
    memory = plan.memory
    if memory is None:
        return None
    return {**asdict(memory), "total": memory.total, "highest": memory.highest, "estimate": True}


def finding_data(problem: Problem) -> dict[str, str]:
    return {key: getattr(problem, key) for key in ("name", "severity", "where", "what", "cure")}


def sample_data(prompt: SamplePrompt) -> dict[str, Any]:
    """A prompt with the size that is drawn."""
    row = asdict(prompt)
    row["width"], row["height"] = prompt.size
    row["notes"] = list(prompt.notes)
    return row


def _subsets(plan: Plan) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(plan.datasets):
        for subset in part.dataset.subsets:
            yield {"dataset": number, **_subset(subset)}
    for subset in plan.unused:
        yield {"dataset": None, **_subset(subset), "used": 0}


def _subset(subset: Subset) -> dict[str, Any]:
    return {
        "folder": str(subset.metadata_file or subset.image_dir),
        "name": subset.name,
        "repeats": subset.num_repeats,
        "class_tokens": subset.class_tokens,
        "regularisation": subset.is_reg,
        "images": len(subset.records),
        "unreadable": len(subset.unreadable),
        **captions_of(subset),
    }


def captions_of(subset: Subset) -> dict[str, int]:
    """How many images of a subset have a caption, in a file of their own or in the metadata file, and how many none."""
    if subset.metadata_file:
        found = sum(bool(record.caption.strip()) for record in subset.records)
    else:
        found = sum(record.caption_path is not None for record in subset.records)
    return {"captions_found": found, "captions_missing": len(subset.records) - found}


def _buckets(plan: Plan) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(plan.datasets):
        for row in part.buckets:
            yield {
                "dataset": number,
                "width": row.bucket.width,
                "height": row.bucket.height,
                "images": row.images,
                "files": row.files,
                "batches": row.batches,
            }


def _files(plan: Plan) -> Iterator[dict[str, Any]]:
    for point in plan.saves:
        yield {
            "file": point.file,
            "step": point.step,
            "epoch": point.epoch,
            "state": point.state,
            "deleted_at_step": point.deleted_at,
            "state_deleted_at_step": point.state_deleted_at,
        }


def _validation(plan: Plan) -> dict[str, Any] | None:
    measured = plan.validation
    if measured is None:
        return None
    return {
        "images": measured.images,
        "held_back": measured.held_back,
        "trained_too": measured.overlap,
        "batches": measured.batches,
        "noises": measured.noises,
        "points": [{"step": point.step, "epoch": point.epoch} for point in measured.in_order],
        "best_file": plan.best,
        "patience": measured.patience,
    }


def _lora(plan: Plan) -> dict[str, Any] | None:
    if plan.lora is None:
        return None
    return {
        "bytes": plan.lora.file_bytes(),
        "metadata_bytes_estimate": plan.metadata_bytes,
        "modules": plan.lora.modules,
        "tensors": plan.lora.tensors,
        "parameters": plan.lora.parameters,
        "model": plan.model.family if plan.model else None,
        "model_shape_known": bool(plan.model and plan.model.known),
        "ranks": sorted(set(plan.weights.ranks.values())) if plan.weights else None,
    }
