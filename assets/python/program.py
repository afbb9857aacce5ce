"""What every script here does around its work: errors in one line, facts in one line.

A script ends with 0 and one line of JSON on stdout, its last; with 2 and one line ``error: …`` on stderr if the user
can mend the cause, or with another status that the Problem has; with 1 and a traceback if not.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

Facts = Dict[str, Any]

EXIT_PROBLEM = 2


class Problem(Exception):  # noqa: N818 - the word of the message: not a fault of the program
    """What the user can mend; its text says what is wrong and what to do."""

    status = EXIT_PROBLEM


class Parser(argparse.ArgumentParser):
    """An argument parser that reports in one line as well; the usage is under --help."""

    def error(self, message: str) -> NoReturn:
        """Ends the program as run does for a Problem."""
        self.exit(EXIT_PROBLEM, f"error: {message}; see {self.prog} --help\n")


def run(main: Callable[[], Facts]) -> NoReturn:
    """Runs main, prints its facts or its problem and ends the program."""
    try:
        facts = main()
    except (Problem, OSError) as problem:  # an OSError names its file and its cause: absent, unreadable, disk full
        sys.stderr.write(f"error: {one_line(problem)}\n")
        sys.exit(problem.status if isinstance(problem, Problem) else EXIT_PROBLEM)
    sys.stdout.write(json.dumps(facts, sort_keys=True) + "\n")
    sys.exit(0)


def one_line(error: BaseException) -> str:
    """Returns the error's text without line breaks, or its type's name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def read(path: Path) -> bytes:
    """Returns the file's content; an empty file is a Problem, since a copy that was cut short looks like that."""
    content = path.read_bytes()
    if not content:
        raise Problem(f"{path} is empty")
    return content
