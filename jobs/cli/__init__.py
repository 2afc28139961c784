"""The `thalweg` command line, a module for each noun or command. `jobs.cli.app` holds `app`, all commands, and `main`, the
console script; `jobs.cli.console` what commands share. A command prints views of `store.views`, as a table or as JSON."""
