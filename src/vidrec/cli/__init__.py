"""The command `vidrec`: list, look at, join and prune videos, and repair what a crash left behind."""

from vidrec.cli import folders as folders
from vidrec.cli import joining as joining
from vidrec.cli import web as web
from vidrec.cli.app import app as app
