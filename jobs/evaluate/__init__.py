"""`thalweg evaluate`: train on one file of scored prompts, route another file, and compare with a dozen other routers.

Others use `run.evaluate` and `run.pairs` (files to a `harness.Result`), `report` (JSON and terminal tables), `plots.draw`, and
`table.Table`, which `jobs.replay` reads its data into as well.
"""
