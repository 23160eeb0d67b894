"""`python -m diml_nb`: the diml command, for launchers that want a module.

No notebook exports this file.
"""

from diml_nb.cli import app

if __name__ == "__main__":
    app(prog_name="diml")
