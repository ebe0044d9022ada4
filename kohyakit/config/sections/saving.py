"""What is written: models, states, metadata, logs, uploads."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param, standing


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingConfig:
    """What is written: models, states, metadata, logs, uploads."""

    keep_best: bool = param(
        False,
        own=True,
        help="Keep the LoRA of the lowest measured loss as one more file, NAME-best, written anew whenever a "
        "measurement is the best so far.",
        tip="Only with validation_split or fixed_noises; a lower loss is not always the nicer picture.",
    )
    console_log_level: str | None = param(
        None,
        unset="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        blank=("",),
        help="Which messages are printed, from all (DEBUG) to the worst (CRITICAL); not given, INFO.",
        tip="DEBUG when something is wrong and nobody knows what.",
    )
    console_log_file: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="Write the messages to this file instead of the terminal.",
        tip="kohyakit keeps a log.txt in the run's folder anyway.",
    )
    console_log_simple: bool = param(
        False,
        help="Plain messages without colours and columns.",
        tip="On when the output goes to a file.",
    )
    metadata_title: str | None = param(
        None,
        blank=("",),
        help="Title in the file's model card (modelspec.title); not given, output_name.",
        tip="The name people shall see.",
    )
    metadata_author: str | None = param(
        None,
        blank=("",),
        help="Author in the file's model card (modelspec.author).",
        tip="Your name or handle, if you share the file.",
    )
    metadata_description: str | None = param(
        None,
        blank=("",),
        help="Description in the file's model card (modelspec.description).",
        tip="What it does and at which strength.",
    )
    metadata_license: str | None = param(
        None,
        blank=("",),
        help="Licence in the file's model card (modelspec.license).",
        tip="Mind the licence of the base model.",
    )
    metadata_tags: str | None = param(
        None,
        blank=("",),
        help="Keywords in the file's model card, parted by commas.",
        tip="style, character, concept …",
    )
    metadata_usage_hint: str | None = param(
        None,
        blank=("",),
        help="Hint for use in the file's model card (modelspec.usage_hint).",
        tip="Strength and a prompt that works.",
    )
    metadata_thumbnail: str | None = param(
        None,
        blank=("",),
        metavar="FILE|URL",
        help="A picture for the file's model card: a data URL, or a file that is turned into one. It makes the "
        "LoRA larger by the picture's size.",
        tip="A small JPEG.",
    )
    metadata_merged_from: str | None = param(
        None,
        blank=("",),
        help="For merged models: what they were made from, in the file's model card.",
        tip="Leave it out for a trained LoRA.",
    )
    metadata_trigger_phrase: str | None = param(
        None,
        blank=("",),
        help="Trigger words in the file's model card (modelspec.trigger_phrase).",
        tip="The word your captions start with.",
    )
    metadata_preprocessor: str | None = param(
        None,
        blank=("",),
        help="For control models: the preprocessor, in the file's model card.",
        tip="Leave it out for a LoRA.",
    )
    metadata_is_negative_embedding: str | None = param(
        None,
        blank=("",),
        help="For embeddings: true when it belongs in the negative prompt, in the file's model card.",
        tip="Leave it out for a LoRA.",
    )
    output_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="Folder for the LoRA files, states, samples and the runs' records; it is made when missing.",
        tip="The project's model/ folder.",
    )
    output_name: str | None = param(
        None,
        unset="last",
        blank=("",),
        help="Name of the LoRA file without ending; intermediate saves add -000001 or -step00000100.",
        tip="Short and telling; it is also what prompts will call the LoRA. dog-{version} becomes dog-1a, then dog-1b.",
    )
    huggingface_repo_id: str | None = param(
        None,
        blank=("",),
        metavar="OWNER/NAME",
        help="Hugging Face repository to which saves are uploaded.",
        tip="Leave it out to keep everything on your machine.",
    )
    huggingface_repo_type: str | None = param(
        None,
        blank=("",),
        help="Kind of that repository: model, dataset or space.",
        tip="model.",
    )
    huggingface_path_in_repo: str | None = param(
        None,
        blank=("",),
        help="Folder inside that repository under which the files are put.",
        tip="One folder per LoRA.",
    )
    huggingface_token: str | None = param(
        None,
        blank=("",),
        secret=True,
        help="Your Hugging Face access token for uploads. kohyakit never writes it into a record or log.",
        tip="Log in with the huggingface tools instead and leave it out of files.",
    )
    huggingface_repo_visibility: str | None = param(
        None,
        blank=("",),
        help="public or private, for a repository that does not exist yet; not given, private.",
        tip="private until you are sure.",
    )
    save_state_to_huggingface: bool = param(
        False,
        help="Upload training states as well as models.",
        tip="They are large; off.",
    )
    resume_from_huggingface: bool = param(
        False,
        help="Take resume as a place on Hugging Face (owner/name/path:revision:type) instead of a local folder.",
        tip="Off unless the states were uploaded.",
    )
    async_upload: bool = param(
        False,
        help="Upload in the background while training goes on.",
        tip="On with slow lines.",
    )
    save_precision: str | None = param(
        None,
        choices=("float", "fp16", "bf16"),
        blank=("",),
        help="Number format of the saved file: fp16 and bf16 take half of float. Not given, as trained.",
        tip="fp16: every program reads it.",
    )
    save_every_n_epochs: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Save the LoRA at the end of every so many epochs; the last epoch's file carries no number.",
        tip="1 or 2, so that you can choose the best save afterwards.",
    )
    save_from_epoch: int = param(
        1,
        ge=1,
        own=True,
        help="Save no epoch before this one, whatever save_every_n_epochs says.",
        tip="Half of the epochs, as nobody uses the first ones.",
    )
    save_at_epochs: tuple[int, ...] = param(
        (),
        ge=1,
        own=True,
        help="Save the LoRA at the end of these epochs, beside those of save_every_n_epochs; no save_last_n_epochs "
        "deletes them.",
        tip="`5 8 12` where you know which ones to compare.",
    )
    save_every_n_steps: int | None = param(
        None,
        ge=1,
        blank=("",),
        gui_blank=(0,),
        help="Save the LoRA every so many steps, whatever the epoch; the files end in -step00000250.",
        tip="250 to 500 when epochs are long.",
    )
    save_n_epoch_ratio: int | None = param(
        None,
        ge=0,
        blank=(0, ""),
        help="Save so often that at least this many files come out; replaces save_every_n_epochs.",
        tip="5 for five saves whatever the length.",
    )
    save_last_n_epochs: int | None = param(
        None,
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Keep only so many of the per-epoch saves and delete older ones.",
        tip="Leave it out: the best save is often not among the last.",
    )
    save_last_n_epochs_state: int | None = param(
        None,
        unset="=save_last_n_epochs",
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Keep only so many of the per-epoch training states; not given, as save_last_n_epochs.",
        tip="1: states are large, and only the newest is needed to resume.",
    )
    save_last_n_steps: int | None = param(
        None,
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Delete per-step saves older than this many steps (steps, not files).",
        tip="With save_every_n_steps 250, 1000 keeps about four.",
    )
    save_last_n_steps_state: int | None = param(
        None,
        unset="=save_last_n_steps",
        ge=0,
        blank=("",),
        gui_blank=(0,),
        help="Delete per-step training states older than this many steps; not given, as save_last_n_steps.",
        tip="As many as save_every_n_steps, to keep the newest one or two.",
    )
    save_state: bool = param(
        False,
        help="At each save also write the training state, from which resume goes on. Some hundred megabytes each.",
        tip="On for runs of hours, with save_last_n_epochs_state 1.",
    )
    save_state_on_train_end: bool = param(
        False,
        help="Write the training state once, when the run ends.",
        tip="On if you may want to train longer later.",
    )
    logging_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="Folder for TensorBoard logs, one subfolder a run. Not given, sd-scripts logs nothing; kohyakit's "
        "own trainer keeps them in the run's folder.",
        tip="The project's log/ folder.",
    )
    log_with: str | None = param(
        None,
        choices=("tensorboard", "wandb", "all"),
        blank=("",),
        help="Where losses and rates are logged; not given, TensorBoard where logging_dir is set.",
        tip="Leave it out; kohyakit dashboard reads TensorBoard logs.",
    )
    log_trackio: bool = param(
        False,
        own=True,
        help="Tell losses and rates to Trackio too, which keeps them on this machine; needs kohyakit[trackio].",
        tip="On if you like its pages (trackio show); kohyakit dashboard shows the same numbers.",
    )
    log_prefix: str | None = param(
        None,
        blank=("",),
        help="Text in front of the time in the log folder's name.",
        tip="The output name.",
    )
    log_tracker_name: str | None = param(
        None,
        blank=("",),
        help="Name of the project in the tracker; not given, the script's (network_train).",
        tip="For W&B.",
    )
    wandb_run_name: str | None = param(
        None,
        blank=("",),
        help="Name of the run on Weights & Biases; the GUI fills in output_name.",
        tip="The output name and version.",
    )
    log_tracker_config: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="A TOML with further settings for the tracker, handed to it as it is.",
        tip="For W&B.",
    )
    wandb_api_key: str | None = param(
        None,
        blank=("",),
        secret=True,
        help="Key to log in at Weights & Biases before training. kohyakit never writes it into a record or log.",
        tip="Log in once with wandb login and leave it out of files.",
    )
    log_config: bool = param(
        False,
        help="Write the settings into the log, keys and paths left out.",
        tip="On with W&B.",
    )
    output_config: bool = param(
        False,
        help="Write the settings to the file in config_file and stop; sd-scripts' command line only.",
        tip="kohyakit convert does this better.",
    )
    no_metadata: bool = param(
        False,
        help="Save the LoRA without the record of its training in the file.",
        tip="Off: tools and people need to know the base model, rank and trigger.",
    )
    save_model_as: str | None = param(
        None,
        unset="safetensors",
        choices=("ckpt", "pt", "safetensors", "diffusers", "diffusers_safetensors"),
        blank=("",),
        help="File format. LoRAs: safetensors (the default), ckpt or pt; embeddings: pt by default; full models: "
        "that of the base model by default, also diffusers.",
        tip="safetensors: safe to open and quick to load.",
    )

    @property
    def name(self) -> str:
        """output_name in force, for the last file and what goes with it; those on the way have names of their own."""
        return str(standing(self, "output_name"))

    @property
    def extension(self) -> str:
        """`.safetensors`, `.ckpt` or `.pt`."""
        return f".{standing(self, 'save_model_as')}"
