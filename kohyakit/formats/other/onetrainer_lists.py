"""What OneTrainer keeps in lists: the samples that it draws, and the folders that it trains on."""

from __future__ import annotations

from typing import Any

from kohyakit.formats.other.carrying import Reading, number


def samples(found: Any, reading: Reading) -> None:
    lines = []
    for place, sample in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(sample, dict) or sample.get("enabled") is False:
            continue
        if not str(sample.get("prompt") or "").strip():
            continue
        line = " ".join(str(sample["prompt"]).split())
        for option, name in (("n", "negative_prompt"), ("w", "width"), ("h", "height"), ("s", "diffusion_steps"),
                             ("l", "cfg_scale"), ("d", "seed")):  # fmt: skip
            value = sample.get(name)
            if value not in (None, "") and not isinstance(value, (dict, list, bool)):
                line += f" --{option} {' '.join(str(value).split())}"
        lines.append(line)
        for name in sample:
            reading.key = f"samples[{place}].{name}"
            reading.note("mapped", "sample_prompts")
    if lines:
        reading.values["sample_prompts"] = "\n".join(lines[:200])


def concepts(found: Any, file: Any, reading: Reading) -> None:
    """Its image folders; without them in the file they stand in one of their own."""
    if not isinstance(found, list):
        reading.key = "concept_file_name"
        if file:
            reading.drop("the image folders stand in that file, which is not looked at")
            reading.warn(f"its image folders stand in {str(file)[:80]}, which is not looked at",
                         "name them with train_data_dir or --dataset-config")  # fmt: skip
        return
    for place, concept in enumerate(found):
        if not isinstance(concept, dict) or not isinstance(concept.get("path"), str) or not concept["path"]:
            continue
        if concept.get("enabled") is False:
            continue
        repeats = number(concept.get("balancing", concept.get("repeats", 1))) or 1
        folder = concept["path"].replace("\\", "/")
        subset: dict[str, Any] = {"image_dir": folder, "num_repeats": max(1, round(repeats))}
        if concept.get("type") == "PRIOR_PREDICTION":
            subset["is_reg"] = True
        text = concept.get("text")
        if isinstance(text, dict) and text.get("enable_tag_shuffling") is True:
            keep = number(text.get("keep_tags_count"))
            subset |= {"shuffle_caption": True, **({"keep_tokens": int(keep)} if keep else {})}
        image = concept.get("image")
        if isinstance(image, dict) and image.get("enable_random_flip") is True:
            subset["flip_aug"] = True
        reading.subsets.append(subset)
        for name in ("path", "balancing", "repeats", "type"):
            if name in concept:
                reading.key = f"concepts[{place}].{name}"
                reading.note("mapped", "a subset in the dataset_config")
