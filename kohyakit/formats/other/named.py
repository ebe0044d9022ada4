"""What a JSON, TOML or YAML is that holds no training's settings, by general marks rather than by a list of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_Mark = Callable[[Mapping[str, Any]], bool]


def _has(*names: str) -> _Mark:
    return lambda values: all(name in values for name in names)


def _of_nodes(values: Mapping[str, Any]) -> bool:
    """A ComfyUI workflow: nodes and links, or numbered nodes with a class, at the top or under `prompt`."""
    inner = values.get("prompt") if isinstance(values.get("prompt"), dict) else values
    nodes = [item for item in inner.values() if isinstance(item, dict)] if isinstance(inner, dict) else []
    if nodes and all("class_type" in node for node in nodes):
        return True
    listed = values.get("nodes")
    return isinstance(listed, list) and ("links" in values or "last_node_id" in values)


_MUSUBI_DATA = frozenset(
    ("image_directory", "video_directory", "image_jsonl_file", "video_jsonl_file", "cache_directory")
)

_KINDS: tuple[tuple[_Mark, str], ...] = (
    (_of_nodes, "a workflow of ComfyUI"),
    (lambda values: "_class_name" in values and any(isinstance(item, list) and len(item) == 2 and item[0] in
     ("diffusers", "transformers") for item in values.values()), "the model_index.json of a diffusers model"),
    (_has("_class_name"), "the configuration of a part of a diffusers model"),
    (_has("_diffusers_version"), "the configuration of a part of a diffusers model"),
    (_has("model_type", "architectures"), "the configuration of a transformers model"),
    (_has("model_type", "transformers_version"), "the configuration of a transformers model"),
    (_has("model_type", "vocab_size"), "the configuration of a transformers model"),
    (_has("peft_type", "target_modules"), "the adapter_config.json of a PEFT LoRA"),
    (_has("tokenizer_class"), "the configuration of a tokenizer"),
    (lambda values: isinstance(values.get("model"), dict) and ("added_tokens" in values or "pre_tokenizer" in values),
     "a tokenizer"),
    (_has("bos_token", "eos_token"), "the special tokens of a tokenizer"),
    (_has("image_processor_type"), "the configuration of an image processor"),
    (_has("feature_extractor_type"), "the configuration of an image processor"),
    (lambda values: len(values) > 1000 and all(isinstance(item, int) for item in values.values()),
     "the vocabulary of a tokenizer"),
    (_has("weight_map"), "the index of a model in several files"),
    (lambda values: isinstance(values.get("__metadata__"), dict), "the header of a safetensors file"),
    (lambda values: bool(values) and all(isinstance(item, dict) and {"dtype", "shape"} <= item.keys()
     for item in values.values()), "the header of a safetensors file"),
    (lambda values: bool(values) and any(str(name).startswith("ss_") for name in values),
     "the metadata of a LoRA; kohyakit runs import reads them from the LoRA itself"),
    (_has("current_epoch", "current_step"), "the train_state.json of a saved training"),
    (lambda values: bool(values) and all(isinstance(item, dict) and ("tags" in item or "caption" in item or
     "train_resolution" in item) for item in values.values()), "the metadata file of a data set (in_json)"),
    (lambda values: {"name", "version"} <= values.keys() and bool(
     {"scripts", "dependencies", "devDependencies", "main"} & values.keys()),
     "the package.json of a JavaScript project"),
    (lambda values: {"project", "build-system"} <= values.keys() or isinstance(values.get("tool"), dict),
     "the pyproject.toml of a Python project"),
    (_has("package", "dependencies"), "the Cargo.toml of a Rust project"),
    (_has("$schema", "properties"), "a JSON Schema"),
    (lambda values: "compilerOptions" in values, "the tsconfig.json of a TypeScript project"),
    (lambda values: "compute_environment" in values or "distributed_type" in values,
     "the settings of accelerate; accelerate reads them itself"),
    (_has("zero_optimization"), "the settings of DeepSpeed"),
    (lambda values: "services" in values and isinstance(values["services"], dict), "a docker-compose file"),
    (lambda values: "jobs" in values and ("on" in values or True in values), "a workflow of GitHub"),
    (lambda values: "cells" in values and "nbformat" in values, "a Jupyter notebook"),
    (_has("prompt", "negative_prompt"), "the settings of a drawn picture"),
    (_has("prompt", "sampler_name"), "the settings of a drawn picture"),
    (lambda values: isinstance(values.get("datasets"), list) and any(isinstance(table, dict) and bool(
     _MUSUBI_DATA & table.keys()) for table in values["datasets"]), "a data set of musubi-tuner"),
    (lambda values: isinstance(values.get("model"), dict) and bool({"target", "base_learning_rate", "params"}
     & values["model"].keys()), "the configuration of a latent diffusion model"),
    (lambda values: "directory" in values and isinstance(values["directory"], list), "a data set of diffusion-pipe"),
    (lambda values: isinstance(values.get("model"), dict) and "type" in values["model"] and
     ("adapter" in values or "optimizer" in values), "a training of diffusion-pipe"),
    (lambda values: any(str(name).startswith("--") for name in values), "a training of SimpleTuner"),
    (_has("model_family", "data_backend_config"), "a training of SimpleTuner"),
)  # fmt: skip

_LISTS: tuple[tuple[_Mark, str], ...] = (
    (lambda item: "prompt" in item, "a list of prompts; name it in sample_prompts"),
    (lambda item: "path" in item and "name" in item, "a list of concepts of OneTrainer"),
    (lambda item: "instance_data_dir" in item or "instance_prompt" in item, "a list of concepts of a Dreambooth tool"),
    (lambda item: "id" in item and "type" in item, "a list of data sets of SimpleTuner"),
)


def what_is(values: Any) -> str:
    """What a parsed file is, in words that follow "is"; "" where nothing tells."""
    if isinstance(values, dict):
        if not values:
            return "an empty table"
        return next((words for mark, words in _KINDS if mark(values)), "")
    if isinstance(values, list) and values and all(isinstance(item, dict) for item in values[:50]):
        return next((words for mark, words in _LISTS if mark(values[0])), "")
    return ""
