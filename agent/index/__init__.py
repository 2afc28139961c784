"""The live index. `neighbours.NeighbourIndex` finds prompts by the similarity of `agent.encoding` with hnswlib, and averages
their scores (`shrunk_mean`); `prompts.PromptIndex` is the index of a running router: the prompts of its snapshot and those
scored since, which are evidence of an estimate and make neighbourhoods, in bounded space.
"""
