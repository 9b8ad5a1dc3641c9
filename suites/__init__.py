"""The suites that come with the project: one TOML file per table or question."""
