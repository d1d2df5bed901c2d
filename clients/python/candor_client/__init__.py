"""A client of Candor: what was handed over is recorded, once, whatever dies meanwhile."""

from .client import Client, Record, Refused, mail_sent
from .spool import Spool, SpoolError, SpoolFull

__all__ = ["Client", "Record", "Refused", "Spool", "SpoolError", "SpoolFull", "mail_sent"]
