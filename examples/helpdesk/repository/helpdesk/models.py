"""What is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Optional


class Status(str, Enum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True)
class Ticket:
    """One request of a customer. Times are aware and in UTC."""

    id: int
    subject: str
    customer: str
    opened_at: datetime
    status: Status = Status.OPEN
    closed_at: Optional[datetime] = None
