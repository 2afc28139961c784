"""`thalweg replay`: route scored prompts one at a time, reveal only the chosen model's score, and compare how policies learn.

Others use `run.replay` (data files to a `run.Replay`), `scenario.parse` (what happens meanwhile), `report` (JSON and terminal
tables) and `plots.draw`. A new policy implements `policy.Policy` and is added to `policies.FACTORIES`.
"""
