"""The choice of a model, given estimates of quality: `choose` (the whole choice), `utility` (expected costs, lambda, estimates
drawn toward the models' overall means), `newcomers` (caution toward models of which little is known), `exploration` (choice
probabilities), `limiter` (exploration per API key and per model) and `explain` (why a model is not eligible, why one was or was
not chosen). Others use `choose`, `PoolPosterior`, `ChoiceConfig`, `ExplorationLimiter`, `ExplorationBudget`, `fit_shrinkage`,
`shrink_to_mean`, `cost_weight`, `expected_costs`, `explain` and `why_not`.
"""
