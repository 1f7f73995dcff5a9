"""Quality and speed of the steps of a preparation, one script per step or bar.

    python -m benchmarks.prepare.NAME [--data FOLDER]

Each script prints its figures, writes `results/NAME.json` and renders the section "Data
preparation" of `benchmarks/README.md` from all of these files.
"""
