"""The paper's experiments, to the letter: runs, a file of results, tables and figures from it."""
