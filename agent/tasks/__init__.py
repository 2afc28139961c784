"""Stage 1: tasks are communities of prompts. `discover` finds them (`discover`, from `graph` and `means`), `assign`
gives a prompt's task probabilities, `lineage` matches new communities with the champion's tasks (`match`), and `naming` names
them. `means.task_means` estimates each model's quality on each task."""
