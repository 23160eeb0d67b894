"""Folders and archives of small images."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.folders import load_folder
from diml_nb.datasets.registry import get_dataset


def save(path: Path, colour="tan", size=(20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, format="PNG")
    return path


def tree(top: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        save(top / name, colour=(i, 2 * i, 99))
    return top


def split_folder(tmp_path, classes, images=6) -> ImageDataset:
    "Classes of drawings, as many in train as in test."
    names = sorted({p.parent.name for p in get_dataset().paths})
    for i, name in enumerate(names[: 2 * classes]):
        for path in sorted((data_dir() / "emoji" / name).iterdir())[:images]:
            target = tmp_path / "small" / ("train" if i < classes else "test") / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return load_folder(tmp_path / "small")


def encoded_image(n, suffix="JPEG", size=(60, 40)):
    out = io.BytesIO()
    Image.new("RGB", size, (n * 37 % 256, n * 91 % 256, n * 53 % 256)).save(out, suffix)
    return out.getvalue()


def pack(path, members):
    "A tar or zip of name -> content."
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as z:
            for name, content in members.items():
                z.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, content in members.items():
                info, content = (
                    tarfile.TarInfo(name),
                    content.encode() if isinstance(content, str) else content,
                )
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path
