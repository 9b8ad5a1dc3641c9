"""The table model and its forms: Markdown, LaTeX, CSV, HTML, terminal; and the page of a suite."""
