"""Speed and memory of the library against the official loop, POT and the limit of the machine.

`python -m bench` measures everything; `python -m bench.step`, `bench.evaluation` and `bench.bank`
one part of it, `python -m bench.explorer` the explorers in a browser, `python -m bench.index` a
single query of an index, `python -m bench.gpu` a GPU in five minutes.
"""
