"""The command line: one thin module per command, found by its name; the work is done in the rooms.

Exit codes: 0 done, 1 done but something was flagged or left out, 2 nothing done because of the input.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module

# Before any import of transformers: their bars would break ours, and nothing here needs a network
# unless a model on the hub is named.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import typer

from babelscope.core.errors import InputError
from babelscope.core.progress import console

COMMANDS = (
    *("demo", "inspect", "analyze", "lens", "neurons", "evaluate", "stages", "mix", "export", "pretrain"),
    *("languages", "probes"),
)

app = typer.Typer(
    name="babelscope",
    help="Which language does a code model think in, which stage of training is it in, and how much of each "
    "language should it be trained on?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _exiting(command: Callable[..., int]) -> Callable[..., None]:
    """The command, with its result as exit code, and an interrupt in words."""

    @wraps(command)
    def run(*arguments: object, **options: object) -> None:
        try:
            code = command(*arguments, **options)
        except KeyboardInterrupt:
            console.print("interrupted; the same command continues where this one stopped", markup=False)
            code = 130
        raise typer.Exit(code)

    return run


for _name in COMMANDS:
    app.command(_name)(_exiting(import_module(f"babelscope.cli.{_name}_command").command))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the console script exits with what this returns."""
    try:
        app(arguments)
    except SystemExit as done:  # usage errors, --help, and every command that came to its end
        return done.code if isinstance(done.code, int) else 0
    except InputError as error:
        return _refused(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _refused(
            f"the disk is full ({error.filename or 'no space left'}); free some and run this again"
        )
    return 0


def _refused(message: str) -> int:
    console.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    return 2
