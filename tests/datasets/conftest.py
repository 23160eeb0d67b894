from pathlib import Path

import pytest
from image_files import tree


@pytest.fixture
def two_class_folder(tmp_path) -> Path:
    "A folder of two classes, with two images each."
    return tree(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png", "b/2.png")
