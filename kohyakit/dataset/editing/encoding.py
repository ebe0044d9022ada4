"""In which encoding a caption was saved, told from its bytes; a training takes UTF-8 only.

Byte order marks and the shape of UTF-16 and UTF-32 are certain. Of the old encodings every one that can read the bytes
is tried, and the one whose reading looks most like a language is taken; where two look alike, both are named.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# as Python calls them -> as people do
NAMES = {
    "utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a byte order mark", "utf-16": "UTF-16", "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16", "utf-32": "UTF-32", "utf-32-le": "UTF-32", "utf-32-be": "UTF-32",
    "cp1252": "Windows-1252", "cp1251": "Windows-1251", "cp1250": "Windows-1250", "cp1254": "Windows-1254",
    "cp932": "Shift-JIS", "gb18030": "GB18030", "big5": "Big5", "cp949": "EUC-KR", "euc_jp": "EUC-JP",
}  # fmt: skip
_OLD = ("cp1252", "cp1251", "cp932", "gb18030", "big5", "cp949", "euc_jp", "cp1250", "cp1254")
_JAPANESE = ("cp932", "euc_jp")
_AHEAD = 0.12  # by how much the best reading must lead, see _likeness
# The commonest characters of Chinese, and those that describe pictures, in both scripts; Japanese shares many.
_COMMON = frozenset(
    "的一是不了在人有我他这個们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
    "多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情"
    "明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给"
    "这國說時會對著發後裡種經麼學現當沒動還進樣開實軍無與長機關點業將兩間問應戰頭體見產話內給紅藍綠黃黑白色女男孩狗貓猫貌眼睛"
    "发髮衣服帽站坐笑照片圖图像画畫風风景花树樹木山水海城市街夜光背脸臉裙穿戴短红蓝绿黄室房屋草狐狸馬马鳥鸟魚鱼車车上午雪雨雲云空"
    "猫犬赤青黒髪少写真顔着見立座目服景花樹木森空海町夜朝昼"
)
_COMMON_HANGUL = frozenset(
    "가각간갈감강개거건걸검것게겨결경계고곡공과관광교구국군그극근금기긴길김까꽃나난날남내너녀년노녹높누눈는능니다단달당대더데도독"
    "돌동되된두드든들듯등디따때또라란람랑래러런레려력로록료루르른를름리린림마만많말망매머먼면명모목못무문물미민바반발밝밤방배백버번"
    "별보복본부분불붉비빛빨뻐사산살삼상새색생서석선설성세소속손수순술쉬스시식신실심쓰씨아안앉알앞야약양어언얼없에여역연열염영예오온"
    "올와완왕외요용우운울웃원월위유육으은을음의이인일임입있자작잔장재저적전절점정제조족존종좋주준중지직진집짧차착찬책처천철첫청체"
    "초최추춤치친카커코크키타탁태터테토통투트특파판팔패편평포표푸풍프피필하학한할함합항해햇행향허현형호화환활황회후흐흑흰희히힌양이"
    "강아지고양말새곰늑대옷입치마바지머리카락얼굴"
)
_CONTROL, _CONTROL_BYTE = re.compile("[\x00-\x08\x0e-\x1f]"), re.compile(b"[\x00-\x08\x0e-\x1f]")
_PLAIN_SIGNS = frozenset("“”‘’–—…•€°´«»¿¡·№、。，「」『』（）！？：；・～ー《》【】")


@dataclass(frozen=True, slots=True)
class Encoding:
    """codec: as Python calls it. others: codecs whose reading looks as good; then a person must choose."""

    codec: str
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " or ".join(NAMES.get(codec, codec) for codec in (self.codec, *self.others))


def fault_of(data: bytes) -> str:
    """Why a caption's bytes are no UTF-8 text and what to do, "" when they are; UTF-8's byte order mark is no fault."""
    if data.isascii() and _CONTROL_BYTE.search(data) is None:
        return ""
    found = encoding_of(data)
    by_hand = "save it as UTF-8 with a text editor"
    if found is None:
        return f"is text in no encoding that is known here; {by_hand}"
    if found.codec in ("utf-8", "utf-8-sig"):
        return "holds NUL signs, which are no text; kohyakit repair takes them out" if b"\0" in data else ""
    cure = by_hand if found.others else "kohyakit repair saves it as UTF-8"
    return f"is {found.name}, not UTF-8{_first_bad(data)}; {cure}"


def _first_bad(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f" (byte {error.start + 1} is 0x{data[error.start]:02x})"
    return ""


def encoding_of(data: bytes) -> Encoding | None:
    """The encoding that the bytes were most likely saved in; None where none that is known here can read them."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return Encoding(codec) if _read(data, codec) is not None else None
    plain = _read(data, "utf-8")
    if plain is not None and not _controls(plain):
        return Encoding("utf-8")
    if wide := _wide(data, plain):
        return Encoding(wide)
    return Encoding("utf-8") if plain is not None else _old(data)


