"""Output preservation: what the base model answers for a class word is what the LoRA is to leave as it is."""

from __future__ import annotations

from kohyakit.config.sections.noise_loss import NoiseLossConfig
from kohyakit.train.step.batches import Batch


def of_the_class(caption: str, asked: NoiseLossConfig) -> str:
    """A caption with the class in the trigger's place; the class alone where the trigger does not stand in it.

    Left as it is it would hold back what is being learnt of that very caption.
    """
    name, trigger = asked.preservation_class or "", asked.preservation_trigger
    return caption.replace(trigger, name) if trigger and trigger in caption else name


def preserved(batch: Batch) -> list[int]:
    """The places in a batch of images with diff_output_preservation, which are to stay as the model makes them."""
    return [place for place, example in enumerate(batch.examples) if example.image.subset.preserved]
