"""The router as pure computation: no network, SQL, clock, files or environment.

`agent.router.Router` routes and learns online; `agent.fit.fit` trains the `agent.snapshot.Snapshot` that it starts from,
from `agent.examples.Examples`; `agent.estimate.Estimator` gives what a snapshot expects of every model. `agent.types`,
`agent.observations` and `agent.errors` hold the values and errors that cross folders.
"""
