"""The ``orthofed`` command: joins the two roles' commands and maps errors to exit codes.

Exit codes (product.md 5): 0 ok, 1 failed, 2 wrong usage, 3 refused by the other side, 4
verification failed. Results go to stdout, everything else to stderr; with ``--json`` an error is
one object on stdout with its stable code. A traceback appears only with ORTHOFED_DEBUG=1.
"""

import errno
import json
import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import click
import typer
import typer.core

from .admission import admit_command, columns_command
from .client import (
    audit_command,
    file_command,
    fuse_command,
    ledger_command,
    pull_command,
    recipient_command,
    sample_command,
)
from .client import cli as client
from .client.command_line import Json
from .client.missing_extra import missing_extra
from .coordinator import cli as coordinator
from .coordinator import doctor_command, plan_command
from .core.errors import OrthoFedError
from .core.shown import printed
from .simulation import simulate_command

typer.core.HAS_RICH = False  # else "[required]" is escaped for rich, which prints none of our help
app = typer.Typer(
    name="orthofed",
    help="Teach one text-to-image model many concepts, each on its owner's own machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(client.app, name="client", help="The data owner: join, train, withdraw.")
app.add_typer(coordinator.app, name="coordinator", help="The operator: init, serve, release.")
app.add_typer(ledger_command.app, name="ledger", help="The public ledger: show, prove, check.")
app.add_typer(recipient_command.app, name="recipient", help="A consumer's key: new, show.")
app.command(epilog=pull_command.EXAMPLE)(pull_command.pull)
for _command in (client.demo, client.verify):
    app.command(epilog=client.EXAMPLES[_command.__name__])(_command)
app.command(epilog=sample_command.EXAMPLE)(sample_command.sample)
app.command(epilog=fuse_command.EXAMPLE)(fuse_command.fuse)
app.command(epilog=audit_command.EXAMPLE)(audit_command.audit)
app.command(epilog=plan_command.EXAMPLE)(plan_command.plan)
app.command(epilog=admit_command.EXAMPLE)(admit_command.admit)
app.command(epilog=columns_command.EXAMPLE)(columns_command.columns)
app.command(epilog=simulate_command.EXAMPLE)(simulate_command.simulate)


@app.command(epilog=file_command.EXAMPLE)
def doctor(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR", help="A model file; a coordinator's folder, or a backup."
        ),
    ],
    fix: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write a copy with what can be fixed; FILE stays."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a file is, which programs load it and what is wrong with it.

    Of a coordinator's folder: read every stored byte and name each bad file. Exit code 4: a check
    failed. Warnings are not failures.
    """
    model = file_command.model_of(place)
    if not model.is_dir():
        file_command.examine(model, out=fix, as_json=as_json)
    elif fix is None:
        doctor_command.doctor(place, as_json=as_json)
    else:
        raise click.UsageError("--fix is for a file; a folder is only read")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"orthofed {installed_version('orthofed')} (wire v1, formats 1)")
        raise typer.Exit


@app.callback()
def _root(
    show_version: bool = typer.Option(
        False,
        "--version",
        callback=_print_version,
        is_eager=True,
        help="Print code, wire and format versions.",
    ),
) -> None:
    """Hold the options that stand before a command."""
    del show_version


def main() -> None:
    """Run the command line and exit with the code that product.md 5 gives the outcome."""
    sys.exit(_run())


def _run() -> int:
    code = 1
    try:
        result = typer.main.get_command(app).main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except OrthoFedError as error:
        code = _fail(error)
    except click.exceptions.Abort:
        code = _interrupted()
    except click.ClickException as error:
        error.show()
        code = 2
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        code = _fail(missing_extra(error))
    except OSError as error:
        code = _fail(_machine_error(error))
    return code


def _machine_error(error: OSError) -> OrthoFedError:
    """Turn what the operating system said into an error with a next step."""
    if os.environ.get("ORTHOFED_DEBUG"):
        raise error
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OrthoFedError(
            f"no room to write{where}: {error.strerror}",
            why="the disk or the quota is full; everything saved before is untouched",
            fix="free some space and run the same command again; it goes on where it stopped",
            code="disk-full",
        )
    return OrthoFedError(
        f"{error.strerror or error}{where}",
        why="the operating system refused",
        fix="check the path and its permissions, or set ORTHOFED_DEBUG=1 to see where it happened",
        code="os-error",
    )


def _fail(error: OrthoFedError) -> int:
    if os.environ.get("ORTHOFED_DEBUG"):
        raise error
    if "--json" in sys.argv:
        parts = {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}
        print(json.dumps({"schema": "orthofed.error/1", "error": parts}), flush=True)
    # T8: a name in it may be a stranger's, of a file that was pulled or of an image.
    print(printed(f"error: {error}"), file=sys.stderr)
    return error.exit_code


def _interrupted() -> int:
    print("interrupted: run the same command again to go on", file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
