"""The HTTP routes, a module for each part: `chat` (completions, routing), `feedback`, `models` (the pool), `insight`
(decisions, tasks, drifts, snapshots) and `operations` (health, metrics, jobs). `serve.http.api` uses the ``router`` of each.
"""
