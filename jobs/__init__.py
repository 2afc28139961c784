"""Everything that happens beside serving: `schedule` (when jobs run), `refresh` (training), `monitor` (verdicts on trials),
`data` (import), `evaluate` and `replay` (benchmarks) and `cli` (the `thalweg` command line). `context.JobContext` opens what a
job works with by `settings.JobSettings`; `meter.Meter` measures time and memory. Only `serve.app` imports from here."""