def _old(data: bytes) -> Encoding | None:
    """Of the encodings of one country or region the one that reads best."""
    readings = {codec: text for codec in _OLD if (text := _read(data, codec)) is not None}
    scores = {codec: _likeness(text, codec) for codec, text in readings.items()}
    best = max(scores, key=lambda codec: scores[codec], default="")
    if not best or scores[best] < 0:
        return None
    ahead = _AHEAD if scores[best] >= 0.5 else 2 * _AHEAD
    near = {readings[codec]: codec for codec in reversed(scores) if scores[best] - scores[codec] < ahead}
    near.pop(readings[best])
    return Encoding(best, tuple(reversed(near.values())))


def decoded(data: bytes, codec: str) -> str:
    """The text, without a byte order mark. Raises UnicodeDecodeError or LookupError."""
    return data.decode(codec).removeprefix("\ufeff")


def _read(data: bytes, codec: str) -> str | None:
    try:
        return decoded(data, codec)
    except UnicodeDecodeError:
        return None


def _wide(data: bytes, plain: str | None) -> str:
    """The UTF-32 or UTF-16 of bytes without a mark, "" for neither. plain: what they are read as UTF-8."""
    if len(data) % 4 == 0 and data.count(0) * 2 >= len(data) > 0:
        for codec in ("utf-32-le", "utf-32-be"):  # its highest byte is always 0: hardly by chance
            if (text := _read(data, codec)) is not None and "\0" not in text:
                return codec
    if len(data) % 2 or len(data) < 4:
        return ""
    readings = {codec: _read(data, codec) for codec in ("utf-16-le", "utf-16-be")}
    scores = {codec: _likeness(text) for codec, text in readings.items() if text and not _controls(text)}
    if not scores:
        return ""
    best = max(scores, key=lambda codec: scores[codec])
    if plain is not None:
        return best if scores[best] > 0.3 else ""
    old = (_likeness(text, codec) for codec in _OLD if (text := _read(data, codec)) is not None)
    return best if scores[best] >= 0.6 and scores[best] > max(old, default=0.0) + _AHEAD else ""


def _controls(text: str) -> bool:
    """Whether a text holds signs that nobody writes: NUL and its like."""
    return _CONTROL.search(text) is not None


def _likeness(text: str, codec: str = "") -> float:
    """How much a text looks like a language, at most 1, by its signs beyond ASCII (of a plain ASCII text 1)."""
    padded = f" {text} "
    marks = [
        _weight(sign, padded[at], padded[at + 2], codec)
        for at, sign in enumerate(text)
        if sign > "\x7f" or (sign < " " and sign not in "\r\n\t")
    ]
    return sum(marks) / len(marks) if marks else 1.0


def _weight(sign: str, before: str, after: str, codec: str) -> float:
    code = ord(sign)
    if sign in _PLAIN_SIGNS:
        return -0.5 if sign in "¿¡°«»" and before.isalpha() and after.isalpha() else 0.6
    if sign < "\xa0" or 0xE000 <= code <= 0xF8FF or sign == "\ufffd":
        return -2.0
    if 0x3041 <= code <= 0x30FF:  # kana
        return 0.3 if codec and codec not in _JAPANESE else 1.0  # the Chinese sets hold them too
    if 0xAC00 <= code <= 0xD7A3:
        return 1.0 if sign in _COMMON_HANGUL else 0.5 if _level_one(sign, "euc_kr", 0xB0, 0xC8) else 0.0
    if 0x4E00 <= code <= 0x9FFF:
        glued = 0.4 * any("A" <= one <= "z" for one in (before, after))
        if sign in _COMMON:
            return 1.0 - glued
        return 0.6 - glued if _level_one(sign, "gb2312", 0xB0, 0xD7) or _level_one(sign, "big5", 0xA4, 0xC6) else 0.1
    if 0xFF01 <= code <= 0xFF5E or 0x3000 <= code <= 0x303F:
        return 0.6
    if sign.isalpha() and code < 0x180:
        return _western(sign, before, after)
    if 0x400 <= code <= 0x45F:
        near = [one for one in (before, after) if one.isalpha()]
        if sign.isupper() and before.islower():
            return -0.5
        return 0.8 if near and all(0x400 <= ord(one) <= 0x45F for one in near) else 0.0
    return -0.5 if unicodedata.category(sign) in ("Cn", "Co", "Cs", "Cc") else -0.2


def _western(sign: str, before: str, after: str) -> float:
    """An accented letter stands in a word of plain letters; after a small one there is no capital."""
    if sign in "ªºƒ":
        return -0.5
    near = [one for one in (before, after) if one.isalpha()]
    plain = [one for one in near if one < "\x80"]
    if sign.isupper() and before.islower():
        return -0.5
    if not near:
        return 0.9 if sign in "àáéó" else 0.2  # the words of one letter
    if not plain:
        return 0.0
    return 0.9 if sign < "\u0100" and sign not in "ÐðÞþ" else 0.75


@lru_cache(maxsize=20_000)
def _level_one(sign: str, codec: str, first: int, last: int) -> bool:
    """Whether a sign stands among the common ones of a national set: its first byte says so."""
    try:
        return first <= sign.encode(codec)[0] <= last
    except UnicodeEncodeError:
        return False
