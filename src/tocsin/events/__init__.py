"""The record's vocabulary: what happened, as small frozen structs, in one versioned schema.

Gateway, library and a user's own services say what happens in the same words. An event holds
names, numbers, hashes and closed lists; the little free text that people write is redacted before
it is stored. Pure: times and ids come in as arguments.
"""
