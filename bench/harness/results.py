"""Figures of a run, and what is said about them."""

import statistics


class Row:
    """One way of one case: a figure each round, or the reason why there is none."""

    def __init__(self, case, way, label):
        self.case = case
        self.way = way
        self.label = label
        self.values = {}  # round -> figure
        self.not_run = None
        self.failed = None

    @property
    def ok(self):
        return bool(self.values) and not self.failed and not self.not_run

    def fail(self, why):
        """A row that failed once has no figure: what it measured may not be what it says."""
        self.failed = self.failed or " ".join(str(why).split())

    def median(self):
        return statistics.median(self.values.values())

    def ratios(self, reference):
        """Against the same round's reference: (median, least, most), or None."""
        if not self.ok or not reference.ok or self is reference:
            return None
        pairs = [self.case.ratio(reference.values[r], self.values[r])
                 for r in self.values if r in reference.values]
        pairs = [p for p in pairs if p is not None]
        return (statistics.median(pairs), min(pairs), max(pairs)) if pairs else None


def as_json(machine, settings, rows):
    return {
        "machine": machine,
        "settings": settings,
        "rows": [{
            "case": row.case.name, "title": row.case.title, "way": row.way, "label": row.label,
            "unit": row.case.unit, "better": row.case.better, "values": list(row.values.values()),
            "not_run": row.not_run, "failed": row.failed, "bar": row.case.bars.get(row.way),
        } for row in rows],
    }
