"""The record in a process: everything that happens goes through one recorder into one store.

Events come in from the gateway, over HTTP as CloudEvents and as traces, and from the Python client;
each is redacted here, before anything durable. They go out after a cursor, at least once.
"""
