"""What all of psplit's programs do on a command line: one line for a mistake, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from psplit_eval.errors import PsplitError, UsageError

__all__ = ["OneLineParser", "exit_code"]

_INTERRUPTED = 130
_PIPE_CLOSED = 141


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError in place of printing the usage."""
        raise UsageError(f"{message}; see {self.prog} --help")


def exit_code(program: str, work: Callable[[], int], interrupted: str) -> int:
    """Do a command's work; returns its exit code, or that of what went wrong (see `errors`).

    An error of psplit's is one line on standard error that begins with the program's name. 130
    after Ctrl-C, with what `interrupted` says of going on; 141 where the reader of a pipe left.
    """
    try:
        code = int(work())
        sys.stdout.flush()
        return code
    except PsplitError as error:
        print(f"{program}:", " ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # who reads, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; {interrupted}", file=sys.stderr)
        return _INTERRUPTED
