"""Errors end a command with a sentence and a status, and text cannot steer the terminal."""

import pytest

from eal_icnet_jax.system.errors import Interrupted, Terminated, UserError
from eal_icnet_jax.system.terminal import printable, report_error, warn


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("no config: name one"), 1, "error: no config: name one\n"),
        (Interrupted("run it again"), 75, "interrupted: run it again\n"),
        (Terminated(), 143, "terminated\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_reported_in_a_sentence_and_gives_the_exit_status(capsys, error, status, text):
    assert report_error(error) == status
    assert capsys.readouterr().err == text


def test_an_error_of_the_program_is_reported_with_its_traceback(capsys):
    try:
        raise ValueError("a defect")
    except ValueError as error:
        assert report_error(error) == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback") and text.endswith("ValueError: a defect\n")


def test_characters_that_steer_a_terminal_are_escaped(capsys):
    assert printable("größe 5 µm\n") == "größe 5 µm\n"
    warn("\x1b]0;owned\x07")
    assert capsys.readouterr().err == "warning: \\x1b]0;owned\\x07\n"
