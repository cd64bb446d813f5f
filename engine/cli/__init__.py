"""The command line.

Exit codes: 0 ok, 1 something failed, 2 the workflow or the arguments are invalid, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, INVALID, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `weft`; those of the process when None.

    Returns:
        The exit code.
    """
    import click

    from engine.cli.app import weft
    from engine.cli.console import COMPLAINTS, complain
    from engine.errors import DeclarationError, FormatError, NodeFailed, RunCancelled, WeftError, WorkflowInvalid

    logging.getLogger("engine").addHandler(COMPLAINTS)  # the same one at every call
    try:
        status = weft.main(args=None if arguments is None else list(arguments), prog_name="weft", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, RunCancelled, KeyboardInterrupt):
        complain("interrupted", level="stopped")
        return INTERRUPTED
    except (WorkflowInvalid, FormatError, DeclarationError) as error:
        complain(str(error))
        return INVALID
    except NodeFailed as error:
        complain(str(error))
        return FAILED
    except BrokenPipeError:
        return _hung_up()
    except (WeftError, OSError) as error:
        complain(str(error))
        return FAILED
    return status if isinstance(status, int) else OK


def _hung_up() -> int:
    """Whoever read our output went away (`weft nodes | head`): say nothing, also at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
