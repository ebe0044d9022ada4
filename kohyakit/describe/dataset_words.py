"""Options that only a dataset_config has, and what each does; the others are parameters of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# name -> (what it does, what to try when)
DATASET_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "image_dir": (
            "Folder with the pictures of this subset, and their caption files beside them.",
            "The folder itself, whatever its name: the repeats stand in num_repeats here.",
        ),
        "metadata_file": (
            "Metadata JSON or JSONL that names the pictures of this subset, with captions and tags in place of files.",
            "Leave it out for folders with caption files.",
        ),
        "is_reg": (
            "These are regularisation pictures: the class in general, to keep the model from forgetting it.",
            "true for one subset beside the training ones.",
        ),
        "class_tokens": (
            "Words that stand for a picture of this subset that has no caption file.",
            "What a folder name holds behind the repeats: sks person.",
        ),
        "num_repeats": (
            "How often each picture of this subset counts per epoch.",
            "More for a small subset, so that all subjects are seen equally often.",
        ),
        "batch_size": (
            "Pictures per step and device of this data set; not given, train_batch_size.",
            "Smaller for the data set with the larger resolution.",
        ),
        "network_multiplier": ("Strength of the LoRA while this data set is trained.", "1; -1 for slider LoRAs."),
        "custom_attributes": (
            "A table of which diff_output_preservation alone is read: true trains towards the model's own answers.",
            "{ diff_output_preservation = true } for a subset whose class word must keep its meaning.",
        ),
    }
)
