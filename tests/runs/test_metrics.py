"""Event files as real writers leave them, whole and damaged, against TensorBoard's own reader."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kohyakit.errors import RunError
from kohyakit.runs.logs import event_file
from kohyakit.runs.logs.crc32c import crc32c, masked
from kohyakit.runs.logs.metrics import ScalarLog, continued, joined, read_scalars, summarize

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
TAGS = ("loss/current", "loss/average", "lr/textencoder", "lr/unet")


@pytest.fixture(scope="module")
def summary_writer() -> Any:
    return pytest.importorskip("torch.utils.tensorboard").SummaryWriter


def theirs(folder: Path, **options: Any) -> dict[str, list[tuple[float, int, float]]]:
    """TensorBoard's points: tag -> [(wall time, step, value)]."""
    log = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}, **options)
    log.Reload()
    return {tag: [(e.wall_time, e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def ours(frame: pd.DataFrame) -> dict[str, list[tuple[float, int, float]]]:
    return {
        str(tag): list(lines[["wall_time", "step", "value"]].itertuples(index=False, name=None))
        for tag, lines in frame.groupby("tag", observed=True, sort=False)
    }


def record(data: bytes) -> bytes:
    """A TFRecord frame around an event."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def point(tag: str, step: int, value: float, wall_time: float = 1.7e9) -> bytes:
    """An event with one simple_value, made by TensorBoard's own protocol buffers."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return record(Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("*tfevents*")
    return file


def new_file(folder: Path, data: bytes, name: str = "events.out.tfevents.1700000000.host.1.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def test_every_point_equals_tensorboards(tmp_path: Path, summary_writer: Any) -> None:
    writer = summary_writer(str(tmp_path))
    rng = np.random.default_rng(0)
    for step in [*range(300), 16383, 16384, 2_097_151, 2_097_152, 2**31 - 1, 2**31, 2**40]:
        for tag in (*TAGS, "t", "a very long tag " * 12, "größe/längs"):
            writer.add_scalar(tag, float(rng.normal()), step)
    for value in (0.0, -0.0, math.inf, -math.inf, 1e-45, 3.4e38):
        writer.add_scalar("odd values", value, 1)
    writer.close()
    frame = read_scalars(tmp_path)
    assert ours(frame) == theirs(tmp_path)
    assert list(frame.columns) == ["tag", "step", "value", "wall_time"]
    assert [str(dtype) for dtype in frame.dtypes] == ["category", "int64", "float64", "float64"]
    assert frame.attrs["problems"] == ()


def test_not_a_number_is_kept(tmp_path: Path, summary_writer: Any) -> None:
    writer = summary_writer(str(tmp_path))
    writer.add_scalar("loss", math.nan, 4)
    writer.close()
    (value,) = read_scalars(tmp_path)["value"]
    assert math.isnan(value)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["basic", "adafactor", "locon", "samples_ddim"])
def test_logs_of_sd_scripts(goldens: Path, case: str) -> None:
    folder = goldens / "training" / case
    recorded = json.loads((folder / "scalars.json").read_text(encoding="utf-8"))
    for name, lines in recorded.items():
        frame = read_scalars(folder / name)
        found = {tag: [[step, value] for _, step, value in points] for tag, points in ours(frame).items()}
        assert found == lines
        assert ours(frame) == theirs(folder / name)


def test_pictures_histograms_and_texts_beside_the_scalars(tmp_path: Path, summary_writer: Any) -> None:
    writer = summary_writer(str(tmp_path))
    rng = np.random.default_rng(1)
    for step in range(40):
        writer.add_scalar("loss/current", step / 7, step)
        writer.add_text("prompt", "a dog " * step, step)
        writer.add_histogram("weights", rng.normal(size=50), step)
        if step % 10 == 0:
            writer.add_image("sample", rng.integers(0, 256, (3, 400, 400), dtype=np.uint8), step)
    writer.add_hparams({"network_dim": 16}, {"hparam/loss": 0.25})
    writer.close()
    frame = read_scalars(tmp_path)
    assert ours(frame[frame["run"] == "."]) == theirs(tmp_path) | {}
    assert set(frame["tag"].unique()) == {"loss/current", "hparam/loss"}


def test_large_records_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(height=1, width=1, encoded_image_string=b"\x89PNG" + bytes(1_200_000))
    data = b""
    for step in range(6):
        data += b"".join(point("loss", 10 * step + i, 1.5) for i in range(10))
        both = Summary(value=[
            Summary.Value(tag="before", simple_value=step), Summary.Value(tag="sample", image=image),
            Summary.Value(tag="after", simple_value=-step),
        ])  # fmt: skip
        data += record(Event(wall_time=1.0, step=step, summary=both).SerializeToString())
    file = new_file(tmp_path, data)
    read = 0
    opened = Path.open

    def counting(self: Path, *args: Any, **options: Any) -> Any:
        handle = opened(self, *args, **options)
        if self == file:
            real = handle.read

            class Handle:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: object) -> None:
                    handle.close()

                def __getattr__(self, name: str) -> Any:
                    return getattr(handle, name)

                def read(self, size: int) -> bytes:
                    nonlocal read
                    read += size
                    return real(size)

            return Handle()
        return handle

    monkeypatch.setattr(Path, "open", counting)
    frame = read_scalars(tmp_path, cache=False)
    assert read < len(data) / 10
    assert ours(frame) == theirs(tmp_path)


def test_tensor_valued_scalars(tmp_path: Path, summary_writer: Any) -> None:
    writer = summary_writer(str(tmp_path))
    for step in range(30):
        writer.add_scalar("new style", step * 0.3, step, new_style=True)
        writer.add_scalar("old style", step * 0.3, step)
    writer.close()
    frame = read_scalars(tmp_path)
    log = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0, "scalars": 0})
    log.Reload()
    from tensorboard.util import tensor_util

    expected = [
        (e.wall_time, e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in log.Tensors("new style")
    ]
    assert ours(frame)["new style"] == expected
    assert frame[frame["tag"] == "old style"]["value"].tolist() == frame[frame["tag"] == "new style"]["value"].tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"])
def test_tensors_of_every_type(tmp_path: Path, dtype: str) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.util import tensor_util

    def event(tag: str, tensor: Any, plugin: str) -> bytes:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata if plugin else None)
        return record(Event(wall_time=2.0, step=5, summary=Summary(value=[value])).SerializeToString())

    number = np.array(1 if dtype == "bool" else 7, dtype=dtype)
    proto = tensor_util.make_tensor_proto(number)
    raw = type(proto)()
    raw.CopyFrom(proto)
    for field in ("half_val", "float_val", "double_val", "int_val", "int64_val", "bool_val"):
        raw.ClearField(field)
    raw.tensor_content = number.tobytes()
    many = tensor_util.make_tensor_proto(np.arange(3, dtype="float32"))
    data = event("typed", proto, "scalars") + event("raw", raw, "scalars") + event("typed", proto, "")
    data += event("other", proto, "hparams") + event("many", many, "scalars")
    new_file(tmp_path, data)
    frame = read_scalars(tmp_path)
    assert {tag: [v for *_, v in points] for tag, points in ours(frame).items()} == {
        "typed": [float(number), float(number)],
        "raw": [float(number)],
    }


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_truncated_last_record(tmp_path: Path, cut: int) -> None:
    whole = b"".join(point("loss", step, step / 3) for step in range(20))
    new_file(tmp_path, whole[:-cut])
    frame = read_scalars(tmp_path)
    assert ours(frame) == theirs(tmp_path)
    (problem,) = frame.attrs["problems"]
    assert "ends within a record" in str(problem)
    assert problem.severity == "hint"


