"""Online correction: how far live scores lie from what the snapshot predicts, by task, neighbourhood and model, and silent
changes.

`estimator.OnlineEstimator` is what the router uses: `learn_one` takes a calibrated score, `predict_one` gives mean and
covariance of the correction. `effects.TaskEffects` is its posterior, `prior.Prior` (fitted by `fit_prior`, kept in the
snapshot) what the posterior starts from, `drift.DriftDetectors` its alarms; `drift.drift_adjustment` says what a
score from before a drift still counts, and `prior.noise_variance` is the noise of one score.
"""
