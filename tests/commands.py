"""The command line in the process of the tests."""

from typer.testing import CliRunner

from diml_nb.cli import app


def invoke(*words, **environment: str):
    "What `diml` does with these words; a fault, of which a shell shows the traceback, is raised."
    done = CliRunner().invoke(app, [str(word) for word in words], prog_name="diml", env=environment)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def run_diml(*words) -> tuple[int, str]:
    "Exit status and all that `diml` prints with these words."
    done = invoke(*words)
    return done.exit_code, done.output
