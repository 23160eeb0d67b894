"""A short training on embedded images, and tables of them."""

import json
import shutil
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import load_file
from scheduling import folder_of_this_run

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.registry import get_dataset
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.trainer import train

SMALL = CACHED_MAPS_CONFIG | dict(
    embedding_dim=16, epochs=2, evaluate_every=1, batch_size=8, lr=1e-3, validation=0.34
)


PAIR = [
    str(data_dir() / "emoji" / "pineapple" / f"{design}.png") for design in ("emojione", "noto")
]


def few_images(split="train", classes=6):
    images = get_dataset("emoji").subset(split)
    return images.select(torch.isin(images.label_n, images.label_n.unique()[:classes]))


def short_run(tmp_path_factory) -> Path:
    "The folder of a short run on cached maps, trained once for all workers: do not write into it."
    folder = folder_of_this_run(tmp_path_factory) / "short-run"
    with FileLock(f"{folder}.lock"):
        train(TrainConfig(**SMALL), folder, images=few_images())
    return folder


def write_table(folder, *splits, marks=None, separator=","):
    """A CSV file of some emoji: training classes, and the others that are given, as (split,
    images); `marks` gives the columns is_query and is_gallery of image n."""
    rows = [["path", "label", "split", *(["is_query", "is_gallery"] if marks else [])]]
    for split, images in (("train", few_images()), *splits):
        for n, path in enumerate(images.paths):
            row = [str(path), path.parent.name, split]
            rows.append(row + (list(marks(n)) if marks else []))
    (folder / "own.csv").write_text("\n".join(separator.join(row) for row in rows))
    return folder / "own.csv"


def copy_run(run, folder):
    "For a test that writes into the folder of a run."
    return Path(shutil.copytree(run, folder / "copy"))


def log_of(folder):
    "Lines of the log of a run, without their seconds."
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (folder / "log.jsonl").read_text().splitlines()
    ]


def load_weights(folder, name):
    "Of a run: its model or checkpoint."
    return load_file(folder / f"{name}.safetensors")
