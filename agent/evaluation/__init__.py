"""What policies are worth, from logged decisions and evaluations: `logged` (decisions with their feedback as arrays),
`off_policy` (inverse propensity and doubly robust estimates), `value` (policies side by side), `gate` and `challenger`
(whether a retrained snapshot is promoted), `monitor` (whether a promoted one is worse live) and `refresh_rule` (when an
early refresh is due). Others use `logged_decisions`, `policy_values`, `train_challenger`, `RefreshData`, `compare_live`,
`MonitorConfig`, `refresh_reason` and `RefreshSignals`.
"""
