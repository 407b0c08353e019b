"""Write pictures of a data set as PNG files: to predict, or as a folder to train on.

    python experiment/sample_pictures.py --dataset Digits --output pictures
    python experiment/sample_pictures.py --dataset Digits --output pictures --tree \\
        --classes 3 8 --count 100

The first writes one test picture of each class, with its class in its name. The second writes
training pictures into a folder for each class, 200 in all, as `--dataset Folder` reads them.
They have the size that networks see, and no augmentation.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.data_description import listed
from experiment.flag.kinds import Whole, expanded_path, shortened
from experiment.flag.lookup import flags_of_experiment
from experiment.flag.parser import FlagParser
from experiment.train.failure import one_sentence_errors
from util.data import ImageData, load_dataset
from util.file.atomic import write_atomically
from util.file.named_folder import refuse_unusable
from util.image.picture_folder import PictureOptions

ROWS = ("dataset", "data_path", "cache_path", "image_size")  # of the training command


def get_parser() -> FlagParser:
    rows = [flag for flag in flags_of_experiment("cifar") if flag.name in ROWS]
    # Their conditions ask for flags that this command does not have.
    parser = FlagParser("Write pictures of a data set.", [replace(row, idle=()) for row in rows])
    add = parser.add_argument
    text = "where the pictures are written; an empty folder, or one that is not there"
    add("--output", type=expanded_path, required=True, metavar="FOLDER", help=text)
    text = "pictures of each class, the first in the set; all, if there are fewer"
    add("--count", type=Whole(1), default=1, metavar="PICTURES", help=text)
    text = "names of classes; default: all of them"
    add("--classes", nargs="+", metavar="NAME", help=text)
    text = "pictures of the training set, in a folder for each class; default: of the test set"
    add("--tree", action="store_true", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Run the command line; returns the files.

    Raises: SystemExit with code 2 for wrong input or a folder that cannot be written.
    """
    args = get_parser().parse_args(argv)
    with one_sentence_errors({}, interrupted="stopped before the end; every file is whole"):
        refuse_unusable(args.output, "output")
        if args.output.is_dir() and any(args.output.iterdir()):
            raise ValueError(f"--output {args.output} is not empty: name another folder")
        data = load_dataset(
            args.dataset,
            args.data_path,
            cache_path=args.cache_path,
            pictures=PictureOptions(image_size=args.image_size),
            report=partial(print, file=sys.stderr),
        )
        names = list(dict.fromkeys(args.classes or data.class_names))
        refuse_unknown(names, data)
        samples = data.train.source if args.tree else data.test
        written = []
        for name in names:
            plain = name.replace("/", "-")  # a name of Fashion-MNIST has one
            folder = args.output / plain if args.tree else args.output
            pixels, labels = samples.tensors
            chosen = pixels[labels == data.class_names.index(name)][: args.count]
            for number, picture in enumerate(chosen):
                written.append(folder / f"{plain}_{number:04}.png")
                write_png(picture, written[-1])
    print(f"{len(written):,} pictures of {len(names)} classes in {args.output}")
    return written


def refuse_unknown(names: Sequence[str], data: ImageData) -> None:
    """ValueError for a name that is no class of the data."""
    for name in names:
        if name not in data.class_names:
            known = listed(data.class_names)
            raise ValueError(f"--classes {shortened(name)}: the classes of {data.name} are {known}")


def write_png(pixels: Tensor, path: Path) -> None:
    """(C, H, W) uint8 as a picture; its folder is made."""
    content = io.BytesIO()
    to_pil_image(pixels).save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())


if __name__ == "__main__":
    main()
