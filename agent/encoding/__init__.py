"""From a conversation to numbers. `encoder` embeds it (`Encoder`, the protocol; `WindowedEncoder`, over any `Backend`),
`features` computes plain text features and hashed words, and `similarity` joins all three into the kernel that neighbours
and trunk use (`Representation`, fitted by `fit_representation`)."""
