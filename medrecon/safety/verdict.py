"""What was found of a prior on a scan, in one sentence and as a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medrecon.safety.comparison import Comparison
from medrecon.safety.leaning import Leaning
from medrecon.safety.self_consistency import SelfConsistency

LOSS_DB = 0.2
"""Loss against total variation that is said aloud, dB."""
_USUAL = 1.0  # ratio of the prior's error up to which images are as those of its card
_STRANGE = 1.5  # from which on an image is of another kind: slices full of detail lie between
_EXPLAINED = 1.05  # misfit of total variation at which the data leave a prior little to add
_HARDLY_BETTER = 1.4  # or its misfit over the result's: in distribution it is 1.5 to 1.8
_UNEXPLAINED = 1.5  # misfit of the result at which the prior held it away from the data


@dataclass(frozen=True)
class Look:
    """The cheap look at a result: no reconstruction is repeated.

    Parameters
    ----------
    self_consistency
        The prior's error on the result over its card's.
    misfit
        Mean squared whitened residual of the result; about 1 at the truth.
    tv_misfit
        That of total variation, ``None`` where there is none.
    """

    self_consistency: SelfConsistency
    misfit: float
    tv_misfit: float | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the prior may not fit the scan; empty where nothing speaks against it."""
        found = []
        ratio = self.self_consistency.ratio
        if ratio > _STRANGE:
            found.append(f"it errs {ratio:.1f} times as much on it as on its own patients")
        if self.misfit > max(_UNEXPLAINED, 1.2 * (self.tv_misfit or 0)):
            found.append(f"it leaves {self.misfit:.1f} times the noise in the data")
        return tuple(found)

    @property
    def is_worth_a_test(self) -> bool:
        """Whether there are doubts, or total variation does so well that a prior may lose."""
        enough = max(_EXPLAINED, _HARDLY_BETTER * self.misfit)
        explained = self.tv_misfit is not None and self.tv_misfit <= enough
        return bool(self.doubts) or explained or self.self_consistency.ratio > _USUAL


@dataclass(frozen=True)
class Test:
    """The comparison of prior and total variation on held-out measurements.

    Parameters
    ----------
    comparison
        Of total variation (first) and the sampler (second), without what was held out.
    groups, of, kind
        How many views or lines were held out, of how many.
    leaning
        The blend that follows.
    is_adapted
        Whether the prior had learnt from the scan.
    """

    __test__ = False  # the name is the field's, it is none of pytest's

    comparison: Comparison
    groups: int
    of: int
    kind: str
    leaning: Leaning
    is_adapted: bool = False


@dataclass(frozen=True)
class Verdict:
    """All that was found.

    Parameters
    ----------
    look
        The cheap look.
    test
        The comparison, ``None`` where none was made.
    is_applied
        Whether the result is the blend that the test asks for.
    untested
        Why no comparison was made.
    calls
        Calls of the network that all this took, each of the whole volume.
    """

    look: Look
    test: Test | None = None
    is_applied: bool = True
    untested: str = "not compared with total variation on held-out data"
    calls: int = 0

    @property
    def expected_db(self) -> float | None:
        """By how much the result is expected to be better than total variation; not known: None."""
        if self.test is None:
            return None
        return self.test.leaning.expected_db if self.is_applied else self.test.comparison.gain_db()

    @property
    def fits(self) -> bool:
        """Whether the result may be expected not to lose to total variation."""
        if self.expected_db is None:
            return not self.look.doubts
        return self.expected_db >= -LOSS_DB

    @property
    def sentence(self) -> str:
        """The run's last line."""
        return self._tested(self.test) if self.test else self._looked_at()

    def _looked_at(self) -> str:
        if self.look.doubts:
            return (
                f"the prior may not fit this scan: {' and '.join(self.look.doubts)}; the result "
                f"may be more than {LOSS_DB} dB worse than total variation ({self.untested})."
            )
        ratio = self.look.self_consistency.ratio
        return (
            f"nothing speaks against the prior on this scan (its error is {ratio:.2f} of its "
            f"card's, the data misfit {self.look.misfit:.2f}); {self.untested}."
        )

    def _tested(self, test: Test) -> str:
        gain, share = test.comparison.gain_db(), test.leaning.share
        name = "the adapted prior" if test.is_adapted else "the prior"
        found = (
            f"on {test.groups} held-out {test.kind} of {test.of} {name} is {abs(gain):.1f} dB "
            f"{'better' if gain >= 0 else 'worse'} than total variation"
        )
        if not self.is_applied:
            worse = gain < -LOSS_DB
            advice = "use total variation's image instead" if worse else "the result is the prior's"
            return f"{found}; {advice}."
        if share == 1:
            return f"{found}; the result is the prior's."
        if share == 0:
            return f"{found}; the result is total variation's."
        return (
            f"{found}; the result leans on total variation, {share:.0%} prior, expected "
            f"{test.leaning.expected_db:+.1f} dB against it."
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values for the record of the run."""
        look = self.look.self_consistency
        record: dict[str, Any] = {
            "verdict": self.sentence,
            "fits": self.fits,
            "doubts": list(self.look.doubts),
            "self_consistency": {
                "ratio": round(look.ratio, 3),
                "by_sigma": {
                    f"{s:g}": round(r, 3) for s, r in zip(look.sigmas, look.ratios, strict=True)
                },
            },
            "misfit": round(self.look.misfit, 4),
            "held_out": None,
            "calls": self.calls,
            "share": 1.0,
            "expected_db": None if self.expected_db is None else round(self.expected_db, 2),
        }
        if self.test is not None:
            test, comparison = self.test, self.test.comparison
            record["share"] = round(test.leaning.share, 3) if self.is_applied else 1.0
            record["held_out"] = {
                "kind": test.kind,
                "groups": test.groups,
                "of": test.of,
                "prior_gain_db": round(comparison.gain_db(), 2),
                "best_share": round(comparison.weight, 3),
                "deviation": round(min(comparison.deviation, 1e3), 3),
                "adapted": test.is_adapted,
            }
        return record
