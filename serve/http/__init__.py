"""The HTTP interface: `api` builds the FastAPI app, `auth` is the middleware before it (API key, length of bodies),
`schemas` are the request bodies and the envelopes of replies, `routes` the routes. `serve.ingress` uses `build_api`.
"""
