"""Files of scored prompts: `files.read` reads one of any known format, `files.load` and `files.store_file` import it into the
store. `rows` holds Thalweg's own format and the checks of a row, `benchmarks` RouterBench's and LLMRouterBench's formats."""
