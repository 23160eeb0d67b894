"""Takes the place of a package in the processes that the tests start, see `conftest.py`.

jsonschema imports it where it is installed, to check addresses (IRIs), and it parses a grammar
of them at import: more than a second for each process of papermill or Jupyter, and no test needs
it.
"""

raise ImportError("the tests leave rfc3987_syntax out")
