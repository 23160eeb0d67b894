"Quietly, and seeded. Tests write into temporary folders; downloads and a screenshot go into data/cache and data/runs, which git ignores."
import os
import re
import shutil

import pytest

os.environ["DIML_QUIET"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb.core import seed_everything

    seed_everything(0)


@pytest.fixture(scope="session")
def obtained(tmp_path_factory):
    "A folder with real packages; skips only where their program is not installed, or says (`unreachable`, a pattern) that it reaches no server."
    from diml_nb.download import obtain

    def get(files, program, unreachable):
        if not shutil.which(program): pytest.skip(f"{program} is not installed: the packages cannot be fetched")
        folder = tmp_path_factory.mktemp(program)
        try:
            for file in files: obtain(file, folder)
        except OSError as error:
            if re.search(unreachable, str(error)): pytest.skip(f"{program} reaches no server that has the packages: {error}")
            raise
        return folder

    return get
