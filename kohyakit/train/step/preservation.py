"""Output preservation: what the base model answers for a class word is what the LoRA is to leave as it is."""

from __future__ import annotations

from kohyakit.config.sections.noise_loss import NoiseLossConfig


def of_the_class(caption: str, asked: NoiseLossConfig) -> str:
    """A caption with the class in the trigger's place; the class alone where the trigger does not stand in it.

    Left as it is it would hold back what is being learnt of that very caption.
    """
    name, trigger = asked.preservation_class or "", asked.preservation_trigger
    return caption.replace(trigger, name) if trigger and trigger in caption else name
