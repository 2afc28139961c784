"""When jobs run, and how: `timetable.Timetable` requests refreshes that are due and executes queued runs, one at a time;
`worker.run_job` does a claimed run under a heartbeat and closes it. The queue itself is `store.runs`."""
