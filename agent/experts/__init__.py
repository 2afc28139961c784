"""Stage 2: heads on a shared trunk. `general_heads` (the trunk, and one head per model) and `task_heads` (a task's candidate
models, and one head per task and candidate) estimate quality; `stack` weighs them beside task means and neighbours
(`fit_stack`, `combine`); `cost_model` estimates USD a request.
"""
