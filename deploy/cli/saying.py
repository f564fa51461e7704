"""What the commands print."""

import os
import sys

import click


def say(line: str) -> None:
    """Print a line. Once its reader has seen enough (``| head``) nothing more is written, and the work goes on."""
    try:
        click.echo(line)
    except BrokenPipeError:
        write_no_more()


def write_no_more() -> None:
    """Let nothing fail that is still written to standard output, as the flush at the end of the process is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
