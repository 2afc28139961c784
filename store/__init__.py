"""Everything that is kept, in SQLite or PostgreSQL, and what else is read from disk.

Others use: `database.Database` and `writer.GroupCommitter`; the logs `decisions.DecisionLog` and `feedback.FeedbackLog`;
`evaluations.EvaluationStore`, `examples.feedback_examples` and `signals.refresh_reason_now`; `snapshots.SnapshotStore`,
`trials.TrialStore`, `lineage.TaskLineage`, `drifts.DriftStore` and `runs.JobRuns`; `views` and `snapshot_views` for the JSON
form of these; `settings.Settings`, `keys.bootstrap_key`; and the folders ``pool`` (models) and ``encoders``. ``tables`` is the
schema, ``migrations`` its history, ``data`` the packaged pool file and seed prompts.
"""
