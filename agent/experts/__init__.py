"""Stage 2: heads on a shared trunk. `trunk` (`fit_trunk`), `general_heads` (one per model) and `task_heads` (one per task and
model of its `candidates`) estimate quality; `stack` weighs them beside task means and neighbours (`fit_stack`, `combine`);
`cost_model` estimates USD a request."""
