"""The same training once more by diffusers, transformers and torch, to compare losses with.

It is told what is drawn at random (captions, noise, timesteps, with ip_noise_gamma the noisy latents) and the LoRA's
first values, and takes token ids from dataset.captions.tokens, which tests of its own compare with CLIP's. Models, how
a caption conditions the U-Net, the LoRA itself (added to the weights, not to the outputs), noise schedule, loss, its
weights, gradients, clipping and the optimizer are computed here by other means.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call
from transformers import CLIPTextModel

from kohyakit.config.train import TrainConfig
from kohyakit.dataset.captions.tokens import encode
from kohyakit.train.callbacks import Quiet, Seen

START, END = 49406, 49407


class Reference(Quiet):
    """Trains beside a training of Stable Diffusion 1.x with AdamW. theirs, ours: the loss of every micro-batch."""

    def __init__(self, config: TrainConfig, model: Path) -> None:
        self._config = config
        self._unet = UNet2DConditionModel.from_pretrained(model / "unet").requires_grad_(False)
        self._text = CLIPTextModel.from_pretrained(model / "text_encoder").requires_grad_(False)
        asked = config.model
        self._schedule = DDPMScheduler.from_pretrained(
            model / "scheduler", rescale_betas_zero_snr=asked.zero_terminal_snr
        )
        plain = DDPMScheduler.from_pretrained(model / "scheduler").alphas_cumprod
        self._snr = plain / (1 - plain)
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def ready(self, trained: nn.Module) -> None:
        self._lora = {name: tensor.detach().float().clone() for name, tensor in trained.state_dict().items()}
        learnt = [name for name in self._lora if not name.endswith("alpha")]
        for name in learnt:
            self._lora[name].requires_grad_()
        rate, ratio = self._config.optimizer.learning_rate, 1.0
        for argument in self._config.network.network_args or ():
            ratio = float(argument.partition("=")[2]) if argument.startswith("loraplus_lr_ratio") else ratio
        ups = [self._lora[name] for name in learnt if "lora_up" in name]
        downs = [self._lora[name] for name in learnt if "lora_down" in name]
        self._optimizer = torch.optim.AdamW([{"params": downs, "lr": rate}, {"params": ups, "lr": rate * ratio}])

    def seen(self, seen: Seen) -> None:
        self.ours.append(float(seen.losses.mean()))
        loss = self._loss(seen)
        self.theirs.append(float(loss.detach()))
        (loss / self._config.training.gradient_accumulation_steps).backward()

    def step(self, report) -> None:
        if report.synced:
            nn.utils.clip_grad_norm_([t for t in self._lora.values() if t.requires_grad], 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()

    def _with_lora(self, module: nn.Module, prefix: str) -> dict[str, Tensor]:
        """The weights of a model's layers with what the LoRA adds to them."""
        changed = {}
        for path, layer in module.named_modules():
            name = prefix + path.removeprefix("text_model.").replace(".", "_")
            if f"{name}.lora_up.weight" not in self._lora:
                continue
            up, down, alpha = (self._lora[f"{name}.{end}"] for end in ("lora_up.weight", "lora_down.weight", "alpha"))
            update = (up.flatten(1) @ down.flatten(1)) * (alpha / len(down))
            changed[f"{path}.weight"] = layer.weight + update.view_as(layer.weight)
        assert changed
        return changed

    def _states(self, captions: list[str]) -> Tensor:
        """Chunks of 75 tokens, each between its marks; the end also fills up, and one pair of marks is kept of all."""
        asked = self._config.model
        weights, rows = self._with_lora(self._text, "lora_te_text_model_"), []
        for caption in captions:
            tokens = encode(caption)
            room = asked.max_token_length or 75
            filled = [*tokens[:room], *[END] * (room - len(tokens))]
            ids = torch.tensor([[START, *filled[i : i + 75], END] for i in range(0, room, 75)])
            told = functional_call(self._text, weights, (ids,), {"output_hidden_states": True})
            final = getattr(self._text, "text_model", self._text).final_layer_norm
            states = final(told.hidden_states[-(asked.clip_skip or 1)])
            rows.append(torch.cat([states[0, :1], states[:, 1:-1].flatten(0, 1), states[-1, -1:]]))
        return torch.stack(rows)

    def _loss(self, seen: Seen) -> Tensor:
        asked, schedule, t = self._config.noise_loss, self._schedule, seen.timesteps
        latents, noise = seen.latents.float(), seen.noise.float()
        noisy = seen.noisy if asked.ip_noise_gamma else schedule.add_noise(latents, noise, t)
        weights = self._with_lora(self._unet, "lora_unet_")
        states = self._states([example.caption for example in seen.batch.examples])
        found = functional_call(self._unet, weights, (noisy, t, states)).sample
        v = self._config.model.v_parameterization
        wanted = schedule.get_velocity(latents, noise, t) if v else noise
        losses, snr = (found - wanted) ** 2, self._snr[t]
        if asked.loss_type == "huber":  # pseudo-Huber; its threshold falls from 1 towards huber_c as noise grows
            sigma = ((1 - schedule.alphas_cumprod[t]) / schedule.alphas_cumprod[t]).sqrt()
            c = ((1 - asked.huber_c) / (1 + sigma) ** 2 + asked.huber_c).view(-1, 1, 1, 1)
            losses = 2 * c * ((losses + c**2).sqrt() - c)
        each = losses.mean(dim=(1, 2, 3))
        if asked.min_snr_gamma:
            each = each * torch.minimum(snr, torch.tensor(float(asked.min_snr_gamma))) / snr
        if asked.scale_v_pred_loss_like_noise_pred:
            each = each * snr / (snr + 1)
        if asked.debiased_estimation_loss:
            each = each / snr.clamp(max=1000).sqrt()
        return each.mean()
