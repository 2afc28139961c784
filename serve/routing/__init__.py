"""Live routing in a replica: `live` decides and records (`LiveRouter`), `follower` keeps its router up to date with the
store (`Follower`), `pool_view` is the pool as the replica can call it (`PoolView`), `calls` calls the chosen model (`Call`).
"""
