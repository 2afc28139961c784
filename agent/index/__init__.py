"""Nearest prompts. `neighbours.NeighbourIndex` finds a snapshot's training prompts by the similarity of
`agent.encoding` and averages their scores (`shrunk_mean`); `prompts.PromptIndex` holds the prompts and scores of a running
router, by cosine of embeddings, in bounded space.
"""
