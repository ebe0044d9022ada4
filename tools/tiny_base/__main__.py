"""python -m tools.tiny_base FOLDER: teach the parts one after the other, from where the folder stands.

python -m tools.tiny_base FOLDER                  goes on after a kill; ends with FOLDER/base
python -m tools.tiny_base FOLDER --look PLACE     writes what the checkpoint has come to, while it goes on
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.tiny_base import together
from tools.tiny_base.teach import Asked, teach, write


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tools.tiny_base", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where checkpoints lie; given again, the training goes on from them")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--vae-steps", type=int, default=1800)
    parser.add_argument("--unet-steps", type=int, default=12_000, help="the rate falls over the last fifth of them")
    parser.add_argument("--sharp-steps", type=int, default=1500, help="the coder's way back, with its way in held")
    parser.add_argument("--look", type=Path, metavar="PLACE", help="train nothing: write the base as it stands there")
    parser.add_argument("--count", type=int, default=96, help="pictures that --look judges")
    given = parser.parse_args()
    asked = Asked(given.folder, given.seed, given.vae_steps, given.unet_steps, given.sharp_steps)
    if given.look:
        write(asked, given.look, count=given.count)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    together.run(teach, given.processes, asked)


if __name__ == "__main__":
    main()
