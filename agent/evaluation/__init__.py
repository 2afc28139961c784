"""What policies are worth, from logged decisions and evaluations: `logged` (decisions with their feedback as arrays),
`off_policy` (inverse propensity and doubly robust estimates), `value` (policies side by side), `gate` and `challenger`
(whether a retrained snapshot is promoted), `trial` (whether one on trial is better live, or a promoted one worse) and
`refresh_rule` (when an early refresh is due). Others use `logged_decisions`, `policy_values`, `train_challenger`, `comparable`,
`RefreshData`, `judge_trial`, `TrialConfig`, `refresh_reason` and `RefreshSignals`.
"""
