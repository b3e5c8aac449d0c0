"""The command ``memorax``, which answers before all that it needs is imported."""

import io
import os
import sys

LONG_RUNNING = "train", "compare", "sweep"
HELP = {"-h", "--help", "--help-all"}


def main() -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding shows what it lacks, such as in a path, by its number.
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:2] and sys.argv[1] in LONG_RUNNING and not HELP & set(sys.argv):
        # JAX, the environments and the checkpoints' library take seconds to import.
        print(f"memorax {sys.argv[1]}: starting", flush=True)
    if sys.argv[1:2] == ["train"] and any(_is_coordinator(word) for word in sys.argv):
        from memorax.experiments.run.supervision import supervise  # noqa: PLC0415

        return supervise(sys.argv[1:])
    if sys.argv[1:] == ["doctor"]:
        # It tells what is wrong where the command line cannot even be imported.
        from memorax.experiments.cli.doctor import doctor  # noqa: PLC0415

        return doctor()
    from memorax.experiments.cli import command_line  # noqa: PLC0415

    try:
        code = command_line.main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output, such as head, has seen enough; Python would complain at exit too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _is_coordinator(word: str) -> bool:
    return word.partition("=")[0] == "--coordinator"


if __name__ == "__main__":
    sys.exit(main())
