"""From the end of a log to one sentence. The logs are what accelerate, torch and sd-scripts print, worded by us."""

from __future__ import annotations

import pytest

from kohyakit.launch.cause import cause

LAUNCHER = """Traceback (most recent call last):
  File "/env/bin/accelerate", line 8, in <module>
    sys.exit(main())
  File "/env/lib/accelerate/commands/launch.py", line 1106, in simple_launcher
    raise subprocess.CalledProcessError(returncode=process.returncode, cmd=cmd)
subprocess.CalledProcessError: Command '['/env/bin/python', 'train_network.py']' returned non-zero exit status 1.
"""


def failed(final: str) -> str:
    return f"""steps:   0%|          | 0/100
Traceback (most recent call last):
  File "/sd-scripts/train_network.py", line 1913, in <module>
    trainer.train(args)
  File "/sd-scripts/train_network.py", line 582, in train
    assert (
{final}
{LAUNCHER}"""


@pytest.mark.parametrize(
    ("final", "what", "cure"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "ran out of memory", "low-memory"),
        ("RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0)", "ran out of memory", "batch_size"),
        ("ModuleNotFoundError: No module named 'voluptuous'", "no package voluptuous", "/py -m pip install voluptuous"),
        ("ImportError: No bitsandbytes / bitsandbytesがありません", "no package bitsandbytes", "install"),
        (
            "AssertionError: when caching latents, either color_aug or random_crop cannot be used / "
            "latentをキャッシュするときはcolor_augとrandom_cropは使えません",
            "when caching latents, either color_aug or random_crop cannot be used", "",
        ),
        ("AssertionError: caption file is empty / 空です: /img/1.txt", "caption file is empty", "write"),
        (
            "ValueError: SchedulerType.CONSTANT does not require `num_warmup_steps`. Set None or 0.",
            "takes no warm-up", "lr_warmup_steps",
        ),
        ("RuntimeError: NaN detected in latents: /img/1.png", "NaN latents", "no_half_vae"),
        ("ValueError: optimizer got an empty parameter list", "nothing is left to train", "learning rate"),
        ("KeyError: 'time_embed.0.weight'", "KeyError: 'time_embed.0.weight'", ""),
        ("OSError: [Errno 28] No space left on device", "the disk is full", "room"),
    ],
)  # fmt: skip
def test_the_trainings_own_error_and_not_the_launchers(final, what, cure):
    said, todo = cause(failed(final), 1, python="/py")
    assert what in said
    assert cure in todo
    assert "CalledProcessError" not in said
    assert all(ord(character) < 0x3000 for character in said)


def test_errors_in_a_chain_and_of_other_ranks():
    chained = failed("KeyError: 'x'").replace(
        LAUNCHER,
        "\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
        '  File "a.py", line 1, in f\nRuntimeError: the second\nwith a second line\n\n' + LAUNCHER,
    )
    assert cause(chained, 1)[0] == "the second"
    rank = "\n".join(f"[rank1]: {line}" for line in failed("ValueError: on one GPU").split(LAUNCHER)[0].splitlines())
    assert cause(rank + "\n" + LAUNCHER, 1)[0] == "on one GPU"


def test_argparse_and_exit_codes_and_silence():
    complaint = "usage: train_network.py [-h]\ntrain_network.py: error: argument --loss_type: invalid choice: 'l3'\n"
    assert cause(complaint + LAUNCHER, 2)[0] == "argument --loss_type: invalid choice: 'l3'"
    assert "main memory" in cause("steps: 3%", -9)[0]
    assert "access violation" in cause("", 3221225477)[0]
    assert cause("loading\nthe last words\n", 7)[0] == "it ended with exit code 7; the last it said was: the last words"


def test_success_that_did_nothing():
    assert cause("all good", 0) == ("", "")
    quiet = "ERROR    No data found. Please verify arguments (train_data_dir must be the parent of folders with images)"
    assert cause(quiet, 0)[0] == "no pictures were found"
