"""The online monitor: scores in, decisions out. Pure."""

from tocsin.monitor.path import PathRecord
from tocsin.monitor.session import Monitor, Session, replay
from tocsin.monitor.states import TRANSITIONS, Event, State

__all__ = ["TRANSITIONS", "Event", "Monitor", "PathRecord", "Session", "State", "replay"]
