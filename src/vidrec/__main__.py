"""``vidrec`` and ``python -m vidrec``."""

import sys

from vidrec.errors import ExtraError, need


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    try:
        need("typer", "the command vidrec", extra="cli")
    except ExtraError as error:
        sys.exit(f"vidrec: {error}")
    from vidrec.cli import app

    app()


if __name__ == "__main__":
    main()
