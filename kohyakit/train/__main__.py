"""`python -m kohyakit.train CONFIG`: what `accelerate launch` starts in every process of a training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kohyakit.config.read import parse_assignments
from kohyakit.errors import KohyakitError


def main() -> int:
    """Train CONFIG. Returns the exit code: 0 fine, 2 for what a person can mend, 130 after an interruption."""
    parser = argparse.ArgumentParser(prog="python -m kohyakit.train", description="Train a LoRA from CONFIG.")
    parser.add_argument("config", type=Path, help="a kohya_ss preset (JSON) or an sd-scripts TOML")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--dataset-config", type=Path, help="the dataset TOML to train on")
    parser.add_argument("--allow-code", action="append", default=[], metavar="NAME", help="code of your own to import")
    parser.add_argument("--command", metavar="N", help="which training of a command file")
    parser.add_argument("--skip-bad-images", action="store_true", help="leave out images that do not decode")
    parser.add_argument("--version", help="the run's name; the next free one by default")
    parser.add_argument("--parent", help="the run that this one is compared with")
    parser.add_argument("--note", default="", help="a remark kept with the run")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args()
    from kohyakit.formats import load
    from kohyakit.train.start import train_network

    try:
        overrides = parse_assignments(tuple(given.assignments))
        config = load(
            given.config, overrides=overrides, dataset_config=given.dataset_config, command=given.command
        ).allowing(given.allow_code)
        run = train_network(
            config, skip_bad_images=given.skip_bad_images, progress=not given.quiet, version=given.version,
            parent=given.parent, note=given.note,
        )  # fmt: skip
    except KohyakitError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 130 if run.status == "interrupted" else 0


if __name__ == "__main__":
    sys.exit(main())
