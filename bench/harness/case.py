"""What a case is. A file in bench/cases adds some to its list CASES."""

from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass
class Case:
    """One kind of work, measured over several ways in the same run.

    serve(site): starts the server at 127.0.0.1, site.port, and returns once it listens.
    measure(site): does the work once for site.seconds against site.host, site.port and returns
        the figure in `unit`; RunError when what was measured was not what it should be.
    """
    name: str
    title: str
    unit: str
    better: str  # "lower" or "higher"
    serve: Callable
    measure: Callable
    ways: tuple  # keys of ways.WAYS, the first one is what the others are compared with
    needs: tuple = ()  # programs that must be installed
    bars: dict = field(default_factory=dict)  # way -> text: what the project asks for
    servers: int = 1  # more: at 127.0.0.1, site.ports, of which site.port is the first
    protocol: str = "HTTP"  # between hosts: HTTP or TCP
    skip: Optional[Callable] = None  # () -> why it cannot be run here, or None

    def ratio(self, reference, value):
        """How many times better than the reference; None where that says nothing."""
        if reference <= 0 or value <= 0:
            return None
        return reference / value if self.better == "lower" else value / reference
