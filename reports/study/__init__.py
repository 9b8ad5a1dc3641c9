"""What tables and figures are made from: the records of a suite, as samples and curves."""
