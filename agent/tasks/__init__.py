"""Stage 1: tasks are communities of prompts. `discover` trains it, `graph` builds the prompt graph and cuts it by Leiden,
`means.task_means` estimates each model's quality on each task, `assign` gives a prompt's task probabilities, `lineage`
matches new communities with the champion's tasks (`match`), and `naming` names them.
"""
