"""What is trained on: folders, captions, augmentation, caching."""

from __future__ import annotations

from dataclasses import dataclass

from kohyakit.config.param import param


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetConfig:
    """What is trained on: folders, captions, augmentation, caching."""

    train_data_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="The folder that holds the picture folders, each named <repeats>_<name> such as 10_sks dog; not the "
        "folder with the pictures itself. With in_json it is the picture folder.",
        tip="Point it at img/. Pictures that lie directly in it are not used.",
    )
    cache_info: bool = param(
        False,
        help="Keep sizes and captions in a JSON beside the pictures so that the next start is quicker.",
        tip="Only for thousands of pictures that no longer change; a changed caption is not noticed.",
    )
    shuffle_caption: bool = param(
        False,
        help="Shuffle the comma-separated tags of a caption anew each time it is used.",
        tip="On for tag lists, with keep_tokens 1 for the trigger word; off for sentences.",
    )
    caption_separator: str = param(
        ",",
        help="What parts the tags of a caption for shuffling and dropping; they are joined again with comma and blank.",
        tip="Leave the comma unless your captions use something else.",
    )
    caption_extension: str = param(
        ".caption",
        help="Ending of the caption files, which lie beside the pictures under the same name. sd-scripts looks "
        "for .caption, the GUI for .txt.",
        tip=".txt is what nearly everybody has; with the wrong ending every caption falls back to the folder's name.",
    )
    caption_extention: str | None = param(
        None,
        blank=("",),
        deprecated=True,
        help="The old misspelling of caption_extension; where given, it goes before it.",
        tip="Write caption_extension.",
    )
    keep_tokens: int = param(
        0,
        ge=0,
        help="The first so many tags of a caption stay in front: not shuffled, not dropped.",
        tip="1 when every caption starts with the trigger word and shuffle_caption is on.",
    )
    keep_tokens_separator: str = param(
        "",
        help="A mark inside captions, such as |||: what stands before it stays in front (and after a second one, "
        "at the end). It goes before keep_tokens.",
        tip="Use it when the fixed part has a different length in each caption.",
    )
    secondary_separator: str | None = param(
        None,
        blank=("",),
        help="A mark that keeps a group of tags together while shuffling; it becomes the caption separator afterwards.",
        tip="For example ;;; to keep red hat;;;blue coat side by side.",
    )
    enable_wildcard: bool = param(
        False,
        help="Read {a|b} in captions as a choice made anew each time, and use a random line of caption files that "
        "have several.",
        tip="For several wordings of one caption; write {{ and }} for real braces.",
    )
    caption_prefix: str | None = param(
        None,
        blank=("",),
        help="Text put in front of every caption, followed by a blank.",
        tip="A quick way to a trigger word; end it with a comma for tag captions.",
    )
    caption_suffix: str | None = param(
        None,
        blank=("",),
        help="Text put behind every caption, after a blank.",
        tip="For a style word that all pictures share.",
    )
    color_aug: bool = param(
        False,
        help="Change hue and colour of the pictures slightly at random. Latents cannot be cached with it.",
        tip="Rarely worth its cost; never for subjects whose colours matter.",
    )
    flip_aug: bool = param(
        False,
        help="Mirror each picture left to right half of the time.",
        tip="Doubles a small set of symmetrical things; off for faces with a parting, text, logos and places.",
    )
    face_crop_aug_range: str | None = param(
        None,
        blank=("",),
        metavar="LOW,HIGH",
        help="Crop around a detected face, its size multiplied by a random factor between these two numbers, such "
        "as 2.0,4.0. Needs files named by sd-scripts' face tool.",
        tip="For head-and-shoulder sets without buckets.",
    )
    random_crop: bool = param(
        False,
        help="Cut at a random place instead of the centre when a picture is larger than its bucket. Latents "
        "cannot be cached with it.",
        tip="Can help styles; for people the centre is safer.",
    )
    debug_dataset: bool = param(
        False,
        help="Show the pictures and captions that would be trained, then stop without training.",
        tip="kohyakit check and kohyakit audit say the same without a screen.",
    )
    resolution: str | None = param(
        None,
        blank=("",),
        gui=("max_resolution",),
        metavar="SIZE|W,H",
        help="Training size in pixels, one number for a square or width,height. With buckets it sets the area, "
        "not the shape.",
        tip="512 or 768 for SD 1.5, 768 for SD 2.x-v, 1024 for SDXL, Flux and SD3.",
    )
    cache_latents: bool = param(
        False,
        help="Run the VAE once per picture before training and keep the results in memory: faster, and the VAE "
        "then takes no memory. Excludes color_aug and random_crop.",
        tip="On, unless you need one of those two.",
    )
    vae_batch_size: int = param(
        1,
        ge=1,
        gui_blank=(0,),
        help="How many pictures the VAE encodes at once while caching latents.",
        tip="2 to 8 with memory to spare shortens the caching.",
    )
    cache_latents_to_disk: bool = param(
        False,
        help="Keep the cached latents as .npz files beside the pictures; switches cache_latents on.",
        tip="On for large sets and repeated runs; delete the files after changing pictures or resolution.",
    )
    skip_cache_check: bool = param(
        False,
        help="Trust cache files by their names instead of opening each one.",
        tip="Shortens the start with thousands of files that are known to be good.",
    )
    resize_interpolation: str | None = param(
        None,
        choices=("lanczos", "nearest", "bilinear", "linear", "bicubic", "cubic", "area"),
        blank=("",),
        help="How pictures are scaled to their bucket. Not given: area when shrinking, Lanczos when enlarging.",
        tip="Leave it; nearest suits pixel art.",
    )
    token_warmup_min: int = param(
        1,
        ge=0,
        help="With token warm-up, how many tags a caption has at the start.",
        tip="Only together with token_warmup_step.",
    )
    token_warmup_step: float = param(
        0.0,
        ge=0,
        help="Step at which captions have all their tags again, or a share of all steps when below 1; 0 is off.",
        tip="Rarely used; it lets the first tags settle first.",
    )
    alpha_mask: bool = param(
        False,
        help="Use the pictures' transparency as a mask: transparent parts do not count in the loss.",
        tip="For cut-out subjects in PNG files; otherwise transparency is simply dropped.",
    )
    dataset_class: str | None = param(
        None,
        blank=("",),
        metavar="PACKAGE.MODULE.CLASS",
        help="A data-set class of your own in place of the built-in ones.",
        tip="For programmers; sd-scripts only.",
    )
    caption_dropout_rate: float = param(
        0.0,
        ge=0,
        le=1,
        help="Chance, 0 to 1, that a picture is trained with an empty caption.",
        tip="0.05 to 0.1 loosens a style from its words; 0 for a subject with a trigger word.",
    )
    caption_dropout_every_n_epochs: int = param(
        0,
        ge=0,
        help="Every so many epochs all captions are empty for the whole epoch; 0 is never.",
        tip="The rate is gentler; use one of the two.",
    )
    caption_tag_dropout_rate: float = param(
        0.0,
        ge=0,
        le=1,
        help="Chance, 0 to 1, that each tag of a caption is left out; those kept by keep_tokens stay.",
        tip="0.1 keeps the LoRA from leaning on long tag lists.",
    )
    reg_data_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="The folder that holds the regularisation folders, named like the training ones (1_dog): pictures of "
        "the class in general, which keep the model from making every dog yours. They double the steps of an "
        "epoch.",
        tip="Optional for LoRAs; 100 to 200 pictures drawn by the base model itself.",
    )
    in_json: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="A metadata JSON with captions or tags, as sd-scripts' fine-tuning preparation writes it.",
        tip="Leave it out for folders with caption files.",
    )
    dataset_repeats: int = param(
        1,
        ge=1,
        help="How often each picture counts per epoch when in_json is used; folders take the number in their name.",
        tip="1.",
    )
    train_batch_size: int = param(
        1,
        ge=1,
        help="Pictures per step and device. Larger batches are steadier and faster per picture, and take more memory.",
        tip="1 or 2 on 8 GB, 4 or more on 24 GB; raise the learning rate with it, by about the square root.",
    )
    conditioning_data_dir: str | None = param(
        None,
        blank=("",),
        metavar="DIR",
        help="Folder with one mask or control picture for each training picture, under the same name and of the same "
        "size; a folder in it called as the picture's own goes first. sd-scripts reads it in a dataset TOML only.",
        tip="For masked_loss; white counts, black does not.",
    )
    dataset_config: str | None = param(
        None,
        blank=("",),
        metavar="FILE",
        help="A dataset TOML or JSON that describes folders, repeats and options by subset; train_data_dir, "
        "reg_data_dir and in_json are then ignored.",
        tip="Use it for several resolutions or different options by folder.",
    )
    validation_seed: int | None = param(
        None,
        unset="=seed",
        help="Seed for choosing the pictures held back for validation; not given, the seed of the training.",
        tip="Fix it so that runs are measured on the same pictures.",
    )
    validation_split: float = param(
        0.0,
        ge=0,
        le=1,
        help="Share of the pictures, 0 to 1, that are held back from training to measure the loss on; 0 is none.",
        tip="0.1 from about 50 pictures on; it shows when a LoRA starts to overfit.",
    )
    cache_text_encoder_outputs: bool = param(
        False,
        gui=(
            "sdxl_cache_text_encoder_outputs",
            "flux1_cache_text_encoder_outputs",
            "sd3_cache_text_encoder_outputs",
            "hunyuan_image_cache_text_encoder_outputs",
            "anima_cache_text_encoder_outputs",
            "lumina_cache_text_encoder_outputs",
        ),
        help="Run the text encoders once per caption and keep the results, which frees their memory. They cannot "
        "be trained then, and captions cannot be shuffled or dropped.",
        tip="On for SDXL with little memory, together with network_train_unet_only.",
    )
    cache_text_encoder_outputs_to_disk: bool = param(
        False,
        gui=(
            "flux1_cache_text_encoder_outputs_to_disk",
            "sd3_cache_text_encoder_outputs_to_disk",
            "hunyuan_image_cache_text_encoder_outputs_to_disk",
            "anima_cache_text_encoder_outputs_to_disk",
            "lumina_cache_text_encoder_outputs_to_disk",
        ),
        help="As cache_text_encoder_outputs, kept as .npz files beside the pictures; switches that one on.",
        tip="Delete the files after changing captions.",
    )
    text_encoder_batch_size: int | None = param(
        None,
        ge=1,
        gui=("sd3_text_encoder_batch_size",),
        help="Captions per batch while text encoder outputs are cached; not given, the batch size of the data set.",
        tip="Raise it to shorten caching, lower it when that runs out of memory.",
    )
    exif_orientation: str = param(
        "apply",
        choices=("apply", "ignore"),
        own=True,
        help="What to do with the turn mark that phones store in photos: apply it, so that people stand upright, "
        "or ignore it as sd-scripts does.",
        tip="Leave apply; ignore only to repeat an sd-scripts run exactly.",
    )
    cache_format: str = param(
        "kohyakit",
        choices=("kohyakit", "sd-scripts"),
        own=True,
        help="How caches on disk are written: under names that change with all that they depend on, or as sd-scripts' "
        "own .npz files beside the pictures, so that both tools share them. Those are read either way where they fit.",
        tip="sd-scripts when you train one set with both tools.",
    )
