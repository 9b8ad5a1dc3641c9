"""The command `vitbench`: the words a person types and reads."""

from bench.cli.app import main as main
