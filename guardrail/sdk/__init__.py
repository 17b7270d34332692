"""In process: the plain API, the decorator, guarded clients, and plug-ins for other stacks.

`runtime` owns the one event loop and model of a process, `api` the plain API on top of it,
`adapters` and `codecs` turn what people pass around into texts, `streams` drives the relay,
`scope` says what a block becomes, `decorator` and `clients` (with `transport`) guard calls. Each
plug-in for another stack is one file behind an extra. This room does not know the proxy.
"""
