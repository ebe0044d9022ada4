"""Small models of each kind with random weights and a head that says known words, saved as their makers save them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "photo", "of", "church", "sky", "red", "door"]
CHAT = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "user", "assistant", "system", "what", "is", "this", "be", "brief",
        "a", "red", "door", "church", "photo", "of"]  # fmt: skip
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
           "image_size": 32, "patch_size": 16}  # fmt: skip
_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def _bert_tokenizer(folder: Path) -> tf.PreTrainedTokenizerFast:
    (folder / "vocab.txt").write_text("\n".join(BERT), encoding="utf-8")
    return tf.BertTokenizerFast.from_pretrained(folder, bos_token="[DEC]")  # as BLIP's own


def _word_tokenizer(**more: dict[str, str]) -> tf.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(CHAT)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], **more,
    )  # fmt: skip


def blip(folder: Path, says: str = "church") -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    text = {**_TEXT, "vocab_size": len(BERT), "encoder_hidden_size": 16, "bos_token_id": 5, "eos_token_id": 3,
            "sep_token_id": 3, "pad_token_id": 0, "projection_dim": 8}  # fmt: skip
    model = tf.BlipForConditionalGeneration(tf.BlipConfig(text_config=text, vision_config=_VISION, projection_dim=8))
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[BERT.index(says)] = 50
    model.save_pretrained(folder)
    pictures = tf.BlipImageProcessor(size={"height": 32, "width": 32})
    tf.BlipProcessor(pictures, _bert_tokenizer(folder)).save_pretrained(folder)
    return folder


def git(folder: Path, says: str = "church") -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    config = tf.GitConfig(vision_config=_VISION, vocab_size=len(BERT), **_TEXT, bos_token_id=2, eos_token_id=3,
                          pad_token_id=0)  # fmt: skip
    model = tf.GitForCausalLM(config)
    with torch.no_grad():
        model.output.bias[BERT.index(says)] = 50
    model.save_pretrained(folder)
    pictures = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tf.GitProcessor(pictures, _bert_tokenizer(folder)).save_pretrained(folder)
    return folder


def blip2(folder: Path, says: str = "church") -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    queries = {**_TEXT, "vocab_size": 20, "encoder_hidden_size": 16}
    words = {"model_type": "opt", "vocab_size": len(CHAT), "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 128, "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
    config = tf.Blip2Config(vision_config=_VISION, qformer_config=queries, text_config=words, num_query_tokens=4,
                            image_token_index=CHAT.index("<image>"))  # fmt: skip
    model = tf.Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        last = model.language_model.model.decoder.final_layer_norm
        last.weight.zero_()
        last.bias.fill_(1)
        model.language_model.get_output_embeddings().weight[CHAT.index(says)] = 1
    model.save_pretrained(folder)
    pictures = tf.BlipImageProcessor(size={"height": 32, "width": 32})
    tf.Blip2Processor(pictures, _word_tokenizer(), num_query_tokens=4).save_pretrained(folder)
    return folder


TEMPLATE = (
    "{% for one in messages %}{{ one.role }} {% for part in one.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def llava(folder: Path, *, template: str | None = TEMPLATE, sentence: str = "a red door") -> Path:
    """A Llama whose layers add nothing and whose head answers each word with the next of the sentence."""
    folder.mkdir()
    torch.manual_seed(0)
    many = len(CHAT)
    words = {"model_type": "llama", "vocab_size": many, "hidden_size": 32, "intermediate_size": 32,
             "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 1,
             "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False}  # fmt: skip
    vision = {"model_type": "clip_vision_model", **_VISION, "projection_dim": 8}
    config = tf.LlavaConfig(vision_config=vision, text_config=words, image_token_index=CHAT.index("<image>"),
                            vision_feature_layer=-1, vision_feature_select_strategy="default")  # fmt: skip
    model = tf.LlavaForConditionalGeneration(config)
    said = [CHAT.index(word) for word in ("assistant", *sentence.split(), "</s>")]
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.get_input_embeddings().weight.copy_(torch.eye(many, 32))
        head = model.get_output_embeddings().weight
        head.zero_()
        for word, following in pairwise(said):
            head[following, word] = 1
    model.save_pretrained(folder)
    pictures = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tf.LlavaProcessor(pictures, _word_tokenizer(), patch_size=16, vision_feature_select_strategy="default",
                      chat_template=template, num_additional_image_tokens=1).save_pretrained(folder)  # fmt: skip
    return folder


def florence(folder: Path, says: str = "church") -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    many = len(CHAT)
    vision = {"depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 4], "patch_padding": [3, 1],
              "patch_prenorm": [False, True], "embed_dim": [8, 16], "num_heads": [2, 2], "num_groups": [2, 2],
              "window_size": 4, "projection_dim": 16, "drop_path_rate": 0.0}  # fmt: skip
    words = {"model_type": "bart", "vocab_size": many, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
             "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
             "decoder_start_token_id": 2, "forced_eos_token_id": None}  # fmt: skip
    config = tf.Florence2Config(vision_config=vision, text_config=words, image_token_id=CHAT.index("<image>"))
    model = tf.Florence2ForConditionalGeneration(config)
    model.generation_config.update(decoder_start_token_id=2, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.no_grad():
        last = model.model.language_model.decoder.layers[-1].final_layer_norm
        last.weight.zero_()
        last.bias.fill_(1)
        model.get_input_embeddings().weight[CHAT.index(says)] = 1
    model.save_pretrained(folder)
    pictures = tf.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    pictures.image_seq_length = 5  # 2 x 2 patches and their mean
    tokenizer = _word_tokenizer(extra_special_tokens={"image_token": "<image>"})
    tf.Florence2Processor(pictures, tokenizer).save_pretrained(folder)
    return folder
