"""`python -m bench.cli`: the command, where no script is installed."""

from bench.cli.app import main

main()
