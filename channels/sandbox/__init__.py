"""The sandbox: one local HTTP server that plays the sales channels, with state.

It is an outside world. It never imports the product's models or settings, keeps its own state in memory and speaks
each platform's own protocol: same paths, same required fields, same answers to a mistake, same signatures.

`http` is the server, `world` holds the shops, `shop` is what every platform has in common, one package per
platform plays its API, `control` is the API under `/_sandbox/` by which a demo, a benchmark or a test drives it.
"""
