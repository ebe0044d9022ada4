"""CRC-32C against values that others published, and one byte at a time against many rows at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kohyakit.runs.logs.crc32c import crc32c, masked, masked_rows


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),  # the check value of the CRC catalogue
        (b"\x00" * 32, 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@given(st.integers(1, 60), st.integers(1, 40), st.randoms(use_true_random=False))
def test_rows_at_once_equal_one_at_a_time(length: int, count: int, random: object) -> None:
    rows = np.random.default_rng(random.getrandbits(32)).integers(0, 256, (count, length), dtype=np.uint8)  # type: ignore[attr-defined]
    assert masked_rows(rows).tolist() == [masked(crc32c(row.tobytes())) for row in rows]
