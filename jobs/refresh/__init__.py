"""Training: `run.refresh` reads the store, trains a challenger and publishes it as what `placement.placement` says;
`seed.ensure_champion` builds the first snapshot from published figures on the seed prompts. The gate is `agent.evaluation`."""