def test_a_log_that_is_being_written(tmp_path: Path) -> None:
    whole = b"".join(point(TAGS[step % 4], step // 4, step / 3) for step in range(4000))
    file = new_file(tmp_path, b"")
    log = ScalarLog(tmp_path, cache=False)
    seen = []
    with file.open("ab", buffering=0) as out:
        for at in range(0, len(whole), 7919):
            out.write(whole[at : at + 7919])
            log.refresh()
            seen.append(len(log.frame()))
    assert seen == sorted(seen)
    assert ours(log.frame()) == theirs(tmp_path)
    assert log.problems == ()


def test_only_the_tail_is_read_on_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = new_file(tmp_path, b"".join(point("loss", step, 1.0) for step in range(5000)))
    log = ScalarLog(tmp_path, cache=False)
    log.refresh()
    sizes: list[int] = []
    real = event_file.EventFile._walk
    monkeypatch.setattr(
        event_file.EventFile, "_walk", lambda self, data: (sizes.append(len(data)), real(self, data))[1]
    )
    assert log.refresh() is False
    with file.open("ab") as out:
        out.write(point("loss", 5000, 2.0))
    assert log.refresh() is True
    assert sum(sizes) == len(point("loss", 5000, 2.0))
    assert log.frame()["value"].iloc[-1] == 2.0


def test_a_file_replaced_by_another_is_read_anew(tmp_path: Path) -> None:
    file = new_file(tmp_path, b"".join(point("loss", step, 1.0) for step in range(50)))
    log = ScalarLog(tmp_path, cache=False)
    log.refresh()
    file.write_bytes(b"".join(point("loss", step, 2.0) for step in range(60)))
    log.refresh()
    assert log.frame()["value"].tolist() == [2.0] * 60
    file.write_bytes(b"".join(point("loss", step, 3.0) for step in range(5)))
    log.refresh()
    assert log.frame()["value"].tolist() == [3.0] * 5
    file.unlink()
    assert log.refresh() is True
    assert len(log.frame()) == 0


def test_a_flipped_bit_costs_one_record_and_is_named(tmp_path: Path) -> None:
    one = len(point("loss", 1, 0.5))
    data = bytearray(b"".join(point("loss", step, 0.5) for step in range(1, 101)))
    data[one * 40 + 30] ^= 0x10
    new_file(tmp_path, bytes(data))
    frame = read_scalars(tmp_path)
    assert frame["step"].tolist() == [*range(1, 41), *range(42, 101)]
    (problem,) = frame.attrs["problems"]
    assert f"byte {one * 40}" in problem.what
    assert problem.severity == "warning"


@pytest.mark.parametrize("junk", [bytes(4096), b"\xff" * 4096, b"<html>" * 700])
def test_junk_after_good_records_is_named_not_raised(tmp_path: Path, junk: bytes) -> None:
    good = b"".join(point("loss", step, 0.5) for step in range(10))
    new_file(tmp_path, good + junk)
    frame = read_scalars(tmp_path)
    assert len(frame) == 10
    (problem,) = frame.attrs["problems"]
    assert f"damaged from byte {len(good)}" in problem.what


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    new_file(tmp_path, b"hello, I am not an event file at all")
    frame = read_scalars(tmp_path)
    assert len(frame) == 0
    assert "damaged from byte 0" in frame.attrs["problems"][0].what


def test_a_well_framed_record_that_is_no_event(tmp_path: Path) -> None:
    new_file(
        tmp_path, point("loss", 1, 1.0) + record(b"\x07" * 20) + record(b"\x2a\xff\xff\xff") + point("loss", 2, 2.0)
    )
    frame = read_scalars(tmp_path)
    assert frame["value"].tolist() == [1.0, 2.0]
    assert [problem.name for problem in frame.attrs["problems"]] == ["damaged_record"] * 2


def test_several_files_of_one_run_and_steps_that_go_back(tmp_path: Path) -> None:
    new_file(
        tmp_path, b"".join(point("loss", step, 1.0) for step in range(1, 151)), "events.out.tfevents.1700000000.h.1"
    )
    new_file(
        tmp_path, b"".join(point("loss", step, 2.0) for step in range(101, 201)), "events.out.tfevents.1700009999.h.2"
    )
    frame = read_scalars(tmp_path)
    assert len(frame) == 250  # both lines are kept
    assert "run" not in frame.columns
    line = continued(frame)
    assert line["step"].tolist() == list(range(1, 201))
    assert line["value"].tolist() == [1.0] * 100 + [2.0] * 100


def test_the_continued_line_is_tensorboards(tmp_path: Path) -> None:
    """Without a file version TensorBoard itself drops what a restart repeats."""
    steps = [*range(1, 40), *range(20, 60), *range(50, 90), 90, 90, *range(5, 30)]
    new_file(tmp_path, b"".join(point("loss", step, i) for i, step in enumerate(steps)))
    expected = theirs(tmp_path, purge_orphaned_data=True)["loss"]
    assert ours(continued(read_scalars(tmp_path)))["loss"] == expected


def test_points_at_one_step_are_all_kept(tmp_path: Path) -> None:
    """sd-scripts logs each micro-batch: with accumulation a step comes more than once."""
    new_file(tmp_path, b"".join(point("loss", i // 2, i) for i in range(20)))
    frame = read_scalars(tmp_path)
    assert len(continued(frame)) == len(frame) == 20


def test_epoch_lines_do_not_cut_step_lines(tmp_path: Path) -> None:
    data = b""
    for epoch in range(1, 4):
        data += b"".join(point("loss/current", (epoch - 1) * 10 + i, 0.1) for i in range(1, 11))
        data += point("loss/epoch_average", epoch, 0.1)
    new_file(tmp_path, data)
    assert len(continued(read_scalars(tmp_path))) == 33


def test_several_runs_below_one_folder_are_told_apart(tmp_path: Path) -> None:
    for number in range(3):
        new_file(
            tmp_path / f"2026030{number}" / "network_train", point("loss", 1, number) + point(f"t{number}", 1, 9.0)
        )
    frame = read_scalars(tmp_path)
    assert frame["run"].tolist() == [f"2026030{n}/network_train" for n in (0, 0, 1, 1, 2, 2)]
    assert frame["value"].tolist() == [0, 9, 1, 9, 2, 9]
    assert frame["tag"].tolist() == ["loss", "t0", "loss", "t1", "loss", "t2"]
    assert len(continued(frame)) == 6


def test_more_points_than_bytes_would_suggest(tmp_path: Path) -> None:
    """One event with hundreds of values: fewer bytes a point than any single record has."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag="t", simple_value=i) for i in range(300)]
    new_file(tmp_path, record(Event(wall_time=1.0, step=3, summary=Summary(value=values)).SerializeToString()))
    assert ours(read_scalars(tmp_path)) == theirs(tmp_path)


def test_hundreds_of_tags_of_one_length(tmp_path: Path) -> None:
    new_file(tmp_path, b"".join(point(f"layer{i % 300:03}", i // 300, i) for i in range(900)))
    assert ours(read_scalars(tmp_path)) == theirs(tmp_path)


class TestCache:
    @pytest.fixture(autouse=True)
    def worth_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kohyakit.runs.logs.scalar_cache._WORTH_BYTES", 0)

    def test_a_warm_read_equals_the_cold_one_and_opens_no_more_than_the_mark(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new_file(tmp_path / "log", b"".join(point(TAGS[i % 4], i // 4, i) for i in range(400)))
        cold = read_scalars(tmp_path / "log")
        monkeypatch.setattr(event_file.EventFile, "_walk", lambda *_: pytest.fail("the log was read again"))
        pd.testing.assert_frame_equal(read_scalars(tmp_path / "log"), cold)

    def test_a_log_that_grew_is_read_on(self, tmp_path: Path) -> None:
        file = new_file(tmp_path / "log", b"".join(point("loss", i, i) for i in range(100)))
        read_scalars(tmp_path / "log")
        with file.open("ab") as out:
            out.write(b"".join(point("other", i, i) for i in range(100, 103)))
        assert ours(read_scalars(tmp_path / "log")) == theirs(tmp_path / "log")

    def test_a_log_of_the_same_size_with_other_numbers_is_noticed(self, tmp_path: Path) -> None:
        file = new_file(tmp_path / "log", b"".join(point("loss", i, 1.0) for i in range(100)))
        read_scalars(tmp_path / "log")
        file.write_bytes(point("loss", 0, 5.0) + file.read_bytes()[len(point("loss", 0, 5.0)) :])
        os.utime(file, (time.time() + 5, time.time() + 5))
        assert read_scalars(tmp_path / "log")["value"].iloc[0] == 5.0

    @pytest.mark.parametrize("text", [b"", b"PK", b"no archive"])
    def test_a_broken_cache_costs_only_time(self, tmp_path: Path, own_cache: Path, text: bytes) -> None:
        new_file(tmp_path / "log", b"".join(point("loss", i, 1.0) for i in range(100)))
        cold = read_scalars(tmp_path / "log")
        (kept,) = (own_cache / "scalars").glob("*.npz")
        kept.write_bytes(text)
        pd.testing.assert_frame_equal(read_scalars(tmp_path / "log"), cold)

    def test_problems_are_kept_too(self, tmp_path: Path) -> None:
        new_file(tmp_path / "log", b"".join(point("loss", i, 1.0) for i in range(50)) + b"junk" * 20)
        cold, warm = read_scalars(tmp_path / "log"), read_scalars(tmp_path / "log")
        assert cold.attrs["problems"] == warm.attrs["problems"] != ()

    def test_the_log_folder_gets_no_file(self, tmp_path: Path) -> None:
        file = new_file(tmp_path / "log", b"".join(point("loss", i, 1.0) for i in range(50)))
        read_scalars(tmp_path / "log")
        assert list((tmp_path / "log").iterdir()) == [file]

    def test_what_nobody_used_for_a_month_goes(self, tmp_path: Path, own_cache: Path) -> None:
        from kohyakit.runs.logs.scalar_cache import tidy

        for number in range(2):
            new_file(tmp_path / f"log{number}", point("loss", 1, 1.0))
            read_scalars(tmp_path / f"log{number}")
        old, new = sorted((own_cache / "scalars").glob("*.npz"))
        os.utime(old, (time.time() - 40 * 86400,) * 2)
        assert tidy() == 1
        assert list((own_cache / "scalars").glob("*.npz")) == [new]


def test_a_missing_folder_is_one_sentence_and_an_empty_one_an_empty_frame(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        read_scalars(tmp_path / "nothing")
    frame = read_scalars(tmp_path)
    assert len(frame) == 0
    assert list(frame.columns) == ["tag", "step", "value", "wall_time"]


def test_a_line_in_numbers(tmp_path: Path) -> None:
    values = [0.5, 0.3, math.nan, 0.2, 0.4, math.inf]
    new_file(tmp_path, b"".join(point("loss", 10 * i, v) for i, v in enumerate(values)) + point("gone", 1, math.nan))
    found = summarize(read_scalars(tmp_path))
    loss = found["loss"]
    assert (loss.count, loss.bad, loss.last_step) == (6, 2, 50)
    assert (loss.first, loss.last) == pytest.approx((0.5, 0.4))
    assert (loss.min, loss.max, loss.mean) == pytest.approx((0.2, 0.5, 0.35))
    assert (loss.min_step, loss.max_step) == (30, 0)
    assert math.isnan(found["gone"].last)
    assert found["gone"].bad == 1


tags = st.sampled_from(["loss/current", "lr/unet", "x", "ä" * 70, "long " * 40])
odd_events = st.sampled_from(["file_version", "text", "histogram", "empty", "session"])
points = st.tuples(tags, st.integers(-5, 2**40), st.floats(width=32, allow_nan=False))
events = st.one_of(st.lists(points, min_size=1, max_size=3), odd_events)


def written(event: Any) -> bytes:
    """A list of points in one event, or an event that holds no scalar."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
    from tensorboard.util.tensor_util import make_tensor_proto

    if isinstance(event, list):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, _, value in event]
        whole = Event(wall_time=1.7e9, step=event[0][1], summary=Summary(value=values))
    elif event == "file_version":
        whole = Event(wall_time=1.0, file_version="brain.Event:2")
    elif event == "session":
        whole = Event(wall_time=1.0, session_log=SessionLog(status=SessionLog.STOP))
    elif event == "histogram":
        whole = Event(wall_time=1.0, step=3, summary=Summary(value=[Summary.Value(tag="h", histo=HistogramProto())]))
    elif event == "text":
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        value = Summary.Value(tag="t", tensor=make_tensor_proto(b"words"), metadata=metadata)
        whole = Event(wall_time=1.0, step=3, summary=Summary(value=[value]))
    else:
        whole = Event()
    return record(whole.SerializeToString())


@given(st.lists(events, max_size=40))
def test_any_mixture_of_events_reads_as_tensorboard_reads_it(
    tmp_path_factory: pytest.TempPathFactory, mixture: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("mixture")
    new_file(folder, written("file_version") + b"".join(map(written, mixture)))
    frame = read_scalars(folder, cache=False)
    assert ours(frame) == theirs(folder, purge_orphaned_data=False)
    assert frame.attrs["problems"] == ()


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), min_size=1, max_size=4))
@settings(max_examples=3 * settings().max_examples // 2)
def test_no_damage_raises_or_invents_a_number(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    """Whatever bytes are changed: what is read was written, and the damage is named."""
    whole = b"".join(point(TAGS[i % 4], i // 4, i / 3) for i in range(60))
    data = bytearray(whole)
    for at, bits in flips:
        data[at % len(data)] ^= bits
    folder = tmp_path_factory.mktemp("damage")
    new_file(folder, bytes(data))
    frame = read_scalars(folder, cache=False)
    real = {(TAGS[i % 4], i // 4, float(np.float32(i / 3))) for i in range(60)}
    assert set(frame[["tag", "step", "value"]].itertuples(index=False, name=None)) <= real
    if bytes(data) != whole:
        assert frame.attrs["problems"]


def test_steps_below_zero_as_tensorboard(tmp_path: Path) -> None:
    new_file(tmp_path, point("loss", -1, 1.0) + point("loss", -(2**40), 2.0))
    assert ours(read_scalars(tmp_path)) == theirs(tmp_path, purge_orphaned_data=False)


def version() -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    return record(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())


def start(step: int, wall_time: float = 1.7e9, **more: Any) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    log = SessionLog(status=more.pop("status", SessionLog.START), msg="goes on")
    return record(Event(wall_time=wall_time, step=step, session_log=log).SerializeToString())


@given(
    st.lists(
        st.lists(
            st.one_of(
                st.tuples(st.just("point"), st.sampled_from(["loss", "val"]), st.integers(0, 40)),
                st.tuples(st.sampled_from(["start", "stop"]), st.just(""), st.integers(0, 200)),
            ),
            max_size=25,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_restarts_are_those_of_tensorboard(tmp_path_factory: pytest.TempPathFactory, files: list) -> None:
    """Steps rise until a writer says where it goes on; the next file goes on from there."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    folder = tmp_path_factory.mktemp("log")
    at, wall = 0, 1.7e9
    for number, events in enumerate(files):
        data = version()
        for kind, tag, value in events:
            wall += 1
            at = at + value if kind == "point" else value if kind == "start" else at
            data += (
                point(tag, at, value, wall)
                if kind == "point"
                else start(value, wall, status=SessionLog.START if kind == "start" else SessionLog.STOP)
            )
        new_file(folder, data, f"events.out.tfevents.{number}.host")
    expected = {tag: line for tag, line in theirs(folder).items() if line}
    frame = read_scalars(folder, cache=False)
    assert ours(continued(frame)) == expected
    assert ours(continued(continued(frame))) == expected
    assert ours(continued(frame[frame["tag"] == "val"])) == {
        tag: line for tag, line in expected.items() if tag == "val"
    }


def test_a_restart_is_heard_while_a_log_grows_and_from_the_cache(tmp_path: Path) -> None:
    points = b"".join(point("loss", step, 1.0, 1.7e9 + step) for step in range(10_000))
    file = new_file(tmp_path, version() + points)
    log = ScalarLog(tmp_path)
    log.refresh()
    assert len(continued(log.frame())) == 10_000
    with file.open("ab") as stream:
        stream.write(start(5_000, 1.8e9))
    assert log.refresh()
    assert len(continued(log.frame())) == 5_000
    read_scalars(tmp_path)
    again = read_scalars(tmp_path)
    assert again.attrs["restarts"] == ((10_000, 5_000, "."),)
    assert len(continued(again)) == len(theirs(tmp_path)["loss"]) == 5_000


def test_two_writers_in_one_folder_lose_no_line(tmp_path: Path) -> None:
    for writer in range(2):
        data = version() + b"".join(point("loss", i, 100 * writer + i, 1.7e9 + i + writer / 2) for i in range(5))
        new_file(tmp_path, data, f"events.out.tfevents.17.host.{writer}")
    expected = theirs(tmp_path)
    assert len(expected["loss"]) == 10
    assert ours(continued(read_scalars(tmp_path))) == expected
    # a third goes on from both
    data = version() + b"".join(point("loss", i, -i, 1.8e9 + i) for i in range(3, 6))
    new_file(tmp_path, data, "events.out.tfevents.18.host.0")
    line = continued(read_scalars(tmp_path))
    assert line["value"].tolist() == [0, 1, 2, 100, 101, 102, -3, -4, -5]


def test_a_copy_of_a_log_beside_it_is_the_same_line(tmp_path: Path) -> None:
    data = version() + b"".join(point("loss", i, i / 7, 1.7e9 + i) for i in range(9))
    new_file(tmp_path, data, "events.out.tfevents.17.host.0")
    new_file(tmp_path, data, "events.out.tfevents.17.host.0.sync-conflict-20260301")
    frame = read_scalars(tmp_path)
    assert len(frame) == 18
    assert continued(frame)["step"].tolist() == list(range(9))


def test_only_files_are_logs_and_packed_ones_are_named(tmp_path: Path) -> None:
    import bz2
    import gzip

    data = version() + point("loss", 1, 0.5)
    (tmp_path / "my_tfevents_backup").mkdir()
    new_file(tmp_path, gzip.compress(data), "events.out.tfevents.1.host.gz")
    new_file(tmp_path, bz2.compress(data), "events.out.tfevents.2.host.bz2")
    new_file(tmp_path, gzip.compress(data), "events.out.tfevents.3.host")
    new_file(tmp_path, data[:30], "events.out.tfevents.4.host.tmp")
    new_file(tmp_path / "my_tfevents_backup", data, "events.out.tfevents.5.host")
    frame = read_scalars(tmp_path)
    assert len(frame) == 1
    told = {problem.where.removeprefix("events.out.tfevents."): problem.what for problem in frame.attrs["problems"]}
    assert set(told) == {"1.host.gz", "2.host.bz2", "3.host", "4.host.tmp"}
    assert all("compressed" in told[name] for name in ("1.host.gz", "2.host.bz2", "3.host"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_linked_folders_are_read_as_tensorboard_reads_them(tmp_path: Path) -> None:
    new_file(tmp_path / "disk" / "run", version() + point("loss", 1, 0.5))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "logs" / "loop").symlink_to(tmp_path / "logs")
    os.mkfifo(tmp_path / "logs" / "events.out.tfevents.pipe")
    frame = read_scalars(tmp_path / "logs")
    assert len(frame) == 1
    assert [problem.what for problem in frame.attrs["problems"]] == ["is no regular file and was not read"]


def test_the_folders_of_a_resumed_run_are_one_line_whatever_the_clocks_say(tmp_path: Path) -> None:
    new_file(tmp_path / "a", b"".join(point("loss", step, 1.0, 1.8e9 + step) for step in range(100)))
    new_file(tmp_path / "b", b"".join(point("loss", step, 2.0, 1.7e9 + step) for step in range(80, 120)))
    new_file(tmp_path / "c", b"".join(point("val", step, 3.0, 1.7e9 + step) for step in range(3)))
    frame = read_scalars(tmp_path)
    assert len(continued(frame)) == 143  # three runs side by side
    line = joined(frame)
    assert list(line.columns) == ["tag", "step", "value", "wall_time"]
    assert line[line["tag"] == "loss"]["value"].tolist() == [1.0] * 80 + [2.0] * 40
    assert len(joined(line)) == 123
