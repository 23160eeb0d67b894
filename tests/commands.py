"""The command line in the process of the tests."""

from typer.testing import CliRunner

from diml_nb.cli import app


def run_diml(*words) -> tuple[int, str]:
    "Exit status and output of `diml` with these words; a fault of the program is raised."
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="diml")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output
