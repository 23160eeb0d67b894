"Quietly, and seeded. Tests write into temporary folders; downloads and a screenshot go into data/cache and data/runs, which git ignores."
import os

import pytest

os.environ["DIML_QUIET"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb.core import seed_everything

    seed_everything(0)
