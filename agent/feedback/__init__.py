"""What a rating is worth: each row of the feedback log becomes a quality estimate with a weight.

`ledger.Ledger` calibrates and weighs ratings (`learn_one`, `mean_scores`) and reports on sources and raters (`reports`).
It uses `calibration` (a regression per source, the ratings of one decision), `raters` (reliability and offsets of each)
and `quota` (how much weight a rater or an API key has left on a task). `state.feedback_state` brings a ledger and drift
detectors to a position of the log, and `state` holds the selections of rows that training and the gate read.
"""
