"""Questions that an auditor asks of the record, each answered from events alone.

`clusters`: do alarms gather somewhere? `drift`: do scores still look as they did?  `threshold`: how
many alarms were false? `escalations`: is whoever should be asked asked, and do they answer? Each
takes events in the order of their sequence and returns numbers with intervals; where the events do
not back a number there is none, and a sentence that says why. Pure: nothing here reads a store.
"""
