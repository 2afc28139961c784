"""The choice of a model, given estimates of quality: `utility` (expected costs, lambda, estimates drawn toward the models'
overall means), `exploration` (choice probabilities), `limiter` (exploration per API key) and `explain` (why a model is not
eligible, why one was or was not chosen). Others use `ChoiceConfig`, `ExplorationLimiter`, `ExplorationBudget`,
`fit_shrinkage`, `shrink_to_mean`, `cost_weight`, `expected_costs`, `explain` and `why_not`.
"""
