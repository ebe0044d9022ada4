"""Captions of old encodings recognised; where two readings look alike, both are named. The codecs are Python's own."""

from __future__ import annotations

import pytest

from kohyakit.dataset.editing.encoding import decoded, encoding_of, fault_of

WRITTEN = {
    "utf-8": ["", "a cat", "猫", "女孩, 长发", "café", "犬と猫", "кот", "a\u2028b", "🐈 cat"],
    "utf-8-sig": ["a cat", "猫"],
    "utf-16": ["a cat", "猫", ""],
    "utf-16-le": ["a cat", "女孩, 长发", "犬と猫が庭で遊んでいる", "café", "кот", "고양이 한 마리", "1girl, 長い髪"],
    "utf-16-be": ["a cat", "女孩, 长发", "犬と猫が庭で遊んでいる", "café", "кот"],
    "utf-32": ["a cat", "猫"],
    "utf-32-le": ["a cat", "猫", "女孩, 长发"],
    "utf-32-be": ["a cat", "女孩"],
    "cp1252": [
        "café dog",
        "grün",
        "El Niño, señor con sombrero",
        "“a dog” – sitting",
        "München, schöne Häuser",
        "50°, fog",
    ],
    "cp1251": ["девушка в парке", "красный мяч, собака", "кот"],
    "cp932": ["1girl, 長い髪, 青い目", "女の子、赤いドレス、笑顔", "猫", "桜の木の下に立つ少女", "東京タワー, 夜景"],
    "gb18030": ["女孩, 长发, 蓝色眼睛", "一只狗坐在草地上", "红色汽车停在街道上", "戴帽子的男人，微笑", "山水画，风景"],
    "big5": ["女孩, 長髮, 藍色眼睛", "一隻狗坐在草地上", "紅色汽車停在街道上", "戴帽子的男人，微笑"],
    "cp949": ["빨간 공을 가진 강아지", "소녀, 긴 머리, 파란 눈", "고양이", "공원에서 웃고 있는 여자"],
    "euc_jp": ["1girl, 長い髪, 青い目", "女の子、赤いドレス、笑顔", "犬と猫が庭で遊んでいる"],
}


@pytest.mark.parametrize(("codec", "text"), [(codec, text) for codec, texts in WRITTEN.items() for text in texts])
def test_what_was_written_is_read_again(codec: str, text: str) -> None:
    data = text.encode(codec)
    found = encoding_of(data)
    assert found is not None
    assert (decoded(data, found.codec), found.others) == (text, ())
    assert bool(fault_of(data)) == (codec not in ("utf-8", "utf-8-sig"))


@pytest.mark.parametrize(
    ("codec", "text"), [("cp1250", "dziewczyna w różowej sukience"), ("cp1254", "güneş batarken kız")]
)
def test_what_cannot_be_told_is_either_right_or_named_as_open(codec: str, text: str) -> None:
    found = encoding_of(text.encode(codec))
    assert found is not None
    assert codec in (found.codec, *found.others)
    if found.others:
        assert " or " in found.name
        assert "text editor" in fault_of(text.encode(codec))


@pytest.mark.parametrize("data", [b"\x81\xff\x00\x9d\x8f\xff", b"\xff\xfe\x00", b"a\0cat\0\0", b"\xef\xbb\xbf\xff"])
def test_what_is_no_text_is_said_to_be_none(data: bytes) -> None:
    assert fault_of(data)
