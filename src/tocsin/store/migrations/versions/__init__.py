"""One file a step, in the order of `tocsin.store.migrating.REVISIONS`."""
