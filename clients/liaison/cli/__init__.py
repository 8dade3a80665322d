"""The `liaison` command. stdout is data, stderr is talk; exit codes are in `liaison --help`.

Thin: a command reads its arguments, asks the library, and hands the answer to `render` or to JSON.
"""

from .main import main

__all__ = ["main"]
