"""Tests import their helpers (oracle, strategies, assets, readme) from this directory."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("reasonpack", deadline=None)  # no test is of the time
hypothesis.settings.load_profile("reasonpack")
