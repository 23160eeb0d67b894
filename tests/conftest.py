"Every test runs without a network of its own accord, quietly, and writes only into temporary folders."
import os

import pytest

os.environ["DIML_QUIET"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb.core import seed_everything

    seed_everything(0)
