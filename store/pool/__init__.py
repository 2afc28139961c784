"""The pool of models: `file.PoolFile` reads and checks a pool file, `models.ModelPool` keeps the pool in the database.

Others use these two, with `file.PoolModel` and `file.Provider`; ``yaml`` reads YAML with line numbers.
"""
