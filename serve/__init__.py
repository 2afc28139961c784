"""Thalweg on the network: a Ray Serve app that routes requests, calls models and records decisions and feedback.

`serve.app` is the composition root, `serve.ingress` the deployment that holds router and HTTP, `serve.service` all that
one replica consists of, `serve.settings` its settings, `serve.errors` the errors on the wire, `serve.metrics` the metrics.
No other room imports this one; clients use it over HTTP.
"""
