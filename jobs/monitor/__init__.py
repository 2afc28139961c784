"""Whether snapshots keep what the gate expected, on the logged decisions: `trials.TrialMonitor` ends the running trial or
hold-back, which may promote the challenger or demote the champion; `value.snapshot_values` estimates the quality of any
snapshots and fixed policies."""
