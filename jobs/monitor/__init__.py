"""Whether snapshots keep what the gate expected, on the logged decisions: `trials.TrialMonitor` ends the running trial;
`rollback.ChampionMonitor` demotes a champion that is proven worse than its predecessor; `value.snapshot_values` estimates the
quality of any snapshots and fixed policies."""
