"""Stage 2: heads on a shared trunk. `fit_stage2` fits the general heads (`general_heads`, with the trunk) and the task heads
(`task_heads`, which may start from their parents', `parents`) in closed form, and trains both further as far as that pays
(`training`). `stack` weighs their estimates beside task means and neighbours (`fit_stack`, `combine`); `cost_model` estimates
USD a request.
"""
