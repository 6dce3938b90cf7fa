"""Hypothesis profiles: the ordinary one is bounded for CI, `fuzz` goes on for much longer."""

from hypothesis import HealthCheck, settings

settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", parent=settings.get_profile("ci"), max_examples=20_000)
settings.load_profile("ci")
